# The same with a learning rate that falls by 0.75 a layer towards the input; only matrices of
# layers decay.
_base_ = './ade20k_adamw_160k.py'

optim_wrapper = dict(
    constructor='mmvitlin.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.75,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
    ),
)
