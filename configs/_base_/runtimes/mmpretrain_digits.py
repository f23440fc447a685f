# Short runs on digits: seeded, with a line of log every ten iterations, the last two checkpoints,
# and the best of the average and of the raw model.
_base_ = './mmpretrain.py'

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=5, max_keep_ckpts=2, save_best=['accuracy/top1', 'raw/accuracy/top1']),
)
randomness = dict(seed=0)
