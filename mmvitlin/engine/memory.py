"""Estimate of a training's memory before it begins."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from torch import Tensor, nn

from mmvitlin.compat import storage_of
from mmvitlin.engine.cost import build_on_meta, empty_frozen_weights
from mmvitlin.engine.hosts import image_shape

GIB = 2**30
# Copies of every parameter: itself, its gradient and two moments of Adam.
COPIES = 4
AVERAGES = ('AverageHook', 'EMAHook')
SHARE = 0.8  # largest share of the free memory for a proposed batch


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory of a training, in bytes.

    Attributes:
        weights: parameters, gradients, moments of Adam and an average, if any.
        activations: tensors that the backbone keeps for the backward pass of one batch.
        batch_size: number of images in that batch.
        shape: (H, W) of its images.
    """

    weights: int
    activations: int
    batch_size: int
    shape: tuple[int, int]

    @property
    def total(self) -> int:
        """Sum of both."""
        return self.weights + self.activations

    def __str__(self) -> str:
        height, width = self.shape
        return (
            f'about {size(self.total)}: {size(self.weights)} for weights, gradients and optimizer, '
            f'{size(self.activations)} for the backbone on {self.batch_size} images of '
            f'{height} x {width}'
        )


def size(count: int) -> str:
    """Write a number of bytes in MiB or GiB."""
    return f'{count / GIB:.1f} GiB' if count >= GIB else f'{count / 2**20:.0f} MiB'


def estimate_memory(cfg: Config) -> MemoryEstimate:
    """Estimate the memory of a config's training in float32, without allocating it.

    The model is built on the meta device, and the tensors that autograd keeps in the backbone are
    counted, each storage once. Necks, heads, data and the allocator's reserve come on top.
    """
    batch_size, shape = cfg.train_dataloader.batch_size, image_shape(cfg)
    with torch.device('meta'):
        model = revert_sync_batchnorm(build_on_meta(cfg))
        empty_frozen_weights(model)
        two, three = (kept_bytes(model.backbone, torch.empty(n, 3, *shape)) for n in (2, 3))
    hooks = cfg.get('custom_hooks') or []
    copies = COPIES + any(hook['type'].rpartition('.')[2] in AVERAGES for hook in hooks)
    trained = sum(p.numel() * p.element_size() for p in model.parameters())
    activations = two + (three - two) * (batch_size - 2)
    return MemoryEstimate(copies * trained, activations, batch_size, shape)


def kept_bytes(model: nn.Module, images: Tensor) -> int:
    """Count the bytes that autograd keeps in a forward pass, without parameters and buffers."""
    own = {storage_of(tensor) for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}  # one tensor of each storage, held so that its number stays taken

    def keep(tensor: Tensor) -> Tensor:
        if storage_of(tensor) not in own:
            kept[storage_of(tensor)] = tensor
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(images)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def free_memory() -> tuple[int, str]:
    """Return the free bytes of the training device, and its name."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0], 'the GPU'
    meminfo = Path('/proc/meminfo')
    if meminfo.is_file():  # Linux: caches that can be dropped are free as well
        entries = dict(line.split(':', 1) for line in meminfo.read_text().splitlines())
        return int(entries['MemAvailable'].split()[0]) * 1024, 'this machine'
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'), 'this machine'


def describe_memory(cfg: Config) -> tuple[str, bool]:
    """Describe the memory of a training and the free memory.

    Returns:
        A line for the log, and whether the training needs more memory than is free; the line then
        names settings that fit.
    """
    if 'strategy' in cfg:
        return f'Memory: not estimated with {cfg.strategy.type}', False
    try:
        estimate = estimate_memory(cfg)
    except Exception as error:  # a host's model may need values
        return f'Memory: not known before the run ({type(error).__name__}: {error})', False
    free, where = free_memory()
    line = f'Memory: {estimate}; {where} has {size(free)} free'
    if estimate.total <= free:
        return line, False
    fitting = fitting_batch(estimate, free)
    counts = cfg.optim_wrapper.get('accumulative_counts', 1) * estimate.batch_size // fitting
    return (
        f'{line}. Take smaller batches and accumulate them, train_dataloader.batch_size={fitting} '
        f'optim_wrapper.accumulative_counts={counts}, or model.backbone.with_cp=True'
    ), True


def fitting_batch(estimate: MemoryEstimate, free: int) -> int:
    """Return the largest half, quarter and so on of a batch that fits into `free` bytes."""
    batch = estimate.batch_size
    each = estimate.activations / batch
    while batch > 1 and estimate.weights + each * batch > SHARE * free:
        batch //= 2
    return batch
