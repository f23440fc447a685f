"""Layer-wise learning-rate decay (arXiv 2106.08254) in all three hosts."""

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmvitlin.registry import OPTIM_WRAPPER_CONSTRUCTORS, register

OPTIONS = (
    'layer_decay_rate',
    'custom_keys',
    'bias_lr_mult',
    'bias_decay_mult',
    'norm_decay_mult',
    'flat_decay_mult',
    'dwconv_decay_mult',
    'dcn_offset_lr_mult',
    'bypass_duplicate',
)


@register(OPTIM_WRAPPER_CONSTRUCTORS)
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor with learning rates that decrease towards the backbone's input.

    A parameter at depth d of a backbone of L layers gets lr * layer_decay_rate ** (L - 1 - d); the
    model asks its backbone: `model.backbone.get_layer_depth(name, 'backbone.')`, mmpretrain's
    convention. Parameters outside of the backbone get the full rate. A detector and a segmentor
    have a `backbone` as a classifier has, so one constructor serves all of them, wrapped for data
    parallel training or not:

        optim_wrapper = dict(
            optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
            constructor='mmvitlin.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.8, norm_decay_mult=0.0, bias_decay_mult=0.0))

    Parameters that share all settings share a group, so that an optimizer steps them at once.

    Args:
        optim_wrapper_cfg: as in MMEngine; the optimizer must give its `lr`.
        paramwise_cfg: `layer_decay_rate`, in (0, 1], and any of MMEngine's options: `custom_keys`
            (with `lr_mult`, `decay_mult`), `norm_decay_mult`, `bias_decay_mult`, and so on. An
            `lr_mult` multiplies the layer's rate. Parameters that the backbone names in
            `no_weight_decay()` do not decay unless `custom_keys` matches them. L2ViT's temperatures
            (heads, 1, 1) decay like weights, as in the original;
            `custom_keys=dict(temperature=dict(decay_mult=0.0))` exempts them.

    Raises:
        ValueError: no learning rate, no `layer_decay_rate`, one out of range, or an unknown option.
        TypeError: the backbone has no `get_layer_depth`.
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        unknown = sorted(set(self.paramwise_cfg) - set(OPTIONS))
        if unknown:
            raise ValueError(f'paramwise_cfg has no option {unknown}; choose from {list(OPTIONS)}')
        rate = self.paramwise_cfg.get('layer_decay_rate')
        if not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise ValueError(
                'paramwise_cfg must give layer_decay_rate, a number in (0, 1], such as 0.8; '
                f'got {rate!r}'
            )
        if self.base_lr is None:
            raise ValueError(f'the optimizer must give its lr, got {self.optimizer_cfg}')

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: bool | None = None,
    ) -> None:
        """Append `module`'s parameters to `params`; for the whole model, scale rates by depth."""
        super().add_params(params, module, prefix, is_dcn_module)
        if not prefix:
            params[:] = _merge(self._scale_by_depth(params, module))

    def _scale_by_depth(self, groups: list[dict], model: nn.Module) -> list[dict]:
        backbone = getattr(model, 'backbone', None)
        if not hasattr(backbone, 'get_layer_depth'):
            raise TypeError(
                'layer-wise decay needs model.backbone.get_layer_depth(name, prefix), and the '
                f'backbone of {type(model).__name__} is a {type(backbone).__name__} without one; '
                'use a backbone that has it, or leave constructor out'
            )
        names = {parameter: name for name, parameter in model.named_parameters()}
        rate, scales = self.paramwise_cfg['layer_decay_rate'], {}
        spared: set[str] = getattr(backbone, 'no_weight_decay', set)()
        custom_keys = self.paramwise_cfg.get('custom_keys', {})
        for group in groups:
            (parameter,) = group['params']
            name = names[parameter]
            if name.removeprefix('backbone.') in spared and not any(k in name for k in custom_keys):
                group['weight_decay'] = 0.0
            depth, num_layers = backbone.get_layer_depth(name, 'backbone.')
            scales[depth] = rate ** (num_layers - 1 - depth)
            group['lr'] = group.get('lr', self.base_lr) * scales[depth]
        described = ', '.join(f'{depth}: {scale:.3g}' for depth, scale in sorted(scales.items()))
        print_log(f'lr of each layer over the full {self.base_lr:.3g}: {described}', 'current')
        return groups


def _merge(groups: list[dict]) -> list[dict]:
    """Put parameters with equal settings into one group, in order of first appearance."""
    merged: list[dict] = []
    for group in groups:
        for other in merged:
            if {**other, 'params': None} == {**group, 'params': None}:
                other['params'] += group['params']
                break
        else:
            merged.append(group)
    return merged
