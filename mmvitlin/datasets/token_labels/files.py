"""Files of label maps, in the form that token labeling publishes (arXiv 2104.10858).

There is one .pt file per image. It holds a tensor (2, K, H, W) in half precision: the scores
(before softmax) and the numbers of the K best classes at each of H x W places of the whole image.
The published files are 2 x 5 x 18 x 18. They are in the same folders as the images: the labels of
n01440764/n01440764_10026.JPEG are in n01440764/n01440764_10026.pt.
"""

import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import torch
from mmengine.dataset import BaseDataset
from mmengine.fileio import get, join_path
from torch import Tensor

from mmvitlin.checkpoints.atomic_write import atomic_write
from mmvitlin.checkpoints.safe_load import load_from_bytes
from mmvitlin.errors import CheckpointError

MOST_HALF_CLASSES = 2048  # half precision holds every whole number up to this one
MOST_NAMED = 10  # files that a message names


class TokenLabelError(ValueError):
    """Label maps that are missing, damaged or of another data set; the message names the file."""


def name_some(files: Sequence[str]) -> str:
    """Join the first files and the number of the others, for a message."""
    rest = f' and {len(files) - MOST_NAMED} more' if len(files) > MOST_NAMED else ''
    return ', '.join(files[:MOST_NAMED]) + rest


def label_names(dataset: BaseDataset) -> list[str]:
    """Return the file of each sample of `dataset`, relative to the folder of label maps.

    The name is `sample_name` if a sample has it, else `img_path` relative to the folder of images.
    For an image outside of that folder it is the last folder and the name of the file.

    Raises:
        TokenLabelError: a sample has neither, or two samples have the same name.
    """
    prefix = getattr(dataset, 'data_prefix', None) or {}
    folder = prefix.get('img_path') or prefix.get('img') or ''
    names: list[str] = []
    seen: dict[str, int] = {}
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        name = info.get('sample_name') or info.get('img_path')
        if name is None:
            raise TokenLabelError(
                f'samples of {type(dataset).__name__} have neither img_path nor sample_name, by '
                'one of which label maps are found'
            )
        if 'sample_name' not in info:
            name = _below(name, folder)
        name = str(PurePosixPath(name).with_suffix('.pt'))
        if seen.setdefault(name, index) != index:
            raise TokenLabelError(
                f'samples {seen[name]} and {index} of {type(dataset).__name__} would share the '
                f'label map {name}: give each a sample_name of its own'
            )
        names.append(name)
    return names


def _below(path: str, folder: str) -> str:
    """Return `path` relative to `folder`, or its last two parts if it is outside of `folder`."""
    folder = folder.rstrip('/')
    if folder and path.startswith(f'{folder}/'):
        return path.removeprefix(f'{folder}/')
    return '/'.join(path.split('/')[-2:])


def read_label_map(
    root: str,
    name: str,
    num_classes: int | None = None,
    shape: tuple[int, int, int] | None = None,
    backend_args: dict | None = None,
) -> Tensor:
    """Read a label map, float32 (2, K, H, W), without running code from the file.

    Args:
        root, name: the folder of label maps, and the file in it.
        num_classes: number of classes, if known.
        shape: the expected (K, H, W), if known.
        backend_args: MMEngine's file backend; by default it is chosen by `root`.

    Raises:
        TokenLabelError: the file is missing, damaged or not a label map.
    """
    path = join_path(root, name, backend_args=backend_args)
    try:
        content = get(path, backend_args=backend_args)
    except FileNotFoundError as error:
        raise TokenLabelError(f'there is no label map {path}') from error
    try:
        labels = load_from_bytes(content, path, kind='label map')
    except CheckpointError as error:
        raise TokenLabelError(str(error)) from error
    problem = _problem_of(labels, num_classes, shape)
    if problem:
        raise TokenLabelError(f'{path} is not a label map: {problem}')
    return labels.float()


def _problem_of(
    labels: object, num_classes: int | None, shape: tuple[int, int, int] | None
) -> str | None:
    """Describe why the content of a file is not a label map; None if it is one."""
    if not isinstance(labels, Tensor):
        return f'it holds a {type(labels).__name__}, expected a tensor'
    if labels.is_complex():
        return f'it holds {labels.dtype} numbers, expected real ones'
    if labels.ndim != 4 or len(labels) != 2 or labels.numel() == 0:
        return f'its shape is {tuple(labels.shape)}, expected (2, K, H, W), scores and classes'
    if shape is not None and labels.shape[1:] != shape:
        return f'its shape is {tuple(labels.shape)}, and that of the others is {(2, *shape)}'
    labels = labels.float()
    if not labels.isfinite().all():
        return 'it holds numbers that are not finite'
    classes = labels[1]
    least, most = (x.item() for x in classes.aminmax())
    if least < 0 or (num_classes is not None and most >= num_classes):
        upper = '' if num_classes is None else f' to {num_classes - 1}'
        return f'its classes run from {least:g} to {most:g}, expected from 0{upper}'
    if (classes != classes.round()).any():
        return 'its classes are not whole numbers'
    if (classes.sort(0).values.diff(dim=0) == 0).any():
        return 'it has a class twice in one place'
    return None


def write_label_map(path: Path, scores: Tensor, classes: Tensor, num_classes: int) -> None:
    """Write scores and classes, (K, H, W) each, atomically.

    The dtype is half precision, as published, or float32 if that cannot represent every class.
    """
    dtype = torch.float16 if num_classes <= MOST_HALF_CLASSES else torch.float32
    buffer = io.BytesIO()
    torch.save(torch.stack((scores.to(dtype), classes.to(dtype))).cpu().contiguous(), buffer)
    # Without sync: a later run reads every file, and writes damaged ones again.
    with atomic_write(path, sync=False) as partial:
        partial.write_bytes(buffer.getvalue())
