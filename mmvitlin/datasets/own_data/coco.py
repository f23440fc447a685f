"""Images for detection: a COCO file of boxes, with or without masks."""

import json
from collections import Counter
from pathlib import Path

from mmvitlin.datasets.own_data.summary import (
    DataSummary,
    check_splits,
    draw_split,
    existing_folder,
    notes_on_counts,
    read_sizes,
    shorten,
)
from mmvitlin.errors import ConfigError

KEYS = ('images', 'annotations', 'categories')


def inspect_coco(
    data: str | Path,
    name: str,
    images: str | Path | None = None,
    val: str | Path | None = None,
    seed: int = 0,
) -> DataSummary:
    """Inspect a COCO file, or two, and the images that it lists.

    Args:
        data: the file to train on; without `val` a fifth of its images is held out.
        name: beginning of the names of the files to write.
        images: the folder that the file names are relative to; by default the file's own folder.
        val: the file to validate on.
        seed: seed of the split.

    Returns:
        The summary. Its files are the given ones where they can be used as they are. `details` has
        `with_mask`: whether every object has a mask.

    Raises:
        ConfigError: a file is not in COCO's form, no image can be read, no object is left, or two
            classes have one name.
    """
    root = existing_folder(images if images is not None else Path(data).expanduser().parent)
    contents = {'train': read_coco(data)}
    if val is not None:
        contents['val'] = read_coco(val)
    names = _class_names(contents)
    broken: dict[str, str] = {}
    notes: list[str] = []
    sizes: list = []
    changed = val is None
    for split, content in contents.items():
        left_out = _check_images(content, root, sizes, broken, notes)
        dropped, completed = _clean_objects(content)
        if dropped:
            notes.append(
                f'{dropped} objects of {split} have no area inside their image, an unknown class '
                'or no image that can be read, and are left out'
            )
        changed = changed or bool(left_out or dropped or completed)
    given = {'train': Path(data), 'val': Path(val) if val is not None else None}
    if val is None:
        contents = _split_content(contents['train'], seed)
    check_splits(contents['train']['images'], contents['val']['images'], root, broken)
    counts = {
        split: Counter(names[a['category_id']] for a in content['annotations'])
        for split, content in contents.items()
    }
    # mmdetection's labels follow the order of the categories in the file.
    classes = tuple(name for name in names.values() if any(counts[split][name] for split in counts))
    if not classes:
        raise ConfigError(f'{data} has no object with an area and a class; nothing can be learned')
    unused = [name for name in names.values() if name not in classes]
    if unused:
        notes.append(f'no object is of the class {shorten(unused)}: left out')
    objects = [a for content in contents.values() for a in content['annotations']]
    with_mask = sum(bool(a.get('segmentation')) for a in objects)
    if 0 < with_mask < len(objects):
        notes.append(f'{with_mask} of {len(objects)} objects have a mask: boxes alone are used')
    if changed:
        files = {split: Path(f'{name}_{split}.json') for split in contents}
        new_files = {str(files[split]): json.dumps(content) for split, content in contents.items()}
    else:
        files = {split: path.expanduser().resolve() for split, path in given.items()}
        new_files = {}
    return DataSummary(
        root=root,
        classes=classes,
        train=len(contents['train']['images']),
        val=len(contents['val']['images']),
        counts=counts,
        example=root / contents['val']['images'][0]['file_name'],
        sizes=tuple(sizes),
        files=files,
        new_files=new_files,
        broken=broken,
        notes=(*notes, *notes_on_counts(classes, counts)),
        details=dict(with_mask=with_mask == len(objects)),
    )


def read_coco(path: str | Path) -> dict:
    """Read a COCO file.

    Raises:
        ConfigError: the file does not exist, is not JSON, or lacks entries that mmdetection reads.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ConfigError(f'there is no file {path}; check the path, from {Path.cwd()}')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ConfigError(f'{path} is not JSON: {error}') from error
    missing = [key for key in KEYS if not isinstance(content, dict) or key not in content]
    if missing:
        raise ConfigError(
            f'{path} lacks {", ".join(missing)}: a COCO file of objects has {", ".join(KEYS)}'
        )
    for key, wanted in (
        ('images', ('id', 'file_name', 'width', 'height')),
        ('annotations', ('id', 'image_id', 'category_id', 'bbox')),
        ('categories', ('id', 'name')),
    ):
        for entry in content[key]:
            lacking = [name for name in wanted if name not in entry]
            if lacking:
                raise ConfigError(
                    f'{path}: an entry of {key} lacks {", ".join(lacking)}: {str(entry)[:120]}'
                )
    return content


def _class_names(contents: dict[str, dict]) -> dict[int, str]:
    """Return id -> name; the files of both splits must agree."""
    tables = {
        split: {c['id']: c['name'] for c in content['categories']}
        for split, content in contents.items()
    }
    names = tables['train']
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:
        raise ConfigError(f'several categories are called {shorten(twice)}; rename all but one')
    if 'val' in tables and tables['val'] != names:
        raise ConfigError(
            f'the two files disagree about their categories: {names} to train on and '
            f'{tables["val"]} to validate on'
        )
    return names


def _check_images(
    content: dict, root: Path, sizes: list, broken: dict[str, str], notes: list[str]
) -> int:
    """Remove images that cannot be read from `content`; return their number."""
    paths = {image['id']: root / image['file_name'] for image in content['images']}
    found, unreadable = read_sizes(list(paths.values()))
    if not found:
        first = next(iter(unreadable), 'it lists none')
        raise ConfigError(
            f'no image of the COCO file can be read below {root}, such as {first}; --images FOLDER '
            'says what its file names are relative to'
        )
    broken |= unreadable
    sizes += found.values()
    kept = [image for image in content['images'] if paths[image['id']] in found]
    wrong = [
        image['file_name']
        for image in kept
        if found[paths[image['id']]] != (image['width'], image['height'])
    ]
    if wrong:
        notes.append(f'{len(wrong)} images have another size than the file says: {shorten(wrong)}')
    removed = len(content['images']) - len(kept)
    content['images'] = kept
    return removed


def _clean_objects(content: dict) -> tuple[int, int]:
    """Remove objects that mmdetection would skip from `content`, and complete the others.

    mmdetection and pycocotools read an area and `iscrowd`, which some programs leave out.

    Returns:
        Numbers of removed and of completed objects.
    """
    images = {image['id']: image for image in content['images']}
    classes = {category['id'] for category in content['categories']}
    kept, completed = [], 0
    for entry in content['annotations']:
        image = images.get(entry['image_id'])
        if image is None or entry['category_id'] not in classes:
            continue
        x, y, width, height = entry['bbox']
        inner_width = min(x + width, image['width']) - max(x, 0)
        inner_height = min(y + height, image['height']) - max(y, 0)
        if min(width, height) < 1 or min(inner_width, inner_height) <= 0:
            continue
        whole = {**entry, 'iscrowd': entry.get('iscrowd', 0)}
        if entry.get('area', 0) <= 0:
            whole['area'] = width * height
        completed += whole != entry
        kept.append(whole)
    dropped = len(content['annotations']) - len(kept)
    content['annotations'] = kept
    return dropped, completed


def _split_content(content: dict, seed: int) -> dict[str, dict]:
    """Hold out a fifth of the images with their objects."""
    train, val = draw_split([content['images']], seed)
    parts = {}
    for split, images in (('train', train), ('val', val)):
        ids = {image['id'] for image in images}
        objects = [a for a in content['annotations'] if a['image_id'] in ids]
        parts[split] = {**content, 'images': images, 'annotations': objects}
    return parts
