# Short runs on digits: seeded, with a line of log every ten iterations and two checkpoints.
_base_ = './mmpretrain.py'

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=5, max_keep_ckpts=2),
)
randomness = dict(seed=0)
