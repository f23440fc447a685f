"""Simple feature pyramid for plain vision transformers (arXiv 2203.16527)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmvitlin.checks import positive_int
from mmvitlin.layers.map_norm import build_map_norm
from mmvitlin.registry import MODELS, register


def _times_four(channels: int, norm_cfg: dict | None) -> list[nn.Module]:
    return [
        nn.ConvTranspose2d(channels, channels // 2, 2, stride=2),
        build_map_norm(norm_cfg, channels // 2),
        nn.GELU(),
        nn.ConvTranspose2d(channels // 2, channels // 4, 2, stride=2),
    ]


def _times_two(channels: int, norm_cfg: dict | None) -> list[nn.Module]:
    return [nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)]


def _unchanged(channels: int, norm_cfg: dict | None) -> list[nn.Module]:
    return []


def _half(channels: int, norm_cfg: dict | None) -> list[nn.Module]:
    return [HalvingMaxPool()]


class HalvingMaxPool(nn.Module):
    """Max pooling of 2 x 2: a map (B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2)).

    By slices, since torch.export writes a program with `max_pool2d` for either even or odd sizes.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 1, 0, 1), value=-torch.inf)
        x = torch.maximum(x[:, :, :-1:2], x[:, :, 1::2])
        return torch.maximum(x[..., :-1:2], x[..., 1::2])


LAYER_NORM = dict(type='LN')
# Scale factor -> layers that resample a map by it, and the factor by which they divide channels.
RESAMPLERS = {4: (_times_four, 4), 2: (_times_two, 2), 1: (_unchanged, 1), 0.5: (_half, 1)}


@register(MODELS)
class SimpleFeaturePyramid(BaseModule):
    """The simple feature pyramid of ViTDet (arXiv 2203.16527), for detectors and segmentors.

    A map of stride s becomes maps at strides s/4, s/2, s and 2s, each by layers of its own:
    deconvolutions or max pooling, then a 1 x 1 and a 3 x 3 convolution, each followed by a norm.
    With one map per level instead, such as several `out_indices` of a backbone, the first becomes
    the level at s/4, and so on. Pooling rounds up: H rows become ceil(H / 2).

    Args:
        in_channels: channels of the map, `out_channels` of a backbone; a sequence for one map per
            level.
        out_channels: channels of every level.
        scale_factors: scale factors of the levels, finest first, from 4, 2, 1 and 0.5; (2, 1, 0.5)
            is for a detector that starts at s/2.
        num_outs: levels to return; those beyond `scale_factors` are the last one subsampled by 2,
            as in an FPN. None for one per scale factor.
        norm_cfg: 'LN' (over channels), 'BN', 'SyncBN', 'GN' with its num_groups, with the options
            of each; None for no norm, and a bias in each convolution instead.
        init_cfg: as in MMEngine; by default torch's initialisation, as in the paper's code.

    Forward:
        a map (B, C, H, W), or a sequence of one or of `len(scale_factors)` of these -> a tuple of
        `num_outs` maps (B, out_channels, H_i, W_i), contiguous for mmcv's RoIAlign.

    Raises:
        ValueError: an argument out of range, or maps of another number or shape.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int = 256,
        scale_factors: Sequence[float] = (4, 2, 1, 0.5),
        num_outs: int | None = None,
        norm_cfg: dict | None = LAYER_NORM,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        factors = tuple(scale_factors) if isinstance(scale_factors, Sequence) else ()
        unknown = [factor for factor in factors if factor not in RESAMPLERS]
        if not factors or unknown or list(factors) != sorted(set(factors), reverse=True):
            raise ValueError(
                f'scale_factors must be decreasing and some of {tuple(RESAMPLERS)}, got '
                f'{scale_factors}'
            )
        widths = (in_channels,) if isinstance(in_channels, int) else tuple(in_channels)
        if len(widths) == 1:
            widths *= len(factors)
        if len(widths) != len(factors):
            raise ValueError(
                'in_channels must be one number, or one for each of the '
                f'{len(factors)} scale_factors {factors}, got {in_channels}'
            )
        for factor, width in zip(factors, widths):
            least = RESAMPLERS[factor][1]
            if not isinstance(width, int) or width < least or width % least:
                raise ValueError(
                    f'in_channels must be positive multiples of {least} where the scale factor is '
                    f'{factor}, got {in_channels}'
                )
        positive_int('out_channels', out_channels)
        num_outs = len(factors) if num_outs is None else num_outs
        if not isinstance(num_outs, int) or num_outs < len(factors):
            raise ValueError(
                f'num_outs must be at least {len(factors)}, one for each of scale_factors, got '
                f'{num_outs}; to return fewer levels, give fewer scale_factors'
            )
        self.in_channels, self.out_channels = widths, out_channels
        self.scale_factors, self.num_outs = factors, num_outs
        self.levels = nn.ModuleList()
        for factor, width in zip(factors, widths):
            resample, divisor = RESAMPLERS[factor]
            self.levels.append(
                nn.Sequential(
                    *resample(width, norm_cfg),
                    nn.Conv2d(width // divisor, out_channels, 1, bias=norm_cfg is None),
                    build_map_norm(norm_cfg, out_channels),
                    nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=norm_cfg is None),
                    build_map_norm(norm_cfg, out_channels),
                )
            )

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        maps = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
        shapes = [tuple(x.shape) for x in maps]
        if len(maps) not in (1, len(self.levels)) or any(len(shape) != 4 for shape in shapes):
            raise ValueError(
                f'{type(self).__name__} takes one map (B, C, H, W), or one for each of '
                f'{len(self.levels)} levels, got {len(maps)} of the shapes {shapes}; a plain '
                "vision transformer returns maps with out_type='featmap', one for each of its "
                'out_indices'
            )
        if len(maps) == 1:
            maps *= len(self.levels)
        if tuple(x.shape[1] for x in maps) != self.in_channels:
            raise ValueError(
                f'{type(self).__name__} with in_channels {self.in_channels}, one per level, got '
                f'maps of the shapes {shapes}'
            )
        outs = [level(x).contiguous() for level, x in zip(self.levels, maps)]
        while len(outs) < self.num_outs:
            outs.append(outs[-1][:, :, ::2, ::2].contiguous())
        return tuple(outs)
