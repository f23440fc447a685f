"""Token labels (arXiv 2104.10858): soft targets of the patches of a crop, from a label map.

A label map holds, at each cell of the whole image, the K best classes of a teacher and their
scores. The targets of a crop are made in four steps:

    scatter  scores go to their classes, all others are 0
    align    RoIAlign pools the crop as a whole, and each of its patches
    softmax  over classes
    smooth as in the original: a fraction of the probability goes to all classes

`token_label_targets` never builds a map of all classes: RoIAlign is linear, separable in rows and
columns, and 0 for a class that an image lacks. It aligns only the classes of each image, by one
matrix for rows and one for columns. This takes a third to a half of the time of its plain twin,
`token_label_targets_naive`, which is torchvision's RoIAlign on maps of all classes
(benchmarks/README.md).
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from mmvitlin.ops.precision import without_autocast

WHOLE_IMAGE = (0.0, 0.0, 1.0, 1.0)  # the box of an uncropped image


@torch.no_grad()
def token_label_targets(
    label_maps: Tensor,
    boxes: Tensor,
    num_classes: int,
    size: int | tuple[int, int],
    smoothing: float = 0.1,
    ground_truth: Tensor | None = None,
) -> Tensor:
    """Make the targets of a batch of crops from the label maps of their images.

    Computed in float32, or in float64 for float64 maps.

    Args:
        label_maps: scores and classes of the K best classes per cell, (B, 2, K, H, W); 5 x 18 x 18
            in the original. The classes of a cell differ.
        boxes: crops as (left, top, width, height) in fractions of the image, (B, 4).
        num_classes: C.
        size: grid of patches, n for n x n or (rows, columns).
        smoothing: fraction of the probability that goes to all classes. As in the original, targets
            from a map sum to 1 + smoothing / C, the ground truth to 1.
        ground_truth: classes, (B,), or None.

    Returns:
        (B, C, 1 + 1 + rows * columns): the ground truth, or the second column again if it is None;
        the target of the class token; the targets of the patches, row by row. For a single patch,
        whose target is that of the class token, (B, C, 2).

    Raises:
        ValueError: a wrong shape, or a class that is not below `num_classes`.
    """
    rows, columns = check_inputs(label_maps, boxes, num_classes, size, ground_truth)
    B, _, _, H, W = label_maps.shape
    dtype = torch.promote_types(label_maps.dtype, torch.float32)
    with without_autocast(label_maps):
        images, classes, maps = split_classes(label_maps.to(dtype))
        left, top, width, height = boxes.to(dtype).unbind(1)
        targets = maps.new_zeros(B, num_classes, rows * columns + (rows * columns > 1))
        read = [
            roi_align_matrix(top, height, H, r)[images]
            @ maps
            @ roi_align_matrix(left, width, W, c)[images].mT
            for r, c in dict.fromkeys([(1, 1), (rows, columns)])
        ]
        targets[images, classes] = torch.cat([x.flatten(1) for x in read], 1)
        return smooth(targets.softmax(1), smoothing, ground_truth)


def split_classes(label_maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split label maps into one map per image and class.

    Args:
        label_maps: (B, 2, K, H, W).

    Returns:
        The image and the class of each of the M maps, (M,) int64, and the maps (M, H, W).
    """
    scores, classes = label_maps[:, 0], label_maps[:, 1].long()  # (B, K, H, W)
    B, _, H, W = scores.shape
    image = torch.arange(B, device=scores.device)[:, None, None, None]
    spread = int(classes.max()) + 1
    keys, slots = torch.unique(image * spread + classes, return_inverse=True)
    place = torch.arange(H * W, device=scores.device).view(H, W)
    maps = scores.new_zeros(len(keys), H * W)
    maps[slots, place.expand_as(slots)] = scores
    return keys // spread, keys % spread, maps.view(-1, H, W)


def roi_align_matrix(start: Tensor, extent: Tensor, cells: int, bins: int) -> Tensor:
    """Compute RoIAlign along one axis as a matrix: each bin is a mean of interpolated samples.

    With torchvision's defaults: cells lie at whole numbers, a box is at least one cell long, and a
    bin takes one sample per cell that it covers, rounded up.

    Args:
        start, extent: of the box, (B,), in fractions of the axis.
        cells: of the map along the axis.
        bins: of the result along the axis.

    Returns:
        (B, bins, cells).
    """
    first, last = start * cells - 0.5, (start + extent) * cells - 0.5
    length = (last - first).clamp(min=1) / bins  # (B,), of a bin
    samples = length.ceil()
    n = torch.arange(int(samples.max()), device=start.device)
    bin_start = first[:, None] + torch.arange(bins, device=start.device) * length[:, None]
    at = bin_start[..., None] + ((n + 0.5) * (length / samples)[:, None])[:, None]  # (B, bins, n)
    taken = (n < samples[:, None])[:, None] & (at >= -1) & (at <= cells)
    at = at.clamp(0, cells - 1)[..., None]
    tent = (1 - (at - torch.arange(cells, device=start.device)).abs()).clamp(min=0)
    return (tent * taken[..., None]).sum(2) / samples[:, None, None]


def smooth(targets: Tensor, smoothing: float, ground_truth: Tensor | None) -> Tensor:
    """Smooth targets (B, C, N) in place and prepend the ground truth: (B, C, 1 + N)."""
    C = targets.shape[1]
    off = smoothing / C
    on = 1 - smoothing + off
    targets.mul_(on).add_(off)
    if ground_truth is None:
        first = targets[..., 0]
    else:
        first = F.one_hot(ground_truth.long(), C).to(targets) * (on - off) + off
    return torch.cat((first[..., None], targets), 2)


def check_inputs(
    label_maps: Tensor,
    boxes: Tensor,
    num_classes: int,
    size: int | tuple[int, int],
    ground_truth: Tensor | None,
) -> tuple[int, int]:
    """Return the rows and columns of patches, or raise ValueError for inputs that do not fit."""
    rows, columns = (size, size) if isinstance(size, int) else size
    if rows < 1 or columns < 1:
        raise ValueError(f'size must be at least 1, got {size}')
    if label_maps.ndim != 5 or label_maps.shape[1] != 2 or 0 in label_maps.shape:
        raise ValueError(
            f'label_maps must be (B, 2, K, H, W), scores and classes, got {tuple(label_maps.shape)}'
        )
    B = len(label_maps)
    if boxes.shape != (B, 4):
        raise ValueError(f'boxes must be ({B}, 4), one per map, got {tuple(boxes.shape)}')
    if ground_truth is not None and ground_truth.shape != (B,):
        raise ValueError(
            f'ground_truth must be ({B},), one class per map, got {tuple(ground_truth.shape)}'
        )
    least, most = (int(x) for x in label_maps[:, 1].aminmax())
    if least < 0 or most >= num_classes:
        raise ValueError(
            f'label_maps have classes from {least} to {most}, expected 0 to {num_classes - 1}: '
            'the maps are of a teacher with other classes'
        )
    return rows, columns


@torch.no_grad()
def token_label_targets_naive(
    label_maps: Tensor,
    boxes: Tensor,
    num_classes: int,
    size: int | tuple[int, int],
    smoothing: float = 0.1,
    ground_truth: Tensor | None = None,
) -> Tensor:
    """Make the same targets by torchvision's RoIAlign on maps of all classes: the plain twin."""
    rows, columns = check_inputs(label_maps, boxes, num_classes, size, ground_truth)
    scores, classes = label_maps[:, 0], label_maps[:, 1].long()
    B, _, H, W = scores.shape
    maps = scores.new_zeros(B, num_classes, H, W).scatter(1, classes, scores)
    left, top, width, height = boxes.to(scores).unbind(1)
    corners = torch.stack([left * W, top * H, (left + width) * W, (top + height) * H], 1) - 0.5
    rois = torch.cat([torch.arange(B).to(corners)[:, None], corners], 1)
    grids = dict.fromkeys([(1, 1), (rows, columns)])
    targets = torch.cat([roi_align(maps, rois, grid).flatten(2) for grid in grids], 2)
    return smooth(targets.softmax(1), smoothing, ground_truth)
