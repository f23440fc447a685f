"""Train the model of a config of mmpretrain, mmdetection or mmsegmentation."""

import argparse

from mmvitlin.engine import launcher
from mmvitlin.engine.config_checks import check_length, check_save_best
from mmvitlin.engine.hosts import set_loader_defaults


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config to train')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or from the latest one of the work directory',
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
    cfg = launcher.load_config(args.config, args.cfg_options, args.work_dir)
    check_length(cfg)
    check_save_best(cfg)
    set_loader_defaults(cfg)
    launcher.set_safe_checkpoints(cfg)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        launcher.set_amp_training(cfg)
    if args.auto_scale_lr:
        launcher.set_auto_scale_lr(cfg)
    if args.resume:
        launcher.set_resume(cfg, args.resume)
    launcher.set_launcher(cfg, args.launcher)
    runner = launcher.build_runner(cfg)
    launcher.check_resumed(runner)
    runner.train()


if __name__ == '__main__':
    with launcher.one_line_errors():
        main()
