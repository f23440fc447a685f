"""YOLOS: detection tokens beside the patches of a plain ViT (arXiv 2106.00666)."""

import inspect
from collections.abc import Sequence
from math import isqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvitlin.checks import positive_int
from mmvitlin.layers.gradient_checkpointing import run_block
from mmvitlin.models.arch import frozen_up_to, two_sides
from mmvitlin.models.backbones.base import Backbone
from mmvitlin.models.backbones.lion import LION
from mmvitlin.models.backbones.plain_vit import TokenReduction
from mmvitlin.ops.symbolic import is_fixed
from mmvitlin.registry import MODELS, register

Grid = tuple[int, int]  # rows and columns of patches


@register(MODELS)
class YOLOSViT(Backbone):
    """YOLOS, `You Only Look at One Sequence` (arXiv 2106.00666): a plain ViT that detects.

    Learned detection tokens join the class token and the patches. Every token attends to every
    other, and the head reads at most one object from each detection token of the last layer. The
    sequence is the class token, the detection tokens, then the patches. The first two are prefix
    tokens, so that token reduction drops patches only. Images are cropped to multiples of the
    patch.

    Args:
        vit: config of a plain ViT, whose stem, class token, layers and last norm are taken, and
            nothing else: `mmpretrain.VisionTransformer`, another that shares its layers
            (`mmpretrain.DeiT3`), or `mmvitlin.LVViT`.
        img_size: side of the images that the position embedding is learned for, or (H, W). For
            others it is resized bicubically, unless they have as many patches: see
            `resize_positions`.
        mid_img_size: the same for the position embeddings that are added after every layer but the
            last; None for none.
        num_det_tokens: number of detection tokens, the largest number of objects per image.
        token_std: standard deviation of the initial detection tokens and position embeddings.
        frozen_stages: -1 freezes nothing, 0 the stem and the class token, i > 0 also the first i
            layers: no gradient, evaluation mode. Detection tokens and positions always train.
        with_cp: gradient checkpointing of each layer.
        init_cfg: as in MMEngine. Before it is applied, linear layers get a truncated normal of 0.02
            and zero biases. A 'Pretrained' classifier of the same ViT fits: its position embedding
            is resized, detection tokens keep their initial values, and from a distilled classifier
            the class token takes the position of the distillation token.

    Forward:
        images (B, in_channels, H, W) -> a tuple of one tensor, the detection tokens (B,
        num_det_tokens, C) after the last norm.

    Attributes:
        out_channels, out_strides: channels, and pixels per patch, of the output.
        before_layers: index of a layer -> the token reduction at its input.

    Raises:
        ValueError: an unknown or inconsistent argument, a ViT whose layers need more than a
            sequence of tokens, or images smaller than a patch.
    """

    def __init__(
        self,
        vit: dict,
        img_size: int | Sequence[int],
        mid_img_size: int | Sequence[int] | None = None,
        num_det_tokens: int = 100,
        token_std: float = 0.02,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ):
        init_cfgs = [init_cfg] if isinstance(init_cfg, dict) else init_cfg or []
        super().__init__(init_cfg=[dict(type='TruncNormal', layer='Linear', std=0.02), *init_cfgs])
        positive_int('num_det_tokens', num_det_tokens)
        if not token_std > 0:
            raise ValueError(f'token_std must be above 0, got {token_std!r}')
        plain: Any = MODELS.build(vit)
        check_plain(plain)
        num_layers = len(plain.layers)
        self.frozen_stages = frozen_up_to(frozen_stages, num_layers)
        self.patch_embed, self.cls_token = plain.patch_embed, plain.cls_token
        self.pre_norm = getattr(plain, 'pre_norm', nn.Identity())
        self.layers = nn.ModuleList(plain.layers)  # torch's: `init_cfg` alone initialises them
        self.norm_name = 'ln1' if hasattr(plain, 'ln1') else f'norm{num_layers - 1}'
        self.add_module(self.norm_name, getattr(plain, self.norm_name))

        stem = next(layer for layer in self.patch_embed.modules() if isinstance(layer, nn.Conv2d))
        self.patch_size = getattr(self.patch_embed, 'patch_size', stem.stride[0])
        self.in_channels, self.embed_dims = stem.in_channels, self.cls_token.shape[-1]
        self.out_channels, self.out_strides = (self.embed_dims,), (self.patch_size,)
        self.img_size = self._sides('img_size', img_size)
        self.grid = self._grid(self.img_size)
        self.num_det_tokens = num_det_tokens
        self.num_prefix_tokens = 1 + num_det_tokens
        self.token_std = token_std
        self.det_token = self._learned(1, num_det_tokens)
        # In the original's order: class token, patches, detection tokens.
        self.pos_embed = self._learned(1, self._num_positions(self.grid))
        self.mid_grid = None
        if mid_img_size is not None:
            self.mid_grid = self._grid(self._sides('mid_img_size', mid_img_size))
            self.mid_pos_embed = self._learned(
                num_layers - 1, 1, self._num_positions(self.mid_grid)
            )
        self.before_layers: dict[int, TokenReduction] = {}
        self.with_cp = with_cp
        self._freeze_stages()

    @property
    def num_extra_tokens(self) -> int:
        """Mmpretrain's name of `num_prefix_tokens`."""
        return self.num_prefix_tokens

    def forward(self, images: Tensor) -> tuple[Tensor]:
        self.check_images(images)
        x, grid = self.embed(images)
        mid = None
        if self.mid_grid is not None:
            mid = self._positions(self.mid_pos_embed[:, 0], self.mid_grid, grid)
        keep_indices = None
        for index, layer in enumerate(self.layers):
            if index in self.before_layers:
                x, keep_indices = self.before_layers[index].shorten(x)
            x = run_block(layer, x, with_cp=self.with_cp)
            if mid is not None and index < len(mid):
                x = x + (mid[index] if keep_indices is None else mid[index][keep_indices])
        found = x[:, 1 : self.num_prefix_tokens]
        return (getattr(self, self.norm_name)(found),)

    def embed(self, images: Tensor) -> tuple[Tensor, Grid]:
        """Embed images as tokens (B, L, C) with positions; return their grid of patches too."""
        height, width = (side // self.patch_size * self.patch_size for side in images.shape[2:])
        if not height or not width:
            raise ValueError(
                f'images of {tuple(images.shape[2:])} have no whole patch of {self.patch_size} x '
                f'{self.patch_size} pixels: give larger ones'
            )
        patches = self.patch_embed(cropped(images, height, width))
        if isinstance(patches, tuple):  # of mmpretrain: (B, N, C), and the grid
            patches, grid = patches
        else:
            patches, grid = patches.flatten(1, 2), tuple(patches.shape[1:3])
        prefix = torch.cat([self.cls_token, self.det_token], 1).expand(patches.shape[0], -1, -1)
        x = torch.cat([prefix, patches], 1)
        return self.pre_norm(x + self._positions(self.pos_embed, self.grid, grid)), grid

    def adapt_state_dict(self, weights: dict[str, Tensor]) -> None:
        if 'pos_embed.weight' in weights:  # a module of ours
            weights['pos_embed'] = weights.pop('pos_embed.weight')
        weights.pop('dist_token', None)
        loaded = weights.get('pos_embed')
        if loaded is not None and loaded.ndim == 3 and loaded.shape[1] != self.pos_embed.shape[1]:
            found = self.pos_embed.detach()[:, -self.num_det_tokens :].to(loaded)
            weights['pos_embed'] = torch.cat([classifier_positions(loaded, self.grid), found], 1)

    @property
    def allowed_missing(self) -> tuple[str, ...]:
        """The detection tokens and positions between layers, which a classifier does not have."""
        return ('det_token', 'mid_pos_embed')

    def no_weight_decay(self) -> set[str]:
        """Return the names of the tokens and the first position embedding."""
        return {'cls_token', 'det_token', 'pos_embed'}

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return a parameter's depth: 0 before the layers, then one per layer, then the rest."""
        num_layers = len(self.layers) + 2
        name = param_name.removeprefix(prefix)
        if not param_name.startswith(prefix):
            return num_layers - 1, num_layers
        if name.startswith(('patch_embed.', 'pre_norm.', 'cls_token', 'det_token', 'pos_embed')):
            return 0, num_layers
        if name.startswith('layers.'):
            return int(name.split('.')[1]) + 1, num_layers
        return num_layers - 1, num_layers

    def _positions(self, weight: Tensor, grid: Grid, to: Grid) -> Tensor:
        """Resize positions (N, 1 + rows * columns + T, C), and reorder them to our sequence."""
        T = self.num_det_tokens
        first, patches, found = weight.tensor_split([1, weight.shape[1] - T], 1)
        return torch.cat([first, found, resize_positions(patches, grid, to)], 1)

    def _learned(self, *shape: int) -> nn.Parameter:
        return nn.Parameter(
            nn.init.normal_(torch.empty(*shape, self.embed_dims), 0, self.token_std)
        )

    def _num_positions(self, grid: Grid) -> int:
        return 1 + grid[0] * grid[1] + self.num_det_tokens

    def _grid(self, sides: tuple[int, int]) -> Grid:
        return sides[0] // self.patch_size, sides[1] // self.patch_size

    def _sides(self, name: str, size: int | Sequence[int]) -> tuple[int, int]:
        sides = two_sides(name, size)
        if min(sides) < self.patch_size:
            raise ValueError(
                f'{name} must be at least a patch of {self.patch_size} pixels, got {size!r}'
            )
        return sides

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        self.cls_token.requires_grad_(False)
        for module in (self.patch_embed, self.pre_norm, *self.layers[: self.frozen_stages]):
            module.eval().requires_grad_(False)


def check_plain(vit: nn.Module) -> None:
    """Check that a ViT has a class token, and layers that take any sequence of tokens.

    Raises:
        ValueError: it is not such a ViT.
    """
    name = type(vit).__name__
    layers = getattr(vit, 'layers', None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        raise ValueError(f'{name} has no `layers`: YOLOS needs a plain ViT')
    if getattr(vit, 'cls_token', None) is None:
        raise ValueError(f'{name} has no class token: leave with_cls_token at True')
    _, *others = inspect.signature(layers[0].forward).parameters.values()
    needed = any(p.default is p.empty and p.kind is not p.VAR_POSITIONAL for p in others)
    by_position = any('relative_position' in key or 'rel_pos' in key for key in vit.state_dict())
    if needed or by_position or isinstance(vit, LION):
        raise ValueError(
            f'the layers of {name} need the position of each token on the grid, and detection '
            'tokens have none: take mmpretrain.VisionTransformer or mmvitlin.LVViT'
        )
    if not hasattr(vit, 'ln1') and not hasattr(vit, f'norm{len(layers) - 1}'):
        raise ValueError(f'{name} has no norm after its last layer: leave final_norm at True')
    if hasattr(vit, 'llama'):
        raise ValueError(
            f'{name} has a block after its layers, which YOLOS does not run: take '
            'mmpretrain.VisionTransformer or mmvitlin.LVViT'
        )


def cropped(images: Tensor, height: int, width: int) -> Tensor:
    """Crop images (B, C, H, W) at the bottom and right."""
    if is_fixed(height, width):
        return images[..., :height, :width]
    # A slice would fix in a program whether it changes a symbolic size.
    rows, columns = (torch.arange(side, device=images.device) for side in (height, width))
    return images.index_select(2, rows).index_select(3, columns)


def resize_positions(positions: Tensor, grid: Grid, to: Grid) -> Tensor:
    """Resize position embeddings (N, rows * columns, C) from one grid to another, bicubically.

    As in the original, a grid with the same number of patches uses them unchanged, whatever its
    shape: the embeddings of 32 x 54 patches serve 36 x 48 patches, row by row. The original's
    weights were trained in this way.
    """
    # A symbolic grid, in an export or a trace, is interpolated: a comparison would fix it.
    if all(type(side) is int for side in to) and grid[0] * grid[1] == to[0] * to[1]:
        return positions
    maps = positions.unflatten(1, grid).permute(0, 3, 1, 2)
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    maps = F.interpolate(maps, size=to, mode='bicubic', align_corners=False)
    return maps.flatten(2).transpose(1, 2).to(positions.dtype)


def classifier_positions(weight: Tensor, grid: Grid) -> Tensor:
    """Resize a classifier's position embedding to a grid: the class token's, then the patches'.

    Args:
        weight: (1, 1 + N, C) for a square of N patches, the class token's first, or (1, 2 + N, C)
            of a distilled classifier, where the class token takes the distillation token's.

    Raises:
        ValueError: N is not a square.
    """
    for num_prefix_tokens in (1, 2):
        side = isqrt(max(weight.shape[1] - num_prefix_tokens, 0))
        if side and side * side + num_prefix_tokens == weight.shape[1]:
            first, patches = weight[:, num_prefix_tokens - 1 :].tensor_split([1], 1)
            return torch.cat([first, resize_positions(patches, (side, side), grid)], 1)
    raise ValueError(
        f'pos_embed has {weight.shape[1]} positions, which are not those of a square image, with a '
        'class token and at most a distillation token before them'
    )
