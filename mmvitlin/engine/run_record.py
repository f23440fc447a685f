"""Records of a training run, read from the work directory of MMEngine's runner."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from mmvitlin.errors import ConfigError

NOT_METRICS = ('data_time', 'time', 'step', 'iter', 'epoch', 'memory', 'lr', 'base_lr')


@dataclass(frozen=True)
class RunRecord:
    """Training run in a work directory.

    Attributes:
        work_dir: the directory.
        config_path: the config that the training saved there, with all of its bases. A test in
            the same directory does not replace it.
        config: the content of that file.
        train: logged training steps: loss, lr, time and so on, by iteration.
        val: logged validations: a metric's name -> value, and `step`.
        test: the metrics of the newest test in the same directory; empty without one.
        environment: description of the machine and its packages, from the head of the log.
        checkpoint: the newest checkpoint, if any.
    """

    work_dir: Path
    config_path: Path
    config: Config
    train: tuple[dict, ...]
    val: tuple[dict, ...]
    test: dict[str, float]
    environment: str
    checkpoint: Path | None

    def by_epoch(self) -> bool:
        """Return whether validations are counted in epochs, not in iterations."""
        return 'max_iters' not in self.config.train_cfg

    def metrics(self) -> dict[str, list[tuple[int, float]]]:
        """Return metric -> (step, value) of each validation; values below 0 are left out."""
        found: dict[str, list] = {}
        for entry in self.val:
            for name, value in metrics_of(entry).items():
                if value >= 0:
                    found.setdefault(name, []).append((entry['step'], value))
        return found


def read_run(work_dir: Path) -> RunRecord:
    """Read a work directory.

    Raises:
        ConfigError: there is no such directory, or no training was logged there.
    """
    if not work_dir.is_dir():
        raise ConfigError(f'there is no work directory {work_dir}; check it, from {Path.cwd()}')
    config: Path | None = None
    train: list[dict] = []
    val: list[dict] = []
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        entries = [json.loads(line) for line in path.read_text().splitlines()]
        steps = [entry for entry in entries if 'loss' in entry and 'iter' in entry]
        if not steps:  # of a test
            continue
        config = path.with_name('config.py')
        # A resumed run repeats the steps after its checkpoint; a new run replaces all.
        first, first_step = steps[0]['iter'], _first_step(entries)
        train = [entry for entry in train if entry['iter'] < first] + steps
        val = [entry for entry in val if entry['step'] < first_step] + [
            entry for entry in entries if 'loss' not in entry and metrics_of(entry)
        ]
    if config is None or not config.is_file():
        raise ConfigError(
            f'{work_dir} has no log of a training; give the --work-dir of tools/train.py, such as '
            'work_dirs/NAME'
        )
    return RunRecord(
        work_dir=work_dir,
        config_path=config,
        config=Config.fromfile(config),
        train=tuple(train),
        val=tuple(val),
        test=_newest_test(work_dir),
        environment=_environment(work_dir),
        checkpoint=_newest_checkpoint(work_dir),
    )


def metrics_of(entry: dict) -> dict[str, float]:
    """Return the metrics of a validation, without times and steps."""
    return {
        name: value
        for name, value in entry.items()
        if name not in NOT_METRICS and isinstance(value, (int, float))
    }


def _first_step(entries: list[dict]) -> float:
    """Return the step of the first validation of a run; infinite if there is none."""
    return min((e['step'] for e in entries if 'loss' not in e), default=float('inf'))


def _newest_test(work_dir: Path) -> dict[str, float]:
    for path in sorted(work_dir.glob('*/*.json'), reverse=True):
        content = json.loads(path.read_text())
        if isinstance(content, dict) and metrics_of(content):
            return metrics_of(content)
    return {}


def _environment(work_dir: Path) -> str:
    """Return the description of the environment in the head of a log."""
    for path in sorted(work_dir.glob('*/*.log'), reverse=True):
        found = re.search(
            r'System environment:\n(.*?)\n\s*\nRuntime environment', path.read_text(), re.DOTALL
        )
        if found:
            return '\n'.join(line.strip() for line in found[1].splitlines())
    return ''


def _newest_checkpoint(work_dir: Path) -> Path | None:
    """Return the checkpoint that the run wrote last, also in a directory that was moved."""
    pointer = work_dir / 'last_checkpoint'
    if not pointer.is_file():
        return None
    path = work_dir / Path(pointer.read_text().strip()).name
    return path if path.is_file() else None
