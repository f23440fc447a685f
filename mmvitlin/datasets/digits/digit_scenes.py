"""Scenes of handwritten digits: detection and segmentation without a download."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset

from mmvitlin.datasets.digits.digits import Digits
from mmvitlin.datasets.digits.scene_cache import cached_scene
from mmvitlin.datasets.digits.scene_painting import DIGIT_SIZE, Scene, paint_scene
from mmvitlin.registry import DATASETS, register

SPLITS = ('train', 'val')  # the index of a split is part of the seed of its scenes
DIGITS = tuple('0123456789')
COLOURS = [
    *((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189)),
    *((140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207)),
]
METAINFO = {
    'detection': dict(classes=DIGITS, palette=COLOURS),
    'segmentation': dict(classes=('background', *DIGITS), palette=[(0, 0, 0), *COLOURS]),
}


@register(DATASETS)
class DigitScenes(BaseDataset):
    """Handwritten digits of random size, position and contrast on textured canvases.

    The scenes of 'train' show scans of `Digits('train')` only, and those of 'val' scans of
    `Digits('val')` only. The bytes of a scene are the same on every machine.

    A sample has `img`, (S, S, 3) uint8 in BGR as the hosts read images, and the targets of its
    task:

    - 'detection', ten classes: `instances` in the form that mmdetection's LoadAnnotations reads,
      with boxes around the visible ink, and its masks as run lengths. With 'instances' in the
      `meta_keys` of PackDetInputs, CocoMetric needs no annotation file.
    - 'segmentation', the background and ten classes: `gt_seg_map`, (S, S) uint8, for IoUMetric.

    Samples hold their images and segmentation maps, so a pipeline needs no LoadImageFromFile, and
    for segmentation no LoadAnnotations. With a `cache_dir`, LoadImageFromFile reads the same image
    from there. The hosts' inferencers need pipelines that start with it.

    Args:
        split: 'train' or 'val'.
        task: 'detection' or 'segmentation'; the scenes are the same for both.
        num_scenes: number of scenes. The first scenes do not depend on it.
        image_size: height and width S of a scene in pixels.
        seed: seed of the scenes.
        cache_dir: folder of PNG files of the scenes, which any number of processes may share;
            damaged files are written again. With None, a scene is painted whenever it is read,
            which takes about two milliseconds. The hosts' visualisation hooks need the files, since
            they read `img_path`.
        pipeline: transforms, as for any other data set.
        test_mode, lazy_init: as in mmengine.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: `split` or `task` is unknown, `num_scenes` is below 1, or `image_size` is
            smaller than the largest digit.
        OSError: `cache_dir` cannot be written.
    """

    # Read by mmsegmentation's confusion_matrix.py, with METAINFO.
    ignore_index = 255
    reduce_zero_label = False

    def __init__(
        self,
        split: str,
        task: str,
        num_scenes: int,
        image_size: int = 128,
        seed: int = 0,
        cache_dir: str | None = None,
        pipeline: Sequence[dict] = (),
        test_mode: bool = False,
        lazy_init: bool = False,
    ):
        if split not in SPLITS:
            raise ValueError(f'split must be one of {SPLITS}, got {split!r}')
        if task not in METAINFO:
            raise ValueError(f'task must be one of {tuple(METAINFO)}, got {task!r}')
        if num_scenes < 1:
            raise ValueError(f'num_scenes must be at least 1, got {num_scenes}')
        if image_size < DIGIT_SIZE[1]:
            raise ValueError(
                f'image_size must be at least {DIGIT_SIZE[1]}, the size of the largest digit, '
                f'got {image_size}'
            )
        self.split = split
        self.task = task
        self.num_scenes = num_scenes
        self.image_size = image_size
        self.seed = seed
        self.folder = Path(cache_dir or '', f'{split}_{image_size}px_seed{seed}')
        self.is_cached = cache_dir is not None
        self.METAINFO = METAINFO[task]
        super().__init__(
            metainfo=self.METAINFO,
            pipeline=list(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
        )

    def load_data_list(self) -> list[dict]:
        """Read the digits and list the scenes, which are painted when they are read."""
        digits = list(Digits(self.split))
        self._scans = np.stack([digit['img'][..., 0] for digit in digits])
        self._labels = np.array([digit['gt_label'] for digit in digits])
        shape = (self.image_size, self.image_size)
        return [
            dict(
                img_id=index,
                img_path=str(self.folder / f'{index:06d}.png'),
                img_shape=shape,
                ori_shape=shape,
                height=self.image_size,
                width=self.image_size,
            )
            for index in range(self.num_scenes)
        ]

    def get_data_info(self, idx: int) -> dict:
        """Return scene `idx` in the form that enters the pipeline."""
        info = super().get_data_info(idx)
        scene = self._scene(info)
        info.update(img=np.ascontiguousarray(scene.image[..., ::-1]))
        if self.task == 'detection':
            info.update(instances=instances_of(scene))
        else:
            info.update(gt_seg_map=semantic_map_of(scene))
            info.update(seg_fields=['gt_seg_map'], reduce_zero_label=self.reduce_zero_label)
        return info

    def _scene(self, info: dict) -> Scene:
        def paint() -> Scene:
            seed = (SPLITS.index(self.split), self.seed, info['img_id'])
            return paint_scene(self._scans, self._labels, self.image_size, seed)

        return cached_scene(Path(info['img_path']), paint) if self.is_cached else paint()


def instances_of(scene: Scene) -> list[dict]:
    """Convert the visible digits of a scene to mmdetection's form of instances."""
    instances = []
    for value in filter(None, np.unique(scene.instances).tolist()):
        mask = scene.instances == value
        columns, rows = (np.flatnonzero(mask.any(axis)).tolist() for axis in (0, 1))
        instances.append(
            dict(
                bbox=[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1],
                bbox_label=(value - 1) % 10,
                mask=run_lengths(mask),
                ignore_flag=0,
            )
        )
    return instances


def semantic_map_of(scene: Scene) -> np.ndarray:
    """Return the class of each pixel, (S, S) uint8: 0 on the background, 1 + label on digits."""
    return np.where(scene.instances > 0, (scene.instances - 1) % 10 + 1, 0).astype(np.uint8)


def run_lengths(mask: np.ndarray) -> dict:
    """Encode a mask (H, W) as COCO's uncompressed run lengths: column by column, zeros first."""
    pixels = np.concatenate([[False], mask.ravel(order='F')])
    changes = np.flatnonzero(pixels[1:] != pixels[:-1])
    counts = np.diff(changes, prepend=0, append=mask.size)
    return dict(size=list(mask.shape), counts=counts.tolist())


def decode_run_lengths(code: dict) -> np.ndarray:
    """Decode COCO's run lengths, compressed or not, to a mask (H, W); inverse of `run_lengths`."""
    from pycocotools import mask as coco_mask  # installed with mmdetection

    if isinstance(code['counts'], list):
        code = coco_mask.frPyObjects(code, *code['size'])
    return coco_mask.decode(code).astype(bool)
