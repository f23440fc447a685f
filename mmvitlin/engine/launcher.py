"""Steps from the command lines of tools/train.py and tools/test.py to MMEngine's Runner."""

import argparse
import atexit
import ctypes
import errno
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmvitlin.compat import is_resuming
from mmvitlin.engine.checks import check_options
from mmvitlin.engine.hooks.interrupt_hook import SIGNALS
from mmvitlin.engine.hooks.whole_checkpoint_hook import WholeCheckpointHook
from mmvitlin.engine.hosts import HOSTS
from mmvitlin.engine.run_log import ConciseRunner
from mmvitlin.engine.work_dir import find_newest
from mmvitlin.errors import ConfigError

# Environment variables of each launcher, under torchrun's names.
PLACES = {
    'pytorch': {'RANK': 'RANK', 'WORLD_SIZE': 'WORLD_SIZE', 'LOCAL_RANK': 'LOCAL_RANK'},
    'slurm': {'RANK': 'SLURM_PROCID', 'WORLD_SIZE': 'SLURM_NTASKS', 'LOCAL_RANK': 'SLURM_LOCALID'},
    'mpi': {
        'RANK': 'OMPI_COMM_WORLD_RANK',
        'WORLD_SIZE': 'OMPI_COMM_WORLD_SIZE',
        'LOCAL_RANK': 'OMPI_COMM_WORLD_LOCAL_RANK',
    },
}
PACKAGE = __name__.partition('.')[0]
PR_SET_PDEATHSIG = 1  # of Linux's prctl
# Seconds that other processes wait for the first to print the error and end the run.
PATIENCE = 10.0
GLOO = 'gloo/transport'  # part of gloo's errors about a lost connection
# What to do about a full disk, a quota, and a limit on the size of files.
ADVICE: dict[int | None, str] = dict.fromkeys(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    '; make space and go on by --resume: the last checkpoint is whole',
)
# What to do about an error of a host, by a part of its message.
HINTS = {
    'The number of subfolders': " Name the folders' classes, as in train_dataloader.dataset."
    "metainfo=dict(classes=('cat', 'dog')), for val_dataloader and test_dataloader as well, and "
    'set model.head.num_classes.',
}
STARTERS = {
    'pytorch': 'tools/dist_train.sh or tools/dist_test.sh (torchrun)',
    'slurm': 'tools/slurm_train.sh or tools/slurm_test.sh (srun)',
    'mpi': 'mpirun',
}


@contextmanager
def one_line_errors(traceback: bool = False) -> Iterator[None]:
    """End the program with one line and exit code 1 for errors that the user can mend.

    Those are this package's own errors and the file system's. Of several processes the first prints
    the error; another prints it only if the first does not end the run.

    Args:
        traceback: raise the error instead.
    """
    try:
        yield
    except Exception as error:
        is_lost = isinstance(error, RuntimeError) and GLOO in str(error)
        if traceback or not (is_lost or _is_ours(error) or isinstance(error, OSError)):
            raise
        if is_lost:
            raise SystemExit(
                'error: another process of this run has ended; the lines around this one say which'
            ) from None
        if int(os.environ.get('RANK', 0)) > 0:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            time.sleep(PATIENCE)
        advice = ADVICE.get(getattr(error, 'errno', None), '')
        raise SystemExit(f'error: {summarise(error)}{advice}') from None


class SetUp(Hook):
    """Hook that notes the end of the set-up, the first batch."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.done = False

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Enter training."""
        self.done = True

    def before_test_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Enter testing."""
        self.done = True


@contextmanager
def set_up_errors() -> Iterator[SetUp]:
    """Turn every error before the first batch into a ConfigError.

    Models, data sets and schedules of the hosts raise many types of errors for bad arguments.

    Yields:
        The hook that notes the end of the set-up, to be registered in the runner.
    """
    hook = SetUp()
    try:
        yield hook
    except Exception as error:
        if hook.done or isinstance(error, OSError) or _is_ours(error):
            raise
        raise ConfigError(f'{summarise(error)} (--traceback shows where)') from error


def summarise(error: Exception) -> str:
    """Summarise an error in one line, also one that a loader worker or a registry has wrapped."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    name = type(error).__name__
    if 'Original Traceback' in text:  # a worker's
        kind, _, message = lines[-1].partition(': ')
        return message if kind.startswith(PACKAGE) else lines[-1]
    if _is_ours(error) or not lines:
        return ' '.join(lines) or name
    if isinstance(error, KeyError) and len(lines[0].split()) == 1:
        return f'the config has no {lines[0]}'
    hint = next((hint for part, hint in HINTS.items() if part in text), '')
    return f'{name}: {" ".join(lines)}{hint}'


def _is_ours(error: Exception) -> bool:
    """Return whether this package defines the error, without importing its modules."""
    return type(error).__module__.partition('.')[0] == PACKAGE


class Options(DictAction):
    """DictAction with an error that names a value which is not KEY=VALUE."""

    def __call__(self, parser, namespace, values, option_string=None):
        for value in values:
            if '=' not in value:
                parser.error(f'{option_string} takes KEY=VALUE, got {value!r}')
        super().__call__(parser, namespace, values, option_string)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add the argument that overrides a config."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        metavar='KEY=VALUE',
        help='settings that override the config, such as model.backbone.window_size=12; '
        'a list is written key="[a,b]", without white space',
    )


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that training and testing share."""
    parser.add_argument('--work-dir', help='where logs and results go')
    add_cfg_options(parser)
    parser.add_argument(
        '--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS
    )  # torch.distributed.launch passes it, and sets LOCAL_RANK as well
    parser.add_argument(
        '--launcher', choices=['none', *PLACES], default='none', help='what starts the processes'
    )
    parser.add_argument('--amp', action='store_true', help='run in mixed precision')
    parser.add_argument(
        '--traceback', action='store_true', help='show where an error was raised, not one line'
    )


def load_config(path: str, options: dict | None, work_dir: str | None) -> Config:
    """Read a config, apply `--cfg-options` and `--work-dir`, and import its host.

    Raises:
        ConfigError: there is no such file, it cannot be read, its scope is none of ours, or the
            host of the scope cannot be imported; or an option names no setting.
    """
    if not Path(path).is_file():
        raise ConfigError(f'there is no config at {path}; check the path, from {Path.cwd()}')
    try:
        cfg = Config.fromfile(path)
        if options is not None:
            check_options(options, cfg)
            cfg.merge_from_dict(options)
    except ConfigError:
        raise
    except Exception as error:  # a config is a program: anything can be raised in it
        reason = next(iter(str(error).splitlines()), '')
        raise ConfigError(f'{path} cannot be read: {type(error).__name__}: {reason}') from error
    scope = cfg.get('default_scope')
    if scope not in HOSTS:
        raise ConfigError(
            f'{path} has default_scope={scope!r}; set it to one of {", ".join(HOSTS)}, which says '
            'whose registries, data loaders and metrics the run takes'
        )
    try:
        import_module(scope)
    except (ImportError, AssertionError) as error:  # the hosts assert mmcv's version
        raise ConfigError(f'{path} needs {scope}, which does not import: {error}') from error
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = f'./work_dirs/{Path(path).stem}'
    return cfg


def set_launcher(cfg: Config, launcher: str) -> None:
    """Prepare `cfg` for data parallel running; on a CPU, join the processes by gloo.

    With an accelerator, MMEngine joins the processes.

    Raises:
        ConfigError: the launcher's environment variables are not there.
    """
    cfg.launcher = launcher
    if launcher == 'none':
        return
    die_with_parent()
    missing = [name for name in PLACES[launcher].values() if name not in os.environ]
    if missing:
        raise ConfigError(
            f'--launcher {launcher} finds no {", ".join(missing)} in the environment; start the '
            f'run by {STARTERS[launcher]}, or leave the option out to run one process'
        )
    if has_accelerator():
        return
    for name, source in PLACES[launcher].items():
        os.environ[name] = os.environ[source]
    if launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
        os.environ['MASTER_ADDR'] = _first_slurm_node()
    os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
    os.environ.setdefault('MASTER_PORT', '29500')
    torch.distributed.init_process_group('gloo')
    atexit.register(_leave_gloo)
    if _replace_sync_bn(cfg.model):
        print_log('SyncBN needs a GPU: each process normalises its own batch', 'current')
    cfg.setdefault(
        'model_wrapper_cfg',
        dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        ),
    )


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent ends for any reason.

    Linux only: elsewhere, processes outlive a killed launcher.
    """
    if not sys.platform.startswith('linux'):
        return
    parent = os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), 'prctl(PR_SET_PDEATHSIG) failed')
    if os.getppid() != parent:  # it ended before the call
        os.kill(os.getpid(), signal.SIGKILL)


def is_first_process(launcher: str) -> bool:
    """Return whether this process is rank 0, before the processes have joined."""
    return launcher == 'none' or os.environ.get(PLACES[launcher]['RANK'], '0') == '0'


def has_accelerator() -> bool:
    """Return whether MMEngine trains on something other than the CPU."""
    return get_device() != 'cpu'


def set_amp_training(cfg: Config) -> None:
    """Train in mixed precision, unless the config already does."""
    if cfg.optim_wrapper.get('type') == 'mmvitlin.MixedPrecisionOptimWrapper':
        return
    if not has_accelerator():
        raise ConfigError('--amp needs an accelerator, and torch finds none; leave the option out')
    if cfg.optim_wrapper.get('type', 'OptimWrapper') not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ConfigError(
            f'--amp goes with the optimizer wrapper OptimWrapper, got {cfg.optim_wrapper.type}; '
            'set mixed precision in the config'
        )
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def set_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate by the batch size in use over the config's."""
    if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
        raise ConfigError(
            '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config: the '
            'total batch size that its learning rate is for'
        )
    cfg.auto_scale_lr.enable = True
    # MMEngine compares images per iteration, and does not count accumulated iterations.
    cfg.auto_scale_lr.base_batch_size /= cfg.optim_wrapper.get('accumulative_counts', 1)


def set_resume(cfg: Config, checkpoint: str) -> None:
    """Resume from `checkpoint`, or for 'auto' from the newest whole one of the work directory.

    If there is none yet, the run starts as without the option, from the config's `load_from`.
    """
    if checkpoint == 'auto':
        newest = find_newest(cfg)
        if newest is None:
            print_log(f'There is nothing to resume in {cfg.work_dir}: starting anew', 'current')
            return
        print_log(f'Resuming from {newest}', 'current')
        checkpoint = newest
    cfg.resume = True
    cfg.load_from = existing_checkpoint(checkpoint)


def existing_checkpoint(path: str) -> str:
    """Return `path`, a URL or an existing file."""
    if '://' not in path and not Path(path).expanduser().is_file():
        raise ConfigError(f'there is no checkpoint at {path}; check the path, from {Path.cwd()}')
    return path


def build_runner(cfg: Config) -> Runner:
    """Build the runner that the config asks for."""
    return RUNNERS.build(cfg) if 'runner_type' in cfg else ConciseRunner.from_cfg(cfg)


def check_resumed(runner: Runner) -> None:
    """Check the checkpoint to resume from, if any, when the runner loads it.

    A strategy of FlexibleRunner checks it by itself, since it has parts of the model only.
    """
    if isinstance(runner, Runner) and is_resuming(runner) and runner.cfg.get('load_from'):
        check_fit(runner, runner.cfg.load_from)


def check_fit(runner: Runner, checkpoint: str) -> None:
    """Register the hook that refuses the checkpoint of another model."""
    runner.register_hook(WholeCheckpointHook(checkpoint))


def _leave_gloo() -> None:
    """Let gloo's threads end before Python: a thread that needs the GIL later aborts Python."""
    gc.collect()  # the runner and its data parallel model, which hold the group
    torch.distributed.destroy_process_group()
    time.sleep(0.2)  # without the GIL, for a thread that the group did not join


def _replace_sync_bn(node: dict | list) -> bool:
    """Turn each `type='SyncBN'` in a part of a config into BN; return whether there was one."""
    children = node.values() if isinstance(node, dict) else node
    found = [_replace_sync_bn(child) for child in children if isinstance(child, (dict, list))]
    if isinstance(node, dict) and node.get('type') == 'SyncBN':
        node['type'] = 'BN'
        return True
    return any(found)


def _first_slurm_node() -> str:
    nodes = os.environ.get('SLURM_NODELIST', '127.0.0.1')
    try:
        listed = subprocess.run(
            ['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(
            f'cannot ask scontrol for the first node of {nodes} ({error}); set MASTER_ADDR'
        ) from error
    return listed.stdout.split()[0]
