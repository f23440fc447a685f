"""The plain vision transformer (arXiv 2010.11929), the base of LION, ViT-LLaMA and LV-ViT.

An image becomes a sequence of tokens (`embed`), which goes through layers of one width and is
returned in the form of `out_type` (`read_out`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmvitlin.checks import in_range, one_of, positive_int
from mmvitlin.layers.gradient_checkpointing import run_block
from mmvitlin.layers.patch_embedding import PatchEmbedding
from mmvitlin.layers.position_embedding import PositionEmbedding
from mmvitlin.layers.transformer_layer import TransformerLayer
from mmvitlin.models.arch import (
    divided_by_heads,
    frozen_up_to,
    resolve_arch,
    resolve_out_indices,
    two_sides,
)
from mmvitlin.models.backbones.base import Backbone

SIZES = ('embed_dims', 'num_layers', 'num_heads', 'feedforward_channels')  # of every `arch`


@dataclass
class Tokens:
    """The token sequence of a batch of images, and everything that belongs to it.

    Attributes:
        x: the tokens (B, L, C), prefix tokens first.
        grid: rows and columns of the patches of an image.
        num_prefix_tokens: tokens before the patches.
        layer_inputs: further arguments of every layer.
        keep_indices: positions (B, L) in the whole sequence after token reduction; None for all.
        mix_box: patches that MixToken swapped, (rows, columns), True inside; None for none.
    """

    x: Tensor
    grid: tuple[int, int]
    num_prefix_tokens: int
    layer_inputs: tuple[Any, ...] = ()
    keep_indices: Tensor | None = None
    mix_box: Tensor | None = None


class TokenReduction(Protocol):
    """Reduces the tokens at the input of a layer."""

    def shorten(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Reduce (B, L, C) to (B, L', C); return keep indices (B, L') too, None for all."""


Readout = Callable[[Tensor, Tokens], Any]


def class_token(x: Tensor, tokens: Tokens) -> Tensor:
    """Return the class token, (B, C)."""
    return x[:, 0]


def average(x: Tensor, tokens: Tokens) -> Tensor:
    """Return the mean over all tokens, (B, C)."""
    return x.mean(1)


def feature_map(x: Tensor, tokens: Tokens) -> Tensor:
    """Return the patches as a map, (B, C, rows, columns)."""
    rows, columns = tokens.grid
    patches = x[:, -rows * columns :].unflatten(1, tokens.grid)
    # Contiguous, because mmcv's RoIAlign reads every map as contiguous without a check.
    return patches.permute(0, 3, 1, 2).contiguous()


def all_tokens(x: Tensor, tokens: Tokens) -> Tensor:
    """Return all tokens, (B, L, C)."""
    return x


# out_type -> readout of the normalised tokens x (B, L, C).
READOUTS: dict[str, Readout] = {
    'cls_token': class_token,
    'avg_tokens': average,
    'featmap': feature_map,
    'raw': all_tokens,
}
WITHOUT_CLASS_TOKEN = ('avg_tokens', 'featmap', 'raw')


class PlainViT(Backbone):
    """A plain vision transformer with any attention.

    Takes images of any size: they are zero-padded at the right and bottom up to a multiple of the
    patch, and the position embedding is resized.

    Args:
        arch: 'tiny', 'small', 'base', or a dict of `embed_dims`, `num_layers`, `num_heads` and
            `feedforward_channels`.
        img_size: side of the images that the position embedding is learned for, or (H, W).
        patch_size: side of a patch.
        in_channels: channels of the images.
        pos_emb: add a learned position embedding.
        with_cls_token: put a class token before the patches. False is for detectors and segmentors;
            a classifier's checkpoint loads then too, and its class token is reported as unexpected.
        out_type: 'cls_token' (B, C), 'avg_tokens' (B, C), the mean over all tokens, the class token
            included, 'featmap' (B, C, H, W), or 'raw' (B, 1 + H * W, C), the class token first.
        drop_path_rate: stochastic depth of the last layer, growing linearly from 0 at the first.
        out_indices: layers to return, negative ones counted from the end. Layers after the last of
            them are not built.
        frozen_stages: -1 freezes nothing, 0 the stem, class token and position embedding, i > 0
            also the first i layers and their output norms: no gradient, evaluation mode.
        with_cp: gradient checkpointing of each layer.
        init_cfg: as in MMEngine. Before it is applied, linear layers get a truncated normal of 0.02
            and zero biases.
        attention: builds the attention of a layer from `embed_dims` and `num_heads`.
        patch_embedding: builds the stem from `in_channels`, `embed_dims` and `patch_size`.
        skip_lam: divides the outputs of attention and MLP before they are added.

    Forward:
        images (B, in_channels, H, W) -> a tuple with one tensor for each layer of `out_indices`,
        each after a LayerNorm of its own.

    Attributes:
        out_channels, out_strides: channels, and pixels per patch, of each output.
        before_layers: index of a layer -> the token reduction at its input.

    Raises:
        ValueError: an unknown or inconsistent argument, or images of another shape.
    """

    arch_zoo: dict[str, dict[str, Any]] = {
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
        sizes = [positive_int(f'{name} of an arch', settings[name]) for name in SIZES]
        self.embed_dims, self.num_layers, num_heads, feedforward_channels = sizes
        divided_by_heads(self.embed_dims, num_heads)
        positive_int('patch_size', patch_size)
        self.img_size = two_sides('img_size', img_size)
        self.in_channels = positive_int('in_channels', in_channels)
        self.out_type = one_of('out_type', out_type, self.readouts)
        if not with_cls_token and out_type not in WITHOUT_CLASS_TOKEN:
            raise ValueError(
                f'out_type={out_type!r} reads the class token: leave with_cls_token at True, or '
                f'take one of {list(WITHOUT_CLASS_TOKEN)}'
            )
        in_range('drop_path_rate', drop_path_rate, 0, 1)
        self.frozen_stages = frozen_up_to(frozen_stages, self.num_layers)
        self.out_indices = resolve_out_indices(out_indices, self.num_layers)
        self.out_channels = (self.embed_dims,) * len(self.out_indices)
        self.out_strides = (patch_size,) * len(self.out_indices)
        self.format_output = self.readouts[out_type]
        self.with_cp = with_cp
        self.num_prefix_tokens = int(with_cls_token)

        self.patch_embed = patch_embedding(in_channels, self.embed_dims, patch_size)
        if with_cls_token:
            self.cls_token = nn.Parameter(
                nn.init.trunc_normal_(torch.empty(1, 1, self.embed_dims), std=0.02)
            )
        if pos_emb:
            rows, columns = (-(-side // patch_size) for side in self.img_size)
            grid = rows, columns
            self.pos_embed = PositionEmbedding(self.embed_dims, grid, self.num_prefix_tokens)
        rates = torch.linspace(0, drop_path_rate, self.num_layers, device='cpu').tolist()
        self.layers = nn.ModuleList(
            TransformerLayer(
                attention(self.embed_dims, num_heads),
                self.embed_dims,
                feedforward_channels,
                rate,
                self.norm_eps,
                skip_lam,
                checkpoint_long=not with_cp,
            )
            for rate in rates[: self.out_indices[-1] + 1]
        )
        self.before_layers: dict[int, TokenReduction] = {}
        for index in self.out_indices:
            self.add_module(f'norm{index}', nn.LayerNorm(self.embed_dims, self.norm_eps))
        self._freeze_stages()

    @property
    def num_extra_tokens(self) -> int:
        """Mmpretrain's name of `num_prefix_tokens`."""
        return self.num_prefix_tokens

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        self.check_images(images)
        return self.run_layers(self.embed(images))

    def run_layers(self, tokens: Tokens) -> tuple[Tensor, ...]:
        """Run the layers on tokens, and return the outputs of `out_indices`."""
        outs = []
        for index, layer in enumerate(self.layers):
            if index in self.before_layers:
                self.reduce_tokens(tokens, self.before_layers[index])
            tokens.x = run_block(layer, tokens.x, *tokens.layer_inputs, with_cp=self.with_cp)
            if index in self.out_indices:
                outs.append(self.read_out(index, tokens))
        return tuple(outs)

    def embed(self, images: Tensor) -> Tokens:
        """Embed images (B, in_channels, H, W) as tokens with positions."""
        return self.embed_patches(self.patch_embed(images))

    def embed_patches(self, patches: Tensor) -> Tokens:
        """Put the class token before patches (B, rows, columns, C) and add positions."""
        _, rows, columns, _ = patches.shape
        grid, x = (rows, columns), patches.flatten(1, 2)
        if self.num_prefix_tokens:
            x = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), x], 1)
        if hasattr(self, 'pos_embed'):
            x = x + self.pos_embed(grid)
        return Tokens(x, grid, self.num_prefix_tokens)

    def reduce_tokens(self, tokens: Tokens, reduction: TokenReduction) -> None:
        """Reduce the tokens in place."""
        tokens.x, tokens.keep_indices = reduction.shorten(tokens.x)

    def read_out(self, index: int, tokens: Tokens) -> Tensor:
        """Return the output of layer `index`: its tokens, normalised, in the form of `out_type`."""
        return self.format_output(getattr(self, f'norm{index}')(tokens.x), tokens)

    def adapt_state_dict(self, weights: dict[str, Tensor]) -> None:
        if not self.num_prefix_tokens and 'cls_token' in weights:
            positions = weights.get('pos_embed.weight')
            if positions is not None and positions.ndim == 3:
                weights['pos_embed.weight'] = positions[:, 1:]
        if hasattr(self, 'pos_embed'):
            self.pos_embed.fit(weights, 'pos_embed.')

    @property
    def allowed_missing(self) -> tuple[str, ...]:
        """The output norms of all layers but the last, which a classifier does not have."""
        last = self.num_layers - 1
        return tuple(f'norm{index}' for index in self.out_indices if index < last)

    def no_weight_decay(self) -> set[str]:
        """Return the names of the class token and the position embedding."""
        names = {'cls_token', 'pos_embed.weight'}
        return {name for name, _ in self.named_parameters() if name in names}

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return a parameter's depth: 0 before the layers, then one per layer, then the rest."""
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
        if self.frozen_stages < 0:
            return
        if self.num_prefix_tokens:
            self.cls_token.requires_grad_(False)
        frozen = [self.patch_embed, *self.layers[: self.frozen_stages]]
        if hasattr(self, 'pos_embed'):
            frozen.append(self.pos_embed)
        frozen += [getattr(self, f'norm{i}') for i in self.out_indices if i < self.frozen_stages]
        for module in frozen:
            module.eval().requires_grad_(False)
