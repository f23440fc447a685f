# Shards parameters, gradients and the optimizer's state over the processes (FSDP). The parameters
# of a block are gathered for its forward and its backward pass only.
runner_type = 'FlexibleRunner'
strategy = dict(
    type='mmvitlin.ShardedStrategy',
    wrap=['LocalWindowBlock', 'LinearGlobalBlock', 'TransformerLayer'],
)
