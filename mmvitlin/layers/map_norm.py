"""Normalisation of maps (B, C, H, W), built from a config."""

import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

LAYER_NORMS = ('LN', 'LN2d')  # names of LayerNorm2d in the hosts' configs
EPS = 1e-6  # of vision transformers


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of each position: (B, C, H, W) -> same, in channels_last."""

    def __init__(self, channels: int, eps: float = EPS):
        super().__init__(channels, eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


def build_map_norm(norm_cfg: dict | None, channels: int) -> nn.Module:
    """Build a norm from a config.

    Args:
        norm_cfg: `dict(type='LN')` for `LayerNorm2d`, in every host; else a norm of mmcv, such as
            `dict(type='BN')`, 'SyncBN', or `dict(type='GN', num_groups=32)`, with its options.
            `requires_grad=False` freezes any of them. None for no norm.
        channels: of the maps.

    Raises:
        ValueError: no `type`, or an unknown norm.
    """
    if norm_cfg is None:
        return nn.Identity()
    if not isinstance(norm_cfg, dict) or 'type' not in norm_cfg:
        raise ValueError(
            "norm_cfg must be a dict with a type, such as dict(type='LN'), or None, "
            f'got {norm_cfg!r}'
        )
    if norm_cfg['type'] in LAYER_NORMS:
        keys = ('type', 'requires_grad')  # of the config, not arguments of the module
        norm = LayerNorm2d(channels, **{k: v for k, v in norm_cfg.items() if k not in keys})
        return norm.requires_grad_(norm_cfg.get('requires_grad', True))
    try:
        return build_norm_layer(norm_cfg, channels)[1]
    except (KeyError, AssertionError) as error:
        raise ValueError(
            f"norm_cfg={dict(norm_cfg)} names no norm of mmcv: take 'LN' (over channels), 'BN', "
            f"'SyncBN' or 'GN' with num_groups ({error})"
        ) from error
