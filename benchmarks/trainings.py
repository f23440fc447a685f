"""Whole trainings on digits: several alternate epoch by epoch, each in a process of its own.

Times are those of training epochs, data loading included, without validation and checkpoints.
"""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import torch
from harness import ROOT, log
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint

from mmvitlin.curricula.hook import plan_config

QUICKSTART = ROOT / 'configs/quickstart'
EPOCHS, QUICK_EPOCHS = 15, 5  # the stages of both curricula end at whole epochs of the first
TEACHER = QUICKSTART / 'l2vit-micro_1xb64_digits-64px.py'


@dataclass(frozen=True)
class Training:
    """Training of a config, with hooks added and changes as in `--cfg-options`."""

    config: Path
    hooks: tuple[dict, ...] = ()
    changes: Mapping[str, object] = field(default_factory=dict)

    def load(self, **changes) -> Config:
        """Read the config, changed."""
        cfg = Config.fromfile(self.config)
        cfg.merge_from_dict({'log_level': 'ERROR', **self.changes, **changes})
        cfg.custom_hooks = [*cfg.get('custom_hooks', []), *self.hooks]
        return cfg


class TakeTurns(Hook):
    """Hook that trains an epoch when it is told to, and keeps its seconds."""

    priority = 'HIGHEST'

    def __init__(self, connection: Connection):
        self.connection, self.seconds = connection, []

    def before_train_epoch(self, runner: Runner) -> None:
        """Report that this process is waiting, and wait."""
        self.connection.send('waiting')
        self.connection.recv()
        self.started = perf_counter()

    def after_train_epoch(self, runner: Runner) -> None:
        """Stop the clock, before validation and checkpoints."""
        self.seconds.append(perf_counter() - self.started)


def train(cfg: Config, work_dir: str | Path, *hooks: Hook) -> float | None:
    """Train a config; return its accuracy on the held-out images after the last epoch (%).

    Pre-training has none.
    """
    cfg.work_dir, cfg.experiment_name = str(work_dir), str(work_dir).replace('/', '_')
    cfg.visualizer.name = cfg.experiment_name  # of one name, the first would draw for all
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    if cfg.val_dataloader is None:
        return None
    return float(runner.message_hub.get_scalar('val/accuracy/top1').current())


def train_in_turns(trainings: Mapping[str, Training], threads: int, **changes) -> dict[str, dict]:
    """Train configs that alternate epoch by epoch; every round reverses their order.

    Returns:
        Name -> accuracy (%) and the seconds of each epoch.
    """
    context, connections, children = get_context('spawn'), {}, []
    for name, training in trainings.items():
        connections[name], theirs = context.Pipe()
        child = context.Process(target=_train, args=(training, threads, changes, theirs))
        child.start()
        theirs.close()  # so that a child that dies ends the recv below
        children.append(child)
    log('  trainings ')
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
    log('\n')
    return state


def _train(training: Training, threads: int, changes: dict, connection: Connection) -> None:
    """Train a config, one epoch at a time; send its accuracy and the seconds of its epochs."""
    torch.set_num_threads(threads)
    turns = TakeTurns(connection)
    cfg = training.load(**changes)
    cfg.default_hooks.checkpoint = None
    with TemporaryDirectory() as work_dir:
        accuracy = train(cfg, work_dir, turns)
    connection.send({'accuracy': accuracy, 'seconds': turns.seconds})


def rows(trainings: Mapping[str, Training], peer: str, found: Mapping[str, dict]) -> list[dict]:
    """Return a row of the report per training: accuracy, seconds, and times faster than the peer.

    Where a plan bounds a training, `share` is the part of that bound that it reaches.
    """
    entries = []
    for name, training in trainings.items():
        faster = sum(found[peer]['seconds']) / sum(found[name]['seconds'])
        bound = 1 / plan_config(training.load()).compute if training.hooks else None
        entry = {'name': name, **found[name], 'faster': faster, 'bound': bound}
        entries.append(entry | {'share': bound and faster / bound})
    return entries


# Curricula

BASELINE = QUICKSTART / 'vit-micro_1xb64_digits-28px.py'
TOKEN_EXPANSION = dict(type='mmvitlin.TokenExpansionHook', expansion_step=(0, 1 / 3, 2 / 3))
EFFICIENT_TRAIN = dict(type='mmvitlin.EfficientTrainHook', input_size=(20, 20, 20, 24, 28))


def curricula_trainings(epochs: int) -> dict[str, Training]:
    """List the baseline, each curriculum, and both."""
    changes = {'train_cfg.max_epochs': epochs, 'train_cfg.val_interval': epochs}
    hooks = {
        'baseline': (),
        'token expansion': (TOKEN_EXPANSION,),
        'EfficientTrain': (EFFICIENT_TRAIN,),
        'both': (TOKEN_EXPANSION, EFFICIENT_TRAIN),
    }
    return {name: Training(BASELINE, added, changes) for name, added in hooks.items()}


def curricula(threads: int, quick: bool, **changes) -> dict:
    """Train digits with each curriculum, and with both."""
    trainings = curricula_trainings(QUICK_EPOCHS if quick else EPOCHS)
    return {'rows': rows(trainings, 'baseline', train_in_turns(trainings, threads, **changes))}


# Teachers


def with_teacher(folder: str, **changes) -> tuple[dict, str]:
    """Train the teacher; return its row of the report, and its checkpoint."""
    log('  teacher\n')
    started = perf_counter()
    accuracy = train(Training(TEACHER).load(**changes), folder)
    row = {'name': 'teacher', 'accuracy': accuracy, 'seconds': [perf_counter() - started]}
    return row, find_latest_checkpoint(folder)


def distillation(threads: int, quick: bool, **changes) -> dict:
    """Train the student of the quickstart from labels alone, and with its teacher."""
    torch.set_num_threads(threads)
    student = QUICKSTART / 'lion-d-natural-micro-p8_distilled_1xb64_digits.py'
    changes |= {'train_cfg.max_epochs': 2} if quick else {}
    with TemporaryDirectory() as folder:
        row, checkpoint = with_teacher(folder, **changes)
        taught = {'model.teacher.model': str(TEACHER), 'model.teacher.checkpoint': checkpoint}
        trainings = {
            'labels alone': Training(student, changes=taught | {'model.distillation': 'none'}),
            'distilled': Training(student, changes=taught),
        }
        found = train_in_turns(trainings, threads, **changes)
    return {'rows': [row, *rows(trainings, 'labels alone', found)]}


PRE_TRAININGS = {  # name -> the pre-training, and the classifier that starts from it
    'LION after MAE': ('mae_lion-d-natural-micro', 'lion-d-natural-micro'),
    'L2ViT after SimMIM': ('simmim_l2vit-micro', 'l2vit-micro'),
}
LABELLED, LABELLED_EPOCHS, SEEDS = 200, 40, 3


def pre_training(threads: int, quick: bool, **changes) -> dict:
    """Train on 200 labelled digits, from scratch and after all digits without labels; 3 seeds."""
    torch.set_num_threads(threads)
    entries: list[dict] = []

    def enter(name: str, config: str, folder: str, settings: dict) -> None:
        started = perf_counter()
        training = Training(QUICKSTART / f'{config}_1xb64_digits.py', changes=settings)
        accuracy = train(training.load(**changes), folder)
        entries.append({'name': name, 'accuracy': accuracy, 'seconds': [perf_counter() - started]})
        log('.')

    for name, (first, then) in PRE_TRAININGS.items():
        for seed in range(SEEDS):
            settings: dict = {'randomness.seed': seed}
            if quick:
                settings['train_cfg.max_epochs'] = 2
            few: dict = {'train_dataloader.dataset.indices': LABELLED}
            few |= {'train_cfg.max_epochs': LABELLED_EPOCHS, 'default_hooks.checkpoint': None}
            few |= settings
            few['train_cfg.val_interval'] = few['train_cfg.max_epochs']
            with TemporaryDirectory() as folder:
                enter(f'{name}, seed {seed}: without labels', first, f'{folder}/first', settings)
                start = {'load_from': find_latest_checkpoint(f'{folder}/first')}
                enter(f'{name}, seed {seed}', then, f'{folder}/then', few | start)
                enter(f'{then} from scratch, seed {seed}', then, f'{folder}/scratch', few)
    return {'rows': entries}


def token_labels(threads: int, quick: bool, **changes) -> dict:
    """Train a teacher, write its label maps, and train LV-ViT on them."""
    torch.set_num_threads(threads)
    changes |= {'train_cfg.max_epochs': 2} if quick else {}
    with TemporaryDirectory() as folder:
        teacher, labels = f'{folder}/teacher', f'{folder}/labels'
        row, checkpoint = with_teacher(teacher, **changes)
        started = perf_counter()
        tool = ROOT / 'tools/generate_token_labels.py'
        command = [sys.executable, tool, TEACHER, checkpoint, labels, '--workers', '0']
        images = changes.get('train_dataloader.dataset.indices')
        if images is not None:
            command += ['--cfg-options', f'train_dataloader.dataset.indices={images}']
        subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)
        maps = {'name': 'label maps', 'accuracy': None, 'seconds': [perf_counter() - started]}
        changes |= {'train_dataloader.dataset.label_root': labels}
        trainings = {
            'LV-ViT': Training(QUICKSTART / 'lvvit-micro_1xb64_digits.py'),
            'LV-ViT, token expansion': Training(QUICKSTART / 'lvvit-micro_toe_1xb64_digits.py'),
        }
        found = train_in_turns(trainings, threads, **changes)
    return {'rows': [row, maps, *rows(trainings, 'LV-ViT', found)]}
