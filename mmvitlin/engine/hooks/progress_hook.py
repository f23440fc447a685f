"""Progress of a training in the lines of the log."""

import platform
import resource
import sys
from collections import Counter, deque
from importlib.metadata import PackageNotFoundError, version

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from mmvitlin.registry import HOOKS, register

PACKAGES = {'mmpretrain': 'mmpretrain', 'mmdet': 'mmdet', 'mmseg': 'mmsegmentation'}
# ru_maxrss counts KiB on Linux, bytes on macOS.
RSS_UNIT = 2**20 if sys.platform == 'darwin' else 2**10


@register(HOOKS)
class ProgressHook(Hook):
    """Images per second and memory in each line of the log; machine and optimizer at its start.

    Images of all processes are counted, over the time from one iteration's end to the next, data
    loading included. Memory is the peak of this process in MiB: MMEngine logs it for a GPU; without
    one this hook logs resident memory.

    Args:
        window: number of iterations over which images per second are averaged.
    """

    priority = 'NORMAL'  # after IterTimerHook, which stands first, and before LoggerHook

    def __init__(self, window: int = 50):
        self._recent: deque[tuple[float, int]] = deque(maxlen=window)  # seconds and images

    def before_train(self, runner: Runner) -> None:
        """Log the machine, the packages and the optimizer, a line each."""
        self._recent.clear()
        runner.logger.info(describe_machine(runner.cfg.get('default_scope')))
        if isinstance(runner.optim_wrapper, OptimWrapper):
            runner.logger.info(describe_optimizer(runner.optim_wrapper))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: dict | None = None
    ) -> None:
        """Put images per second and memory into the next line."""
        timed = runner.message_hub.log_scalars.get('train/time')  # by IterTimerHook
        if timed is not None and data_batch is not None:
            images = len(data_batch['inputs']) * get_world_size()
            self._recent.append((timed.current(), images))
            seconds = sum(seconds for seconds, _ in self._recent)
            rate = sum(images for _, images in self._recent) / seconds
            runner.message_hub.update_scalar('train/images_per_second', shorten(rate))
        if not torch.cuda.is_available():
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT / 2**20
            runner.message_hub.update_scalar('train/memory', round(peak))


def shorten(rate: float) -> float:
    """Round a rate to a whole number, or below 10 to one decimal."""
    return round(rate) if rate >= 10 else round(rate, 1)


def describe_machine(scope: str | None) -> str:
    """Describe interpreter, packages and device in a line."""
    names = ['torch', 'mmengine', 'mmcv', *filter(None, [PACKAGES.get(scope or '')]), 'mmvitlin']
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        device = f'{count} x {torch.cuda.get_device_name()}'
    else:
        device = f'CPU, {torch.get_num_threads()} threads'
    packages = ', '.join(f'{name} {version_of(name)}' for name in names)
    return f'Python {platform.python_version()}, {packages}; {device}'


def version_of(package: str) -> str:
    """Return the version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:  # a checkout on PYTHONPATH
        return '(not installed)'


def describe_optimizer(wrapper: OptimWrapper) -> str:
    """Describe an optimizer, and the rates and decays of its parameters, in a line."""
    counts: Counter[tuple[float, float]] = Counter()
    for group in wrapper.param_groups:
        rate = group.get('initial_lr', group['lr'])
        counts[rate, group.get('weight_decay', 0.0)] += sum(p.numel() for p in group['params'])
    kinds = '; '.join(
        f'{count / 1e6:.2f}M with lr {rate:.3g}, weight decay {decay:g}'
        for (rate, decay), count in counts.most_common(4)
    )
    more = f'; and {len(counts) - 4} more' if len(counts) > 4 else ''
    name = type(wrapper.optimizer).__name__
    return f'{name} in {type(wrapper).__name__}: {kinds}{more} (parameters)'
