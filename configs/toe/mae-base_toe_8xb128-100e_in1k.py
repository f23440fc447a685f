"""ViT-base, pre-trained by MAE, fine-tuned with token expansion. MAE reports 83.6 top-1 without.

tools/dist_train.sh configs/toe/mae-base_toe_8xb128-100e_in1k.py 8

It starts from mmpretrain's checkpoint of mae_vit-base-p16_8xb512-amp-coslr-1600e_in1k: put it at
checkpoints/mae-base_in1k.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT`.
`--cfg-options custom_hooks=[]` fine-tunes without token expansion.
"""

_base_ = [
    '../_base_/models/deit_classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_adamw_pretrained_100e.py',
    '../_base_/runtimes/mmpretrain.py',
    '../_base_/curricula/toe_deit.py',
]

model = dict(
    backbone=dict(
        type='VisionTransformer',
        arch='base',
        out_type='avg_featmap',
        final_norm=False,  # the mean of the patches has its own norm
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/mae-base_in1k.pth', prefix='backbone.'
        ),
    ),
    head=dict(in_channels=768, init_cfg=dict(std=2e-5)),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={'.cls_token': dict(decay_mult=0.0), '.pos_embed': dict(decay_mult=0.0)}
    )
)
custom_hooks = [dict(_base_.token_expansion, expansion_step=(0, 1 / 3, 2 / 3))]
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='accuracy/top1'))
randomness = dict(seed=0, diff_rank_seed=True)
