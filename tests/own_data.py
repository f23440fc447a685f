"""Real digits written to disk as somebody's own data: class folders, a COCO file, masks."""

import json
from collections import Counter
from pathlib import Path

from PIL import Image

from mmvitlin.datasets import Digits, DigitScenes

CLASSES = ('background', *'0123456789')


def write_class_folders(root: Path, classes: int = 5, count: int = 200) -> Path:
    """Write `count` digits into one folder per class."""
    written = Counter()
    for digit in Digits('train'):
        label = digit['gt_label']
        if label < classes and written[label] < count // classes:
            written[label] += 1
            folder = root / f'digit{label}'
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(digit['img']).save(folder / f'{label}_{written[label]:03}.png')
    return root


def write_coco(root: Path, count: int, with_masks: bool = True) -> Path:
    """Write scenes and their COCO file; return the file."""
    images, objects = [], []
    (root / 'images').mkdir(parents=True)
    for scene in DigitScenes('train', 'detection', count):
        number = scene['img_id'] + 1
        name = f'images/{number:03}.png'
        Image.fromarray(scene['img'][..., ::-1]).save(root / name)
        images.append(dict(id=number, file_name=name, width=128, height=128))
        for instance in scene['instances']:
            left, top, right, bottom = instance['bbox']
            mask = dict(segmentation=instance['mask']) if with_masks else {}
            objects.append(
                dict(
                    id=len(objects) + 1,
                    image_id=number,
                    category_id=10 * (instance['bbox_label'] + 1),  # not 0, 1, 2: as files have it
                    bbox=[left, top, right - left, bottom - top],
                    **mask,
                )
            )
    categories = [dict(id=10 * (label + 1), name=str(label)) for label in range(10)]
    content = dict(images=images, annotations=objects, categories=categories)
    (root / 'scenes.json').write_text(json.dumps(content))
    return root / 'scenes.json'


def write_masks(root: Path, count: int) -> tuple[Path, Path]:
    """Write scenes and maps of labels; return the two folders."""
    images, masks = root / 'images', root / 'masks'
    images.mkdir(parents=True)
    masks.mkdir()
    for scene in DigitScenes('train', 'segmentation', count):
        name = f'{scene["img_id"]:03}.png'
        Image.fromarray(scene['img'][..., ::-1]).save(images / name)
        Image.fromarray(scene['gt_seg_map']).save(masks / name)
    return images, masks
