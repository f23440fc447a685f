# What every run of mmsegmentation shares: hooks, processes, logging. Runs count iterations.
default_scope = 'mmseg'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    progress=dict(type='mmvitlin.ProgressHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='mmvitlin.SafeCheckpointHook', by_epoch=False, interval=16000),
    random_state=dict(type='mmvitlin.RandomStateHook'),
    finite_loss=dict(type='mmvitlin.FiniteLossHook'),
    interrupt=dict(type='mmvitlin.InterruptHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
)

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

visualizer = dict(
    type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer'
)
log_processor = dict(by_epoch=False)
tta_model = dict(type='SegTTAModel')
log_level = 'INFO'
load_from = None
resume = False
