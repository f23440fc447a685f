"""What tools/train.py and tools/test.py do between the command line and MMEngine's Runner."""

import argparse
import atexit
import gc
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import CheckpointLoader, Runner, find_latest_checkpoint
from torch import nn

from mmvitlin.checkpoints.safe_load import register_safe_loaders
from mmvitlin.checkpoints.state_dicts import describe, extract_state_dict, load_and_compare
from mmvitlin.engine.hosts import HOSTS
from mmvitlin.errors import CheckpointError, ConfigError

# What each launcher tells a process about its place, under torchrun's names.
PLACES = {
    'pytorch': {'RANK': 'RANK', 'WORLD_SIZE': 'WORLD_SIZE', 'LOCAL_RANK': 'LOCAL_RANK'},
    'slurm': {'RANK': 'SLURM_PROCID', 'WORLD_SIZE': 'SLURM_NTASKS', 'LOCAL_RANK': 'SLURM_LOCALID'},
    'mpi': {
        'RANK': 'OMPI_COMM_WORLD_RANK',
        'WORLD_SIZE': 'OMPI_COMM_WORLD_SIZE',
        'LOCAL_RANK': 'OMPI_COMM_WORLD_LOCAL_RANK',
    },
}
STARTERS = {
    'pytorch': 'tools/dist_train.sh or tools/dist_test.sh (torchrun)',
    'slurm': 'tools/slurm_train.sh or tools/slurm_test.sh (srun)',
    'mpi': 'mpirun',
}


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the program with one line where the command, config or checkpoint is at fault."""
    try:
        yield
    except (ConfigError, CheckpointError) as error:
        raise SystemExit(f'error: {error}') from None


class Options(DictAction):
    """DictAction, naming what is not KEY=VALUE."""

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


def load_config(path: str, options: dict | None, work_dir: str | None) -> Config:
    """Read a config, apply `--cfg-options` and `--work-dir`, and import its host.

    Raises:
        ConfigError: there is no such file, it cannot be read, its scope is none of ours, or the
            package behind the scope cannot be imported.
    """
    if not Path(path).is_file():
        raise ConfigError(f'there is no config at {path}; check the path, from {Path.cwd()}')
    try:
        cfg = Config.fromfile(path)
        if options is not None:
            cfg.merge_from_dict(options)
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

    MMEngine does the joining where there is an accelerator.

    Raises:
        ConfigError: the launcher's environment variables are not there.
    """
    cfg.launcher = launcher
    if launcher == 'none':
        return
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


def has_accelerator() -> bool:
    """Whether MMEngine trains on something other than the CPU."""
    return get_device() != 'cpu'


def set_amp_training(cfg: Config) -> None:
    """Train in mixed precision, unless the config says how already."""
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
    # MMEngine compares the images of one iteration, however many iterations make a batch.
    cfg.auto_scale_lr.base_batch_size /= cfg.optim_wrapper.get('accumulative_counts', 1)


def set_resume(cfg: Config, checkpoint: str) -> None:
    """Resume from `checkpoint`, or for 'auto' from the latest one of the work directory.

    Where there is none yet, the run starts as without the option, from the config's `load_from`.
    """
    if checkpoint == 'auto':
        checkpoint = find_latest_checkpoint(cfg.work_dir)
        if checkpoint is None:
            print_log(f'There is nothing to resume in {cfg.work_dir}: starting anew', 'current')
            return
    cfg.resume = True
    cfg.load_from = existing_checkpoint(checkpoint)


def set_safe_checkpoints(cfg: Config) -> None:
    """Load no pickle that could run code; save checkpoints that need none.

    A config of one of the hosts gets our SafeCheckpointHook, with its own settings, in the place of
    MMEngine's CheckpointHook.
    """
    register_safe_loaders()
    cfg.default_hooks = cfg.get('default_hooks') or {}
    hook = cfg.default_hooks.setdefault('checkpoint', dict(type=CheckpointHook, interval=1))
    if hook and hook['type'] in (CheckpointHook, 'CheckpointHook', 'mmengine.CheckpointHook'):
        hook['type'] = 'mmvitlin.SafeCheckpointHook'
        print_log('Checkpoints are saved by mmvitlin.SafeCheckpointHook', 'current')


def existing_checkpoint(path: str) -> str:
    """Return `path`, a URL or a file that is there."""
    if '://' not in path and not Path(path).expanduser().is_file():
        raise ConfigError(f'there is no checkpoint at {path}; check the path, from {Path.cwd()}')
    return path


def build_runner(cfg: Config) -> Runner:
    """Build the runner that the config asks for."""
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def check_resumed(runner: Runner) -> None:
    """Check that the checkpoint to resume from, if any, is one of the model to train."""
    if runner._resume and runner._load_from:
        check_fit(runner, runner._load_from)


def check_fit(runner: Runner, checkpoint: str) -> None:
    """Refuse to test or resume a checkpoint of another model, as `load_whole` does.

    MMEngine loads what fits and goes on, with random weights for the rest.
    """
    model = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    load_whole(model, checkpoint)


def load_whole(model: nn.Module, checkpoint: str) -> None:
    """Load the checkpoint of a model, all of it.

    Raises:
        ConfigError: a weight is missing, left over, or of another shape.
        CheckpointError: there are no weights in it.
    """
    loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    weights = extract_state_dict(loaded, checkpoint)
    differences = load_and_compare(model, weights)
    if differences:
        count = len(model.state_dict())
        raise ConfigError(
            f'{checkpoint} is not a checkpoint of this config: of {count} weights '
            f'{describe(differences)}. Check that the two belong together.'
        )


def _leave_gloo() -> None:
    """Let gloo's threads end before Python does: one that then still wants the GIL aborts it."""
    gc.collect()  # the runner and its data parallel model, which hold the group
    torch.distributed.destroy_process_group()
    time.sleep(0.2)  # without the GIL, for a thread that the group did not join


def _replace_sync_bn(node: object) -> bool:
    """Turn each `type='SyncBN'` in a part of a config into BN; say whether there was one."""
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
