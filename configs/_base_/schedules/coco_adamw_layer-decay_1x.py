# The same with a learning rate that falls by 0.7 a layer towards the input, as ViTDet's
# (arXiv 2203.16527); only matrices of layers decay.
_base_ = './coco_adamw_1x.py'

optim_wrapper = dict(
    constructor='mmvitlin.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.7,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
    ),
)
