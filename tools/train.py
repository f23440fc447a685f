"""Train the model of a config of mmpretrain, mmdetection or mmsegmentation."""

import argparse
import logging
from pathlib import Path

from mmengine.hooks import Hook

from mmvitlin.engine import launcher
from mmvitlin.engine.checks import check_built, check_training
from mmvitlin.engine.hosts import set_loader_defaults
from mmvitlin.engine.memory import describe_memory
from mmvitlin.engine.run_settings import set_exact_resume, set_safe_checkpoints
from mmvitlin.engine.work_dir import check_writable, prepare_work_dir


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config to train')
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from this checkpoint, or from the newest whole one of the work directory',
    )
    start.add_argument(
        '--overwrite',
        action='store_true',
        help='remove the checkpoints of another training from the work directory',
    )
    parser.add_argument(
        '--no-validate', action='store_true', help='do not evaluate the model while training'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the batch size in use over the one that it is for',
    )
    launcher.add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Train."""
    args = parse_args()
    with launcher.one_line_errors(args.traceback), launcher.set_up_errors() as set_up:
        train(args, set_up)


def train(args: argparse.Namespace, set_up: Hook) -> None:
    """Train by the arguments of the command line."""
    cfg = launcher.load_config(args.config, args.cfg_options, args.work_dir)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    check_training(cfg, launcher.has_accelerator())
    set_loader_defaults(cfg)
    set_safe_checkpoints(cfg)
    set_exact_resume(cfg)
    if args.amp:
        launcher.set_amp_training(cfg)
    if args.auto_scale_lr:
        launcher.set_auto_scale_lr(cfg)
    check_writable(Path(cfg.work_dir))
    if args.resume:
        launcher.set_resume(cfg, args.resume)
    launcher.set_launcher(cfg, args.launcher)
    prepare_work_dir(cfg, args.overwrite, writes=launcher.is_first_process(args.launcher))
    memory, is_short = describe_memory(cfg)
    runner = launcher.build_runner(cfg)
    runner.logger.log(logging.WARNING if is_short else logging.INFO, memory)
    runner.register_hook(set_up)
    launcher.check_resumed(runner)
    check_built(runner)
    runner.train()


if __name__ == '__main__':
    main()
