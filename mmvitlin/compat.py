"""Private attributes of hosts that the package needs, with the version that each was tried on."""

from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.runner import Runner

# mmengine 0.10.7: the base class of schedulers, exported under this name only.
ParamScheduler = _ParamScheduler


def accumulative_counts(wrapper: OptimWrapper) -> int:
    """Return the number of batches per optimiser step (mmengine 0.10.7: no public getter)."""
    return wrapper._accumulative_counts


def is_resuming(runner: Runner) -> bool:
    """Whether a runner goes on with a training. MMEngine 0.10.7 has no public name for it."""
    return runner._resume
