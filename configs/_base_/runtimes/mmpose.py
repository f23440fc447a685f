# What every run of mmpose shares: hooks, processes, logging.
default_scope = 'mmpose'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    progress=dict(type='mmvitlin.ProgressHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='mmvitlin.SafeCheckpointHook', interval=1),
    random_state=dict(type='mmvitlin.RandomStateHook'),
    finite_loss=dict(type='mmvitlin.FiniteLossHook'),
    interrupt=dict(type='mmvitlin.InterruptHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='PoseVisualizationHook', enable=False),
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

visualizer = dict(
    type='PoseLocalVisualizer',
    vis_backends=[dict(type='LocalVisBackend')],
    name='visualizer',
    backend='matplotlib',  # mmpose 1.3.2 draws no point by OpenCV with numpy 2.4
)
log_level = 'INFO'
load_from = None
resume = False
