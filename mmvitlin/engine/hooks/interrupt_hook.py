"""Hook that saves a checkpoint when a signal ends the training."""

import signal
import threading
from types import FrameType

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmvitlin.engine.hooks.safe_checkpoint_hook import SafeCheckpointHook
from mmvitlin.engine.loops import ResumableEpochLoop
from mmvitlin.registry import HOOKS, register

SIGNALS = tuple(
    getattr(signal, name) for name in ('SIGTERM', 'SIGINT', 'SIGUSR1') if hasattr(signal, name)
)


@register(HOOKS)
class InterruptHook(Hook):
    """Save a checkpoint on SIGTERM, SIGINT or SIGUSR1, and end with exit code 128 + signal.

    That happens after the running iteration, with gradient accumulation after the running step of
    the optimizer. A signal during validation waits for the next iteration. All processes end after
    the same iteration, no matter which of them got the signal. A second signal ends the process at
    once.

    MMEngine's own loop by epoch cannot go on within an epoch: with it the hook does nothing. It
    saves by SafeCheckpointHook, which the run must have.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.received = 0
        self._previous: dict = {}

    def before_train(self, runner: Runner) -> None:
        """Catch the signals, if this is the main thread."""
        loop = runner.train_loop
        saves = any(isinstance(hook, SafeCheckpointHook) for hook in runner.hooks)
        goes_on = isinstance(loop, ResumableEpochLoop) or not isinstance(loop, EpochBasedTrainLoop)
        if saves and goes_on and threading.current_thread() is threading.main_thread():
            # Loader workers, which are forked later, inherit this and outlive the first signal.
            self._previous = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Save and end, if a process got a signal.

        Raises:
            SystemExit: the training ends here.
        """
        if not self._previous or not runner.optim_wrapper.should_update():
            return
        number = self.received
        if runner.distributed:
            flag = torch.tensor(number)
            all_reduce(flag, 'max')
            number = int(flag)
        if not number:
            return
        hook = next(hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook))
        path = hook.save_now(runner)
        if is_main_process():
            name = signal.Signals(number).name
            runner.logger.info(f'{name}: saved {path}; go on by --resume')
        self._restore()
        raise SystemExit(128 + number)

    def after_train(self, runner: Runner) -> None:
        """Restore the signal handlers."""
        self._restore()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        for other in SIGNALS:
            signal.signal(other, signal.SIG_DFL)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
