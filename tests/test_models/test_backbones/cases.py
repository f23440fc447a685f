"""The backbones under the common suite in test_backbones.py: one entry each.

To add a backbone, append a `BackboneCase` to `CASES`: its name in the registry, settings small
enough that a forward takes milliseconds, and what the suite cannot know by itself.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from goldens import draw_weights
from torch import Tensor

from mmvitlin.registry import MODELS


class Live(NamedTuple):
    """Another value of an argument, and the aspect of the backbone in which it must show."""

    value: Any
    changes: str  # a key of ASPECTS in test_backbones.py


@dataclass(frozen=True)
class BackboneCase:
    """A backbone, its smallest settings, and its expected features.

    Args:
        name: in the registry.
        kwargs: settings of a tiny one that returns maps (B, C, H, W); `arch` is a dict.
        strides, channels: of each output that `out_indices` can name.
        live: argument -> another value of it. Keys of `arch` are written 'arch.depths'. The suite
            asserts that no argument and no key is left out.
        frozen: `frozen_stages` -> names of the modules that it freezes beyond the next smaller one.
        compiled: settings that leave one block of each kind, for the slow C++ compiler.
        sizes: (H, W) of images, odd ones among them.
        always_frozen: modules that never train.
        bad_arguments: settings -> a fragment of the ValueError's message, beyond the common ones.
        linears_of_buffers: products with frozen weights, which belong to no `nn.Linear`.
    """

    name: str
    kwargs: dict
    strides: tuple[int, ...]
    channels: tuple[int, ...]
    live: dict[str, Live]
    frozen: dict[int, tuple[str, ...]]
    compiled: dict
    sizes: tuple[tuple[int, int], ...] = ((64, 64), (33, 47))
    always_frozen: tuple[str, ...] = ()
    bad_arguments: tuple[tuple[dict, str], ...] = field(default=())
    linears_of_buffers: int = 0

    @property
    def backbone(self) -> type:
        return MODELS.get(self.name)

    @property
    def all_indices(self) -> tuple[int, ...]:
        return tuple(range(len(self.strides)))

    def build(self, **changes) -> torch.nn.Module:
        """The tiny backbone with `changes`, weights drawn by name, in training mode."""
        model = self.backbone(**self.settings(**changes))
        draw_weights(model)
        return model

    def images(
        self, height: int = 33, width: int = 47, batch: int = 2, channels: int = 3
    ) -> Tensor:
        generator = torch.Generator().manual_seed(height * width)
        return torch.randn(batch, channels, height, width, generator=generator)

    def settings(self, **changes) -> dict:
        """The arguments of the tiny backbone with `changes`."""
        return self.kwargs | changes

    def frozen_at(self, frozen_stages: int) -> tuple[str, ...]:
        """Names of all modules that are frozen under this value of `frozen_stages`."""
        stages = sorted(stage for stage in self.frozen if stage <= frozen_stages)
        return self.always_frozen + tuple(name for stage in stages for name in self.frozen[stage])


L2VIT = BackboneCase(
    name='L2ViT',
    kwargs=dict(
        arch=dict(embed_dims=(8, 16, 24, 32), depths=(2, 1, 2, 1), num_heads=(1, 2, 2, 4)),
        window_size=3,
    ),
    strides=(4, 8, 16, 32),
    channels=(8, 16, 24, 32),
    live={
        'arch.embed_dims': Live((8, 16, 24, 64), 'weights'),
        'arch.depths': Live((2, 1, 2, 2), 'weights'),
        'arch.num_heads': Live((1, 4, 2, 4), 'outputs'),
        'in_channels': Live(4, 'weights'),
        'window_size': Live(5, 'outputs'),
        'mlp_ratio': Live(2.0, 'weights'),
        'drop_path_rate': Live(0.9, 'training outputs'),
        'out_indices': Live((1,), 'outputs'),
        'frozen_stages': Live(1, 'trainable parameters'),
        'with_cp': Live(True, 'kept activations'),
        'init_cfg': Live(dict(type='Constant', layer='LayerNorm', val=0.5), 'initial weights'),
    },
    frozen={
        0: ('downsamples.0',),
        1: ('stages.0', 'norm0'),
        2: ('downsamples.1', 'stages.1', 'norm1'),
        3: ('downsamples.2', 'stages.2', 'norm2'),
        4: ('downsamples.3', 'stages.3', 'norm3'),
    },
    compiled=dict(
        arch=dict(embed_dims=(8, 8, 8, 8), depths=(2, 0, 0, 0), num_heads=(2, 2, 2, 2)),
    ),
    sizes=((1, 1), (5, 3), (33, 47), (64, 64), (224, 200)),
    bad_arguments=(
        (dict(window_size=0), 'window_size must be an integer of at least 1, got 0'),
        (dict(window_size=(7, 7)), 'window_size must be an integer of at least 1, got (7, 7)'),
        (dict(mlp_ratio=0.01), 'mlp_ratio must leave the MLPs a hidden channel, got 0.01'),
        (dict(arch=None), 'got None'),
        (dict(arch=dict(embed_dims=(8,) * 4, depths=(-1,) * 4, num_heads=(1,) * 4)), 'depths of'),
        (dict(arch=dict(embed_dims=(8,) * 4, depths=(2.0,) * 4, num_heads=(1,) * 4)), 'depths of'),
        (dict(arch=dict(embed_dims=(8,) * 4, depths=(1,) * 4, num_heads=(0,) * 4)), 'num_heads of'),
        (dict(drop_path_rate=1.0), 'drop_path_rate must be in [0, 1), got 1.0'),
        (dict(arch=dict(embed_dims=8, depths=(1,) * 4, num_heads=(1,) * 4)), 'embed_dims of'),
        (
            dict(arch=dict(embed_dims=(8,) * 3, depths=(1,) * 4, num_heads=(1,) * 4)),
            'embed_dims of',
        ),
        (dict(arch=dict(embed_dims=(8,) * 4, depths=(1,) * 5, num_heads=(1,) * 4)), 'depths of'),
        (dict(arch=dict(embed_dims=(8,) * 4, depths=(1,) * 4, num_heads=(1, 1))), 'num_heads of'),
        (dict(arch=dict(embed_dims=(8,) * 4, depths=(1,) * 4, num_heads=(3,) * 4)), '8 with 3'),
        (dict(arch=dict(embed_dims=(9,) * 4, depths=(1,) * 4, num_heads=(3,) * 4)), 'even, got 9'),
    ),
)

TINY_VIT = dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=32)
# Settings of all plain vision transformers of this size.
PLAIN_VIT = dict(
    strides=(8, 8, 8),
    channels=(24, 24, 24),
    frozen={
        0: ('patch_embed', 'cls_token', 'pos_embed'),
        1: ('layers.0', 'norm0'),
        2: ('layers.1', 'norm1'),
        3: ('layers.2', 'norm2'),
    },
    compiled=dict(arch=dict(embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=8)),
    sizes=((1, 1), (5, 3), (33, 47), (64, 64), (120, 100)),
)
PLAIN_VIT_LIVE = {
    'arch.embed_dims': Live(16, 'weights'),
    'arch.num_layers': Live(2, 'weights'),
    'arch.num_heads': Live(4, 'outputs'),
    'arch.feedforward_channels': Live(16, 'weights'),
    'img_size': Live(16, 'weights'),
    'patch_size': Live(16, 'weights'),
    'in_channels': Live(4, 'weights'),
    'with_cls_token': Live(False, 'weights'),
    'out_type': Live('raw', 'outputs'),
    'drop_path_rate': Live(0.9, 'training outputs'),
    'out_indices': Live(1, 'outputs'),
    'frozen_stages': Live(1, 'trainable parameters'),
    'with_cp': Live(True, 'kept activations'),
    'init_cfg': Live(dict(type='Constant', layer='LayerNorm', val=0.5), 'initial weights'),
}

LION = BackboneCase(
    name='LION',
    kwargs=dict(
        arch=TINY_VIT,
        img_size=32,
        patch_size=8,
        mask_type='Selective',
        order='S',
        format='Chunk',
        chunk_size=4,
        pos_emb=True,
        out_type='featmap',
    ),
    live={
        **PLAIN_VIT_LIVE,
        'mask_type': Live('Decay', 'weights'),
        'order': Live('Normal', 'weights'),
        'format': Live('Attention', 'kept activations'),
        'chunk_size': Live(16, 'kept activations'),
        'train_gates': Live(False, 'trainable parameters'),
        'pos_emb': Live(False, 'weights'),
    },
    **PLAIN_VIT,
    bad_arguments=(
        (dict(arch=None), 'got None'),
        (dict(arch=TINY_VIT | dict(num_heads=0)), 'num_heads of'),
        (dict(arch=TINY_VIT | dict(num_layers=2.0)), 'num_layers of'),
        (dict(arch=TINY_VIT | dict(num_heads=5)), '24 with 5 heads'),
        (dict(img_size=0), 'img_size must be a positive side, or (H, W), got 0'),
        (dict(img_size=(8, 8, 8)), 'got (8, 8, 8)'),
        (dict(patch_size=0), 'patch_size must be an integer of at least 1, got 0'),
        (dict(patch_size=(8, 8)), 'patch_size must be an integer of at least 1, got (8, 8)'),
        (dict(mask_type='decay'), "mask_type must be one of ['Lit', 'Decay', 'Selective'], got"),
        (dict(order='Z'), "order must be one of ['Normal', 'S'], got 'Z'"),
        (dict(format='Fast'), "'auto'], got 'Fast'"),
        (dict(chunk_size=0), 'chunk_size must be an integer of at least 1, got 0'),
        (dict(mask_type='Lit', train_gates=False), 'no gates'),
        (dict(with_cls_token=False, out_type='cls_token'), 'leave with_cls_token at True'),
        (dict(out_type='avg_featmap'), "got 'avg_featmap'"),
        (dict(drop_path_rate=1.0), 'drop_path_rate must be in [0, 1), got 1.0'),
    ),
)

SMALL_LLAMA = dict(
    embed_dims=32,
    num_heads=4,
    feedforward_channels=48,
    checkpoint='random',
    dtype='float64',  # of its own, and so as fine as the finest check of the suite
)
VIT_LLAMA = BackboneCase(
    name='ViTLLaMA',
    kwargs=dict(arch=TINY_VIT, img_size=32, patch_size=8, llama=SMALL_LLAMA, out_type='featmap'),
    live={
        **PLAIN_VIT_LIVE,
        'llama': Live(SMALL_LLAMA | dict(num_blocks=2), 'outputs'),
    },
    **PLAIN_VIT,
    bad_arguments=(
        (dict(arch=TINY_VIT | dict(num_heads=5)), '24 with 5 heads'),
        (dict(with_cls_token=False, out_type='cls_token'), 'leave with_cls_token at True'),
        (dict(out_type='avg_featmap'), "got 'avg_featmap'"),
        (dict(llama=dict(dtype='int8')), "got 'int8'"),
        (dict(llama=dict(num_heads=3)), '4096 with 3 heads'),
    ),
    linears_of_buffers=7,
)

TINY_LVVIT = TINY_VIT | dict(skip_lam=2.0, stem_channels=8)
LVVIT = BackboneCase(
    name='LVViT',
    kwargs=dict(arch=TINY_LVVIT, img_size=32, patch_size=8, out_type='featmap'),
    live={
        **PLAIN_VIT_LIVE,
        'arch.skip_lam': Live(3.0, 'outputs'),
        'arch.stem_channels': Live(16, 'weights'),
        'mix_token': Live(False, 'items for a token head'),
    },
    **PLAIN_VIT
    | dict(
        compiled=dict(
            arch=dict(
                embed_dims=8,
                num_layers=1,
                num_heads=2,
                feedforward_channels=8,
                skip_lam=2.0,
                stem_channels=8,
            )
        )
    ),
    bad_arguments=(
        (dict(arch=TINY_LVVIT | dict(num_heads=5)), '24 with 5 heads'),
        (dict(arch=TINY_LVVIT | dict(skip_lam=0)), 'skip_lam of an arch must be'),
        (dict(arch=TINY_LVVIT | dict(skip_lam='2')), "above 0, got '2'"),
        (dict(arch=TINY_LVVIT | dict(stem_channels=0)), 'stem_channels of an arch must be'),
        (dict(patch_size=7), 'patch_size must be even, since the stem halves images first, got 7'),
        (dict(patch_size=0), 'patch_size must be an integer of at least 1, got 0'),
        (dict(with_cls_token=False, out_type='cls_token'), 'leave with_cls_token at True'),
        (dict(out_type='avg_featmap'), "'cls_and_patches'], got 'avg_featmap'"),
    ),
)


class DetectionTokenCase(BackboneCase):
    """A backbone that returns detection tokens, once, and has its layers from another one."""

    def settings(self, **changes) -> dict:
        changes.pop('out_indices', None)
        if 'drop_path_rate' in changes:
            rate = dict(drop_path_rate=changes.pop('drop_path_rate'))
            changes['vit'] = changes.get('vit', self.kwargs['vit']) | rate
        return self.kwargs | changes


VIT = dict(type='mmvitlin.LVViT', arch=TINY_LVVIT, patch_size=8)
DEIT = dict(type='mmpretrain.VisionTransformer', arch=TINY_VIT, patch_size=8)
YOLOS = DetectionTokenCase(
    name='YOLOSViT',
    kwargs=dict(vit=VIT, img_size=32, mid_img_size=(16, 24), num_det_tokens=5),
    strides=(8,),
    channels=(24,),
    live={
        'vit': Live(VIT | dict(arch=TINY_LVVIT | dict(num_layers=2)), 'weights'),
        'img_size': Live((32, 64), 'weights'),
        'mid_img_size': Live(None, 'weights'),
        'num_det_tokens': Live(6, 'weights'),
        'token_std': Live(0.5, 'initial weights'),
        'frozen_stages': Live(1, 'trainable parameters'),
        'with_cp': Live(True, 'kept activations'),
        'init_cfg': Live(dict(type='Constant', layer='LayerNorm', val=0.5), 'initial weights'),
    },
    frozen={
        0: ('patch_embed', 'cls_token', 'pre_norm'),
        1: ('layers.0',),
        2: ('layers.1',),
        3: ('layers.2',),
    },
    compiled=dict(
        vit=VIT | dict(arch=LVVIT.compiled['arch']),
        mid_img_size=None,
    ),
    sizes=((8, 8), (33, 47), (64, 64)),
    bad_arguments=(
        (dict(frozen_stages=4), 'got 4'),
        (dict(frozen_stages=-2), 'got -2'),
        (dict(num_det_tokens=0), 'num_det_tokens must be an integer of at least 1, got 0'),
        (dict(token_std=0.0), 'token_std must be above 0, got 0.0'),
        (dict(img_size=7), 'img_size must be at least a patch of 8 pixels, got 7'),
        (dict(img_size=(32, 32, 32)), 'got (32, 32, 32)'),
        (dict(mid_img_size=(32, 4)), 'mid_img_size must be at least a patch'),
        (dict(vit=DEIT | dict(out_type='raw', with_cls_token=False)), 'has no class token'),
        (dict(vit=DEIT | dict(final_norm=False)), 'has no norm after its last layer'),
        (dict(vit=dict(type='mmpretrain.SwinTransformer', arch='tiny')), 'has no `layers`'),
        (
            dict(vit=dict(type='mmpretrain.BEiTViT', arch='deit-tiny')),
            'the layers of BEiTViT need the position of each token',
        ),
        (
            dict(vit=dict(type='mmpretrain.ViTEVA02', arch='tiny')),
            'the layers of ViTEVA02 need the position of each token',
        ),
        (
            dict(vit=dict(type='mmvitlin.LION', arch=TINY_VIT)),
            'the layers of LION need the position of each token',
        ),
        (
            dict(vit=dict(type='mmvitlin.ViTLLaMA', arch=TINY_VIT, llama=SMALL_LLAMA)),
            'ViTLLaMA has a block after its layers',
        ),
    ),
)

MAP_CASES = (L2VIT, LION, LVVIT, VIT_LLAMA)  # have `arch` and `out_indices`, and return maps
CASES = (*MAP_CASES, YOLOS)
