"""L2ViT: linear global attention that concentrates locally (arXiv 2501.16182).

Inside the network a map is (B, H, W, C), which linear layers and norms read as tokens and
convolutions as a channels_last map, without copies. Only the outputs are (B, C, H, W).
"""

from collections.abc import Sequence
from itertools import count, pairwise
from typing import Any

import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from mmvitlin.checks import in_range, positive_int
from mmvitlin.layers.conditional_position_encoding import ConditionalPositionEncoding
from mmvitlin.layers.gradient_checkpointing import run_block
from mmvitlin.layers.linear_attention import LinearAttention
from mmvitlin.layers.local_concentration import LocalConcentration
from mmvitlin.layers.map_norm import LayerNorm2d
from mmvitlin.layers.mlp import MLP
from mmvitlin.layers.window_attention import WindowAttention
from mmvitlin.models.arch import (
    divided_by_heads,
    frozen_up_to,
    positive_ints_per_stage,
    resolve_arch,
    resolve_out_indices,
)
from mmvitlin.models.backbones.base import Backbone
from mmvitlin.ops.windows import pad_to_multiple
from mmvitlin.registry import MODELS, register

STEM_STRIDE = 4
NORM_EPS = 1e-5  # of LayerNorm2d, as in torch's LayerNorm


class Stem(nn.Module):
    """Two 3 x 3 convolutions of stride 2: (B, in_channels, H, W) -> (B, H/4, W/4, C)."""

    def __init__(self, in_channels: int, embed_dims: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, embed_dims // 2, kernel_size=3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(embed_dims // 2)
        self.conv2 = nn.Conv2d(embed_dims // 2, embed_dims, kernel_size=3, stride=2, padding=1)
        self.bn2 = nn.BatchNorm2d(embed_dims)
        self.norm = nn.LayerNorm(embed_dims)

    def forward(self, images: Tensor) -> Tensor:
        x = pad_to_multiple(images.permute(0, 2, 3, 1).contiguous(), STEM_STRIDE).permute(
            0, 3, 1, 2
        )
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return self.norm(x.permute(0, 2, 3, 1))


class Downsample(nn.Module):
    """Downsampling between stages: (B, H, W, C_in) -> (B, H/2, W/2, C_out)."""

    def __init__(self, in_dims: int, out_dims: int):
        super().__init__()
        self.norm = nn.LayerNorm(in_dims)
        self.conv = nn.Conv2d(in_dims, out_dims, kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to_multiple(self.norm(x), 2)
        return self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class LocalWindowBlock(nn.Module):
    """Softmax attention in windows, then an MLP: (B, H, W, C) -> (B, H, W, C)."""

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        window_size: int,
        mlp_ratio: float,
        drop_path_rate: float,
    ):
        super().__init__()
        self.cpe1 = ConditionalPositionEncoding(embed_dims)
        self.norm1 = nn.LayerNorm(embed_dims)
        self.attn = WindowAttention(embed_dims, num_heads, window_size)
        self.cpe2 = ConditionalPositionEncoding(embed_dims)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.mlp = MLP(embed_dims, int(embed_dims * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cpe1(x)
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = self.cpe2(x)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class LinearGlobalBlock(nn.Module):
    """Linear attention, local concentration, then an MLP: (B, H, W, C) -> (B, H, W, C)."""

    def __init__(self, embed_dims: int, num_heads: int, mlp_ratio: float, drop_path_rate: float):
        super().__init__()
        self.cpe = ConditionalPositionEncoding(embed_dims)
        self.norm1 = nn.LayerNorm(embed_dims)
        self.attn = LinearAttention(embed_dims, num_heads)
        self.norm3 = nn.LayerNorm(embed_dims)
        self.concentration = LocalConcentration(embed_dims)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.mlp = MLP(embed_dims, int(embed_dims * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cpe(x)
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = x + self.drop_path(self.concentration(self.norm3(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


@register(MODELS)
class L2ViT(Backbone):
    """L2ViT, `The Linear Attention Resurrection in Vision Transformer` (arXiv 2501.16182).

    Four stages at strides 4, 8, 16 and 32, with alternating blocks of local window attention (even
    index) and of linear global attention (odd index). Takes images of any size: a side that a
    stride does not divide is zero-padded at its end.

    Args:
        arch: 'tiny', 'small', 'base', or a dict of `embed_dims`, `depths` and `num_heads`, each a
            sequence of four integers.
        in_channels: channels of the images.
        window_size: side of the local windows, in tokens; the paper takes 7, and 12 at 384 x 384.
        mlp_ratio: hidden width of the MLPs over the stage's width.
        drop_path_rate: stochastic depth of the last block, growing linearly from 0 over all blocks.
        out_indices: stages to return, negative ones counted from the end. Stages after the last of
            them are not built.
        frozen_stages: -1 freezes nothing, 0 the stem, i > 0 also the first i stages: no gradient,
            BatchNorm and stochastic depth in evaluation mode.
        with_cp: gradient checkpointing of each block.
        init_cfg: as in MMEngine. Before it is applied, convolutions and linear layers get a
            truncated normal of 0.02 and zero biases, so that parameters missing in a checkpoint of
            `dict(type='Pretrained', ...)` are initialised.

    Forward:
        images (B, in_channels, H, W) -> a tuple with one (B, C_i, H_i, W_i) for each stage of
        `out_indices`, each after a LayerNorm of its own, contiguous.

    Raises:
        ValueError: an unknown or inconsistent `arch`, an index out of range, or images of another
            shape.
    """

    arch_zoo: dict[str, dict[str, Any]] = {
        'tiny': dict(embed_dims=(96, 192, 384, 768), depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24)),
        'small': dict(
            embed_dims=(96, 192, 384, 768), depths=(2, 2, 18, 2), num_heads=(3, 6, 12, 24)
        ),
        'base': dict(
            embed_dims=(128, 256, 512, 1024), depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32)
        ),
    }
    num_stages = 4

    def __init__(
        self,
        arch: str | dict = 'tiny',
        in_channels: int = 3,
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        out_indices: int | Sequence[int] = (3,),
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ):
        init_cfgs = [init_cfg] if isinstance(init_cfg, dict) else init_cfg or []
        trunc_normal = dict(type='TruncNormal', layer=['Conv2d', 'Linear'], std=0.02)
        super().__init__(init_cfg=[trunc_normal, *init_cfgs])
        settings = resolve_arch(self, arch)
        for name, values in settings.items():
            least = 0 if name == 'depths' else 1
            positive_ints_per_stage(f'{name} of an arch', values, self.num_stages, least)
        self.embed_dims, depths, num_heads = settings.values()
        for dims, heads in zip(self.embed_dims, num_heads):
            divided_by_heads(dims, heads)
        if self.embed_dims[0] % 2:
            raise ValueError(f'embed_dims of the stem must be even, got {self.embed_dims[0]}')
        positive_int('window_size', window_size)
        if mlp_ratio * min(self.embed_dims) < 1:
            raise ValueError(f'mlp_ratio must leave the MLPs a hidden channel, got {mlp_ratio}')
        in_range('drop_path_rate', drop_path_rate, 0, 1)
        self.in_channels = positive_int('in_channels', in_channels)
        self.frozen_stages = frozen_up_to(frozen_stages, self.num_stages)
        self.out_indices = resolve_out_indices(out_indices, self.num_stages)
        self.out_channels = tuple(self.embed_dims[stage] for stage in self.out_indices)
        self.out_strides = tuple(STEM_STRIDE * 2**stage for stage in self.out_indices)
        self.with_cp = with_cp

        last_block = max(sum(depths) - 1, 1)
        drop_path_rates = (drop_path_rate * index / last_block for index in count())
        stem = Stem(in_channels, self.embed_dims[0])
        downsamples = [Downsample(dims, next_dims) for dims, next_dims in pairwise(self.embed_dims)]
        built = self.out_indices[-1] + 1
        self.downsamples = nn.ModuleList([stem, *downsamples][:built])
        self.stages: Any = nn.ModuleList()  # of Sequentials, as torch has no type for
        for dims, heads, depth in list(zip(self.embed_dims, num_heads, depths))[:built]:
            blocks = [
                LinearGlobalBlock(dims, heads, mlp_ratio, next(drop_path_rates))
                if index % 2
                else LocalWindowBlock(dims, heads, window_size, mlp_ratio, next(drop_path_rates))
                for index in range(depth)
            ]
            self.stages.append(nn.Sequential(*blocks))
        for stage in self.out_indices:
            self.add_module(f'norm{stage}', LayerNorm2d(self.embed_dims[stage], NORM_EPS))
        self._freeze_stages()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        self.check_images(images)
        return self.run_stages(self.downsamples[0](images), images.shape[2:])

    def run_stages(self, x: Tensor, sides: Sequence[int]) -> tuple[Tensor, ...]:
        """Run the stages on the output of the stem, of images with `sides` (H, W)."""
        (H, W), outs = sides, []
        for index, blocks in enumerate(self.stages):
            stride = STEM_STRIDE * 2**index
            # Computed from the image's sides: torch needs minutes for nested symbolic sides.
            rows, columns = (H + stride - 1) // stride, (W + stride - 1) // stride
            x = self.downsamples[index](x) if index else x
            x = x.view(x.shape[0], rows, columns, self.embed_dims[index])
            for block in blocks:
                x = run_block(block, x, with_cp=self.with_cp)
            if index in self.out_indices:
                norm = getattr(self, f'norm{index}')
                # Contiguous, because mmcv's RoIAlign reads every map as contiguous without a check.
                outs.append(norm(x.permute(0, 3, 1, 2)).contiguous())
        return tuple(outs)

    @property
    def allowed_missing(self) -> tuple[str, ...]:
        """The output norms of all stages but the last, which a classifier does not have."""
        return tuple(f'norm{stage}' for stage in self.out_indices if stage < self.num_stages - 1)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return a parameter's depth: the stem at 0, then one per block, then the rest.

        The convolution between two stages belongs to the last block before it.
        """
        depths = [len(blocks) for blocks in self.stages]
        num_layers = sum(depths) + 2
        if not param_name.startswith((f'{prefix}downsamples.', f'{prefix}stages.')):
            return num_layers - 1, num_layers
        kind, stage, block, *_ = param_name.removeprefix(prefix).split('.')
        depth = sum(depths[: int(stage)])
        return depth + (int(block) + 1 if kind == 'stages' else 0), num_layers

    def _freeze_stages(self) -> None:
        """Freeze the stem, the first `frozen_stages` stages and the layers between them."""
        if self.frozen_stages < 0:
            return
        frozen = [self.downsamples[0]]
        for index in range(min(self.frozen_stages, len(self.stages))):
            frozen += [self.downsamples[index], self.stages[index]]
            if index in self.out_indices:
                frozen.append(getattr(self, f'norm{index}'))
        for module in frozen:
            module.eval().requires_grad_(False)
