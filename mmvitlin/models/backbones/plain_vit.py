"""The plain vision transformer (arXiv 2010.11929) that LION, ViT-LLaMA and LV-ViT vary.

An image becomes a class token and a row of patches (`prepare_tokens`), which go through layers of
one width (`forward_layers`) and leave as `out_type` says (`format_output`). A variant overrides the
step in which it differs.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmvitlin.layers.gradient_checkpointing import run_block
from mmvitlin.layers.patch_embedding import PatchEmbedding
from mmvitlin.layers.position_embedding import PositionEmbedding
from mmvitlin.layers.transformer_layer import TransformerLayer
from mmvitlin.models.arch import check_sizes, resolve_arch, resolve_out_indices
from mmvitlin.models.backbones.base import Backbone

Grid = tuple[int, int]  # rows and columns of patches
SIZES = ('embed_dims', 'num_layers', 'num_heads', 'feedforward_channels')  # of every `arch`


def _class_token(tokens: Tensor, grid: Grid) -> Tensor:
    return tokens[:, 0]


def _average(tokens: Tensor, grid: Grid) -> Tensor:
    return tokens.mean(1)


def _map(tokens: Tensor, grid: Grid) -> Tensor:
    # Contiguous: mmcv's RoIAlign reads every map as if it were, and says nothing.
    patches = tokens[:, -grid[0] * grid[1] :]
    return patches.unflatten(1, grid).permute(0, 3, 1, 2).contiguous()


def _raw(tokens: Tensor, grid: Grid) -> Tensor:
    return tokens


# out_type -> what becomes of tokens (B, 1 + rows * columns, C), the class token, if any, first.
READOUTS = {'cls_token': _class_token, 'avg_tokens': _average, 'featmap': _map, 'raw': _raw}
OF_PATCHES = ('avg_tokens', 'featmap', 'raw')  # those that need no class token


class Step(Protocol):
    """Leaves some of the tokens at the input of a layer."""

    def shorten(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what is left of tokens (B, L, C), and where it was, (B, L'); None for all."""


class PlainViT(Backbone):
    """A plain vision transformer with any attention.

    Takes images of any size: they are zero-padded at the right and bottom up to a multiple of the
    patch, and the position embedding is resized.

    Args:
        arch: 'tiny', 'small', 'base', or a dict of `embed_dims`, `num_layers`, `num_heads` and
            `feedforward_channels`.
        img_size: side of the images that positions are learned for, or (H, W).
        patch_size: side of a patch.
        in_channels: channels of the images.
        pos_emb: add a learned position embedding.
        with_cls_token: put a class token before the patches. False is for detectors and segmentors;
            a classifier's checkpoint loads then too, and the report names what is left over.
        out_type: 'cls_token' (B, C), 'avg_tokens' (B, C), the mean over all tokens, the class token
            included, 'featmap' (B, C, H, W), or 'raw' (B, 1 + H * W, C), the class token first.
        drop_path_rate: stochastic depth of the last layer, growing linearly from 0 at the first.
        out_indices: layers to return, negative ones counted from the end. Layers after the last of
            them are not built.
        frozen_stages: -1 trains everything, 0 freezes what comes before the layers, i > 0 also the
            first i layers: no gradient, stochastic depth in evaluation mode.
        with_cp: recompute each layer in the backward pass instead of keeping its activations.
        init_cfg: as in mmengine. Before it is applied, linear layers get a truncated normal of 0.02
            and zero biases.
        attention: makes the attention of a layer from `embed_dims` and `num_heads`.
        patch_embedding: makes the stem from `in_channels`, `embed_dims` and `patch_size`.
        skip_lam: what the branches of a layer are divided by before they are added.

    Forward:
        images (B, in_channels, H, W) -> a tuple with one tensor for each layer of `out_indices`,
        each through a LayerNorm of its own.

    Raises:
        ValueError: an unknown or inconsistent argument, or images of another shape.
    """

    arch_zoo = {
        'tiny': dict(embed_dims=192, num_layers=12, num_heads=3, feedforward_channels=768),
        'small': dict(embed_dims=384, num_layers=12, num_heads=6, feedforward_channels=1536),
        'base': dict(embed_dims=768, num_layers=12, num_heads=12, feedforward_channels=3072),
    }
    readouts = READOUTS
    norm_eps = 1e-6

    def __init__(
        self,
        arch: str | dict,
        img_size: int | Sequence[int],
        patch_size: int,
        in_channels: int,
        pos_emb: bool,
        with_cls_token: bool,
        out_type: str,
        drop_path_rate: float,
        out_indices: int | Sequence[int],
        frozen_stages: int,
        with_cp: bool,
        init_cfg: dict | list[dict] | None,
        attention: Callable[[int, int], nn.Module],
        patch_embedding: Callable[[int, int, int], nn.Module] = PatchEmbedding,
        skip_lam: float = 1.0,
    ):
        init_cfgs = [init_cfg] if isinstance(init_cfg, dict) else init_cfg or []
        super().__init__(init_cfg=[dict(type='TruncNormal', layer='Linear', std=0.02), *init_cfgs])
        settings = resolve_arch(self, arch)
        sizes = [settings[key] for key in SIZES]
        check_sizes(dict(zip(SIZES, sizes)))
        self.embed_dims, self.num_layers, num_heads, feedforward_channels = sizes
        if self.embed_dims % num_heads:
            raise ValueError(
                f'embed_dims must be a multiple of num_heads, got {self.embed_dims} with '
                f'{num_heads} heads'
            )
        if not isinstance(patch_size, int) or patch_size < 1:
            raise ValueError(f'patch_size must be an integer of at least 1, got {patch_size}')
        sides = tuple(img_size) if isinstance(img_size, Sequence) else (img_size, img_size)
        if len(sides) != 2 or not all(isinstance(s, int) for s in sides) or min(sides) < 1:
            raise ValueError(f'img_size must be a positive side, or (H, W), got {img_size}')
        if not isinstance(in_channels, int) or in_channels < 1:
            raise ValueError(f'in_channels must be an integer of at least 1, got {in_channels}')
        if out_type not in self.readouts:
            raise ValueError(f'out_type must be one of {list(self.readouts)}, got {out_type!r}')
        if not with_cls_token and out_type not in OF_PATCHES:
            raise ValueError(
                f'out_type={out_type!r} reads the class token: leave with_cls_token at True, or '
                f'take one of {list(OF_PATCHES)}'
            )
        if not 0 <= drop_path_rate < 1:
            raise ValueError(f'drop_path_rate must be in [0, 1), got {drop_path_rate}')
        if not -1 <= frozen_stages <= self.num_layers:
            raise ValueError(
                f'frozen_stages must be from -1 to {self.num_layers}, got {frozen_stages}'
            )
        self.in_channels = in_channels
        self.img_size = sides
        self.out_type = out_type
        self.format_output = self.readouts[out_type]
        self.out_indices = resolve_out_indices(out_indices, self.num_layers)
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp

        self.patch_embed = patch_embedding(in_channels, self.embed_dims, patch_size)
        self.num_extra_tokens = int(with_cls_token)  # as mmpretrain calls what precedes the patches
        if with_cls_token:
            self.cls_token = nn.Parameter(
                nn.init.trunc_normal_(torch.empty(1, 1, self.embed_dims), std=0.02)
            )
        if pos_emb:
            grid = tuple(-(-side // patch_size) for side in sides)
            self.pos_embed = PositionEmbedding(self.embed_dims, grid, self.num_extra_tokens)
        rates = torch.linspace(0, drop_path_rate, self.num_layers, device='cpu').tolist()
        self.before_layers: dict[int, Step] = {}  # what may leave some of the tokens, by layer
        self.layers = nn.ModuleList()
        for rate in rates[: self.out_indices[-1] + 1]:
            layer = TransformerLayer(
                attention(self.embed_dims, num_heads),
                self.embed_dims,
                feedforward_channels,
                rate,
                self.norm_eps,
                skip_lam,
                checkpoint_long=not with_cp,
            )
            self.layers.append(layer)
        for index in self.out_indices:
            self.add_module(f'norm{index}', nn.LayerNorm(self.embed_dims, self.norm_eps))
        self._freeze_stages()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            raise ValueError(
                f'{type(self).__name__} takes images of shape (B, {self.in_channels}, H, W), '
                f'got {tuple(images.shape)}'
            )
        tokens, grid, *notes = self.prepare_tokens(images)
        outs = self.forward_layers(tokens, grid)
        return tuple(self.format_output(out, grid, *notes) for out in outs)

    def prepare_tokens(self, images: Tensor) -> tuple[Any, ...]:
        """Cut images into patches, put the class token before them and add positions.

        Returns:
            The tokens, their grid, and whatever else the output is formatted by.
        """
        return self.embed_patches(self.patch_embed(images))

    def embed_patches(self, patches: Tensor) -> tuple[Tensor, Grid]:
        """Put the class token before patches (B, rows, columns, C) and add positions."""
        grid = tuple(patches.shape[1:3])
        tokens = patches.flatten(1, 2)
        if self.num_extra_tokens:
            tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), tokens], 1)
        return (tokens + self.pos_embed(grid) if hasattr(self, 'pos_embed') else tokens), grid

    def forward_layers(self, tokens: Tensor, grid: Grid) -> list[Tensor]:
        """Run the layers; return the normed tokens behind each of `out_indices`."""
        context = self.layer_context(grid, tokens.device)
        length, kept = tokens.shape[1], None
        outs = []
        for index, layer in enumerate(self.layers):
            if index in self.before_layers:
                tokens, kept = self.before_layers[index].shorten(tokens)
                if kept is not None and context:
                    kept, order = kept.sort(1)
                    tokens = tokens.gather(1, order[..., None].expand_as(tokens))
                    context = self.shorten_context(kept, *context)
            tokens = run_block(layer, tokens, *context, with_cp=self.with_cp)
            if index == self.num_layers - 1:
                tokens = self.after_layers(tokens)
            if index in self.out_indices:
                out = getattr(self, f'norm{index}')(tokens)
                outs.append(out if kept is None else self.after_shortening(out, kept, length))
        return outs

    def layer_context(self, grid: Grid, device: torch.device) -> tuple[Any, ...]:
        """What every layer is given beside the tokens."""
        return ()

    def shorten_context(self, index: Tensor) -> tuple[Any, ...]:
        """What layers are given, beside `index`, where only the tokens `index` are left.

        Args:
            index: positions (B, L') in the whole sequence, increasing; after it comes what
                `layer_context` returned, item by item.
        """
        return ()

    def after_layers(self, tokens: Tensor) -> Tensor:
        """What the tokens go through between the last of all layers and its norm."""
        return tokens

    def after_shortening(self, tokens: Tensor, index: Tensor, length: int) -> Tensor:
        """What becomes of normed tokens (B, L', C), where only those are left of `length`.

        Args:
            index: their positions (B, L') in the whole sequence.
        """
        return tokens

    def fit_pretrained(self, weights: dict[str, Tensor]) -> None:
        if not self.num_extra_tokens and 'cls_token' in weights:
            positions = weights.get('pos_embed.weight')
            if positions is not None and positions.ndim == 3:
                weights['pos_embed.weight'] = positions[:, 1:]
        if hasattr(self, 'pos_embed'):
            self.pos_embed.fit(weights, 'pos_embed.')

    @property
    def modules_of_dense_tasks(self) -> tuple[str, ...]:
        """The norms of all outputs but the last layer's, which alone a classifier has."""
        last = self.num_layers - 1
        return tuple(f'norm{index}' for index in self.out_indices if index < last)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Say how deep a parameter lies: what comes before the layers at 0, then a layer each."""
        num_layers = len(self.layers) + 2
        name = param_name.removeprefix(prefix)
        if not param_name.startswith(prefix):
            return num_layers - 1, num_layers
        if name.startswith(('patch_embed.', 'cls_token', 'pos_embed.')):
            return 0, num_layers
        if name.startswith('layers.'):
            return int(name.split('.')[1]) + 1, num_layers
        return num_layers - 1, num_layers

    def _freeze_stages(self) -> None:
        """Put what comes before the layers and the first `frozen_stages` layers at rest."""
        if self.frozen_stages < 0:
            return
        if self.num_extra_tokens:
            self.cls_token.requires_grad_(False)
        frozen = [self.patch_embed, *self.layers[: self.frozen_stages]]
        if hasattr(self, 'pos_embed'):
            frozen.append(self.pos_embed)
        frozen += [getattr(self, f'norm{i}') for i in self.out_indices if i < self.frozen_stages]
        for module in frozen:
            module.eval().requires_grad_(False)
