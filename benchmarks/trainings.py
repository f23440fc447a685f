"""Whole trainings: a single one, or several that alternate epoch by epoch.

When several configs alternate, each trains in its own process, which waits while another one trains
an epoch. Times are those of training epochs, without validation and checkpoints.
"""

import argparse
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np
import torch
from harness import log
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmvitlin.engine.launcher import add_cfg_options


class TakeTurns(Hook):
    """Hook that trains an epoch when it is told to, and keeps its wall-clock and CPU seconds."""

    priority = 'HIGHEST'

    def __init__(self, connection: Connection):
        self.connection, self.seconds, self.cpu_seconds = connection, [], []

    def before_train_epoch(self, runner: Runner) -> None:
        """Report that this process is waiting, and wait."""
        self.connection.send('waiting')
        self.connection.recv()
        self.started = perf_counter(), process_time()

    def after_train_epoch(self, runner: Runner) -> None:
        """Stop the clock, before validation and checkpoints."""
        self.seconds.append(perf_counter() - self.started[0])
        self.cpu_seconds.append(process_time() - self.started[1])


def train(path: Path, work_dir: str | Path, changes: dict, *hooks: Hook) -> float:
    """Train a config in `work_dir`, with `changes` as in `--cfg-options`.

    Returns:
        Accuracy on the held-out images after the last epoch (%).
    """
    cfg = Config.fromfile(path)
    cfg.merge_from_dict({'log_level': 'ERROR', **changes})
    cfg.work_dir, cfg.experiment_name = str(work_dir), str(work_dir).replace('/', '_')
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return float(runner.message_hub.get_scalar('val/accuracy/top1').current())


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of trainings."""
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1], help='seeds (default: 0 1)')
    add_cfg_options(parser)


def compare_trainings(configs: dict[str, Path], peer: str, options: argparse.Namespace) -> dict:
    """Train configs with every seed; print and return accuracies and times.

    `--cfg-options` apply to all configs.
    """
    log('trainings ')
    changes = options.cfg_options or {}
    runs = [
        train_in_turns(configs, {'randomness.seed': seed, **changes}, options.threads)
        for seed in options.seeds
    ]
    log('\n')
    others = [name for name in configs if name != peer]
    ratios = {
        name: {
            key: [sum(run[name][key]) / sum(run[peer][key]) for run in runs]
            for key in ('seconds', 'cpu_seconds')
        }
        for name in others
    }
    print('\n| digits, by seed | top-1 (%) | mean | seconds of training | CPU seconds |')
    print('|---|---|--:|---|---|')
    for name in configs:
        accuracies = [run[name]['accuracy'] for run in runs]
        cells = [', '.join(f'{value:.2f}' for value in accuracies), f'{np.mean(accuracies):.2f}']
        for key in ('seconds', 'cpu_seconds'):
            cells.append(', '.join(f'{sum(run[name][key]):.1f}' for run in runs))
        print(f'| {name} | {" | ".join(cells)} |')
    print()
    for name in others:
        saved = [
            ', '.join(f'{1 - ratio:.1%}' for ratio in ratios[name][key]) for key in ratios[name]
        ]
        print(f'{name} saves, by seed: {saved[0]} of the time, {saved[1]} of the CPU time')
    return {'seeds': options.seeds, 'runs': runs, 'ratios': ratios}


def train_in_turns(configs: dict[str, Path], changes: dict, threads: int) -> dict[str, dict]:
    """Train configs that alternate epoch by epoch; every round reverses their order.

    Args:
        configs: name -> path.
        changes: changes to all configs, as in `--cfg-options`.
        threads: threads of torch.

    Returns:
        Name -> the result of `_train`.
    """
    context, connections, children = get_context('spawn'), {}, []
    for name, path in configs.items():
        connections[name], theirs = context.Pipe()
        child = context.Process(target=_train, args=(path, changes, threads, theirs))
        child.start()
        theirs.close()  # so that a child that dies ends the recv below
        children.append(child)
    state = {name: connection.recv() for name, connection in connections.items()}
    names = list(connections)
    while 'waiting' in state.values():
        for name in names:
            connections[name].send('go')
            state[name] = connections[name].recv()
        names.reverse()
        log('.')
    for child in children:
        child.join()
    return state


def _train(path: Path, changes: dict, threads: int, connection: Connection) -> None:
    """Train a config, one epoch at a time; send its accuracy (%) and the seconds of its epochs."""
    torch.set_num_threads(threads)
    turns = TakeTurns(connection)
    with TemporaryDirectory() as work_dir:
        accuracy = train(path, work_dir, {'default_hooks.checkpoint': None, **changes}, turns)
    connection.send(
        {'accuracy': accuracy, 'seconds': turns.seconds, 'cpu_seconds': turns.cpu_seconds}
    )
