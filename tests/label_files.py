"""Label maps for tests: drawn, and written as those that are published."""

from pathlib import Path

import torch
from torch import Tensor

from mmvitlin.datasets.token_labels.files import label_names, write_label_map


def draw_label_map(seed: int, classes: int = 10, k: int = 5, size: int = 18) -> Tensor:
    """A label map (2, K, size, size) of half precision numbers."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(k, size, size, generator=generator).sort(0, descending=True).values
    order = torch.rand(classes, size, size, generator=generator).argsort(0)[:k]
    return torch.stack((scores.half().float(), order.float()))


def write_label_maps(root: Path, dataset, classes: int = 10, **options) -> list[Path]:
    """A label map for each sample of `dataset`, drawn by the sample's number."""
    paths = [root / name for name in label_names(dataset)]
    for number, path in enumerate(paths):
        scores, order = draw_label_map(number, classes, **options)
        write_label_map(path, scores, order, classes)
    return paths
