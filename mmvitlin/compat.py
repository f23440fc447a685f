"""Every private attribute of a host that this package reads, with the version it was tried on."""

from mmengine.runner import Runner


def is_resuming(runner: Runner) -> bool:
    """Whether a runner goes on with a training. MMEngine 0.10.7 has no public name for it."""
    return runner._resume
