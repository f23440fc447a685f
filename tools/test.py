"""Test a checkpoint on the test data of a config of mmpretrain, mmdetection or mmsegmentation."""

import argparse
from pathlib import Path

import mmengine
from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmvitlin.engine import launcher
from mmvitlin.engine.checks import check_testing
from mmvitlin.engine.hosts import set_draw, set_dump, set_loader_defaults, set_tta
from mmvitlin.engine.run_settings import set_safe_checkpoints
from mmvitlin.engine.work_dir import check_writable


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config to test')
    parser.add_argument('checkpoint', help='the checkpoint to test, a file or a URL')
    parser.add_argument(
        '--out', help='write all predictions to this .pkl file (mmsegmentation: to this folder)'
    )
    parser.add_argument(
        '--out-item',
        choices=['pred', 'metrics'],
        default='pred',
        help='content of --out: predictions, or the metrics as .json',
    )
    parser.add_argument('--show-dir', help='save a picture of every prediction in this folder')
    parser.add_argument('--tta', action='store_true', help='test with augmentation')
    launcher.add_common_arguments(parser)
    args = parser.parse_args()
    if args.out_item == 'metrics' and args.out is None:
        parser.error('--out-item metrics needs --out FILE.json')
    return args


def main() -> None:
    """Test."""
    args = parse_args()
    with launcher.one_line_errors(args.traceback), launcher.set_up_errors() as set_up:
        test(args, set_up)


def test(args: argparse.Namespace, set_up: Hook) -> None:
    """Test by the arguments of the command line."""
    cfg = launcher.load_config(args.config, args.cfg_options, args.work_dir)
    cfg.load_from = launcher.existing_checkpoint(args.checkpoint)
    check_testing(cfg)
    check_writable(Path(cfg.work_dir))
    set_loader_defaults(cfg)
    set_safe_checkpoints(cfg)
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.tta:
        set_tta(cfg)
    if args.show_dir:
        set_draw(cfg, args.show_dir)
    if args.out and args.out_item == 'pred':
        set_dump(cfg, args.out)
    launcher.set_launcher(cfg, args.launcher)
    runner = launcher.build_runner(cfg)
    runner.register_hook(set_up)
    launcher.check_fit(runner, args.checkpoint)
    metrics = runner.test()
    if args.out_item == 'metrics' and is_main_process():
        mmengine.dump(metrics, args.out)


if __name__ == '__main__':
    main()
