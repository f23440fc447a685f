"""Write a config for your own images, which inherits from one of ours.

    python tools/new_config.py cls FOLDER                  # one folder per class
    python tools/new_config.py det FILE.json --images FOLDER               # COCO's form
    python tools/new_config.py seg IMAGES --masks MASKS    # PNG files whose pixels are labels

It inspects the data, lists its problems, writes a short config, and prints the commands to train,
test, predict and export. On a terminal it asks for missing arguments.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

from mmvitlin.apis.model_index import (
    CLASSIFICATION,
    DETECTION,
    SEGMENTATION,
    UnknownModelError,
    find_entry,
    find_names,
    index_folder,
)
from mmvitlin.apis.new_config import compose_config
from mmvitlin.checkpoints.atomic_write import atomic_write
from mmvitlin.datasets.own_data import DataSummary, inspect_coco, inspect_folders, inspect_masks
from mmvitlin.engine.launcher import existing_checkpoint, load_config, one_line_errors
from mmvitlin.engine.run_plan import RunPlan, plan_run
from mmvitlin.errors import ConfigError

TASKS = {'cls': CLASSIFICATION, 'det': DETECTION, 'seg': SEGMENTATION}
DATA = {
    'cls': 'the folder with one folder of images per class, or with train/ and val/ of such',
    'det': 'the COCO file of boxes (.json)',
    'seg': 'the folder of images',
}
# Default models, which train in minutes from random weights.
MODELS = {
    'cls': 'l2vit-micro_1xb64_digits',
    'det': 'retinanet_l2vit-micro_fpn_digit-scenes',
    'det with masks': 'mask-rcnn_l2vit-micro_fpn_digit-scenes',
    'seg': 'l2vit-micro_upernet_digit-scenes',
}


def parse_args() -> argparse.Namespace:
    """Read the command line; on a terminal, ask for missing arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('task', nargs='?', choices=TASKS, help='classify, detect or segment')
    parser.add_argument('data', nargs='?', help='; '.join(f'{k}: {v}' for k, v in DATA.items()))
    parser.add_argument('--images', help='det: the folder that the file names are relative to')
    parser.add_argument('--val', help='det: the COCO file to validate on')
    parser.add_argument('--masks', help='seg: the folder of masks')
    parser.add_argument('--classes', help='seg: the names of labels 0, 1 and so on: road,car')
    parser.add_argument('--model', help='a config of ours to inherit from, by its name')
    parser.add_argument('--checkpoint', help='to start from: a classifier, or a whole detector')
    parser.add_argument('--gpus', type=int, default=1, help='GPUs, or processes of a CPU')
    parser.add_argument('--size', type=int, help='side of the images that the model sees, pixels')
    parser.add_argument('--length', type=int, help='epochs to train; seg: iterations')
    parser.add_argument('--seed', type=int, default=0, help='of the split of data that has none')
    parser.add_argument(
        '--flip',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='whether images may be mirrored; not for text',
    )
    parser.add_argument('--out', help='the config to write; by default own_configs/NAME.py')
    parser.add_argument('--overwrite', action='store_true', help='replace a config that is there')
    args = parser.parse_args()
    if sys.stdin.isatty():
        ask_for_missing(args)
    if args.task is None or args.data is None:
        parser.error('the task (cls, det or seg) and the data are needed')
    if (args.task == 'seg') != (args.masks is not None):
        parser.error('--masks goes with seg, and seg needs it')
    for option, task in (('images', 'det'), ('val', 'det'), ('classes', 'seg')):
        if getattr(args, option) is not None and args.task != task:
            parser.error(f'--{option} goes with {task}')
    for option in ('gpus', 'size', 'length'):
        if getattr(args, option) is not None and getattr(args, option) < 1:
            parser.error(f'--{option} must be at least 1')
    return args


def ask_for_missing(args: argparse.Namespace) -> None:
    """Ask for task, data, model and checkpoint that the command line lacks."""
    if args.task is None:
        args.task = ask('task: cls (classify), det (detect) or seg (segment)', 'cls', TASKS)
    if args.data is None:
        args.data = ask(DATA[args.task])
    if args.task == 'seg' and args.masks is None:
        args.masks = ask('the folder of masks')
    if args.model is None:
        print('models:', *find_names(task=TASKS[args.task]), sep='\n  ')
        args.model = ask('model (empty: a small one that fits the data)', '') or None
    if args.checkpoint is None:
        args.checkpoint = ask('checkpoint to start from (empty: random weights)', '') or None


def ask(question: str, default: str | None = None, choices: dict | None = None) -> str:
    """Ask until there is an answer, one of the choices."""
    while True:
        answer = input(f'{question}{f" [{default}]" if default else ""}: ').strip()
        if not answer and default is not None:
            return default
        if answer and (choices is None or answer in choices):
            return answer


def inspect(args: argparse.Namespace, name: str) -> DataSummary:
    """Look at the data."""
    if args.task == 'cls':
        return inspect_folders(args.data, name, args.seed)
    if args.task == 'det':
        return inspect_coco(args.data, name, args.images, args.val, args.seed)
    classes = args.classes.split(',') if args.classes else None
    return inspect_masks(args.data, name, args.masks, classes, args.seed)


def find_base(args: argparse.Namespace, data: DataSummary) -> Path:
    """Return the config to inherit from."""
    has_masks = args.task == 'det' and data.details['with_mask']
    default = MODELS['det with masks' if has_masks else args.task]
    try:
        return find_entry(args.model or default, TASKS[args.task]).config
    except UnknownModelError as error:
        raise ConfigError(error) from error


def default_name(args: argparse.Namespace) -> str:
    """Return a name for the config, from that of the data."""
    path = Path(args.data).expanduser().resolve()
    return (path.stem if args.task == 'det' else path.name).replace(' ', '_') or 'own'


def commands(config: Path, plan: RunPlan, image: Path) -> dict[str, str]:
    """Return the commands to train, test, predict, report and export."""
    tools = shown(index_folder() / 'tools')
    work_dir = f'work_dirs/{config.stem}'
    model = (shown(config), f'{work_dir}/{"epoch" if plan.by_epoch else "iter"}_{plan.length}.pth')
    train = ('python', f'{tools}/train.py', shown(config))
    if plan.gpus > 1:
        train = (f'{tools}/dist_train.sh', shown(config), str(plan.gpus))
    lines = {
        'train': train,
        'test': ('python', f'{tools}/test.py', *model, '--show-dir', f'{work_dir}/pictures'),
        'predict': ('python', f'{tools}/predict.py', *model, str(image)),
        'report': ('python', f'{tools}/analysis_tools/report.py', work_dir),
        'export': ('python', f'{tools}/export.py', *model, '--dynamic', 'batch'),
    }
    return {name: shlex.join(line) for name, line in lines.items()}


def describe_plan(plan: RunPlan, model: str, is_default: bool) -> str:
    """Describe the run in a line or two."""
    unit = 'epochs' if plan.by_epoch else 'iterations'
    line = (
        f'{model}: {plan.length} {unit}, {plan.steps} steps of {plan.batch_size * plan.gpus} '
        f'images, learning rate {plan.lr:g}'
    )
    if not is_default:
        return line
    return f'{line}\nnote: a small model; for photographs, name another by --model, --checkpoint'


def shown(path: Path) -> str:
    """Return a path relative to the current folder if it is below it."""
    path = path.resolve()
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def main() -> None:
    """Inspect the data, write the config, and print the next commands."""
    args = parse_args()
    config = Path(args.out or f'own_configs/{default_name(args)}.py')
    if config.suffix != '.py':
        raise ConfigError(f'--out takes the path of a .py file, got {config}')
    if config.exists() and not args.overwrite:
        raise ConfigError(f'{config} is there already; --overwrite replaces it, --out renames')
    if args.checkpoint is not None and '://' not in args.checkpoint:
        args.checkpoint = str(Path(existing_checkpoint(args.checkpoint)).expanduser().resolve())
    data = inspect(args, config.stem)
    print(data.describe())
    base_path = find_base(args, data)
    base = load_config(str(base_path), None, None)
    plan = plan_run(base, data.train, args.gpus, args.checkpoint is not None, args.length)
    print(describe_plan(plan, base_path.stem, args.model is None))
    next_steps = commands(config, plan, data.example)
    text = compose_config(
        config,
        base_path,
        data,
        plan,
        checkpoint=args.checkpoint,
        size=args.size,
        flip=args.flip,
        commands=[next_steps['train'], next_steps['test']],
    )
    for name, content in {**data.new_files, config.name: text}.items():
        with atomic_write(config.parent / name) as partial:
            partial.write_text(content, encoding='utf-8')
        print(f'wrote {config.parent / name}')
    for name, command in next_steps.items():
        print(f'{name}:\n  {command}')


if __name__ == '__main__':
    with one_line_errors():
        main()
