"""Predict on images without labels, in every host; print and draw the predictions.

python tools/predict.py CONFIG CHECKPOINT IMAGE_OR_FOLDER ... --out-dir FOLDER
"""

import argparse
from collections import Counter
from importlib import import_module
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DefaultScope

from mmvitlin.checkpoints.safe_load import load_checkpoint
from mmvitlin.checkpoints.state_dicts import load_whole
from mmvitlin.datasets.own_data.summary import images_below, shorten
from mmvitlin.engine.launcher import (
    add_cfg_options,
    existing_checkpoint,
    load_config,
    one_line_errors,
)
from mmvitlin.errors import ConfigError

PICTURE_SIDE = 480  # of a drawn classification, in pixels: its text is then legible


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='the config of the model')
    parser.add_argument('checkpoint', help='its checkpoint, a file or a URL')
    parser.add_argument('images', nargs='+', help='images, or folders of images')
    parser.add_argument('--out-dir', default='predictions', help='folder of the pictures')
    parser.add_argument('--score', type=float, default=0.3, help='of what is drawn, at least')
    add_cfg_options(parser)
    return parser.parse_args()


def find_images(paths: list[str]) -> list[str]:
    """Return the given images, and the images below given folders."""
    found = []
    for path in map(Path, paths):
        if not path.exists():
            raise ConfigError(f'there is no image or folder {path}; check it, from {Path.cwd()}')
        images = images_below(path) if path.is_dir() else [path]
        if not images:
            raise ConfigError(f'there is no image below {path}')
        found += map(str, images)
    return found


def find_shared_names(images: list[str]) -> list[str]:
    """Return the file names that several images have."""
    counted = Counter(Path(image).name for image in images)
    return [name for name, count in counted.items() if count > 1]


def classify(cfg: Config, args: argparse.Namespace, images: list[str]) -> None:
    """Print the best class of each image, and draw it."""
    inferencer = import_module('mmpretrain.apis').ImageClassificationInferencer
    meta = load_checkpoint(args.checkpoint).get('meta', {}).get('dataset_meta', {})
    predict = inferencer(cfg, False, device=get_device(), classes=meta.get('classes'))
    load_whole(predict.model, args.checkpoint)
    Path(args.out_dir).mkdir(parents=True, exist_ok=True)
    drawn = predict(images, show_dir=args.out_dir, resize=PICTURE_SIDE)
    for image, found in zip(images, drawn):
        name = found.get('pred_class', found['pred_label'])
        print(f'{image}: {name} {found["pred_score"]:.3f}')


def detect(cfg: Config, args: argparse.Namespace, images: list[str]) -> None:
    """Print the number of objects of each class in each image, and draw them."""
    inferencer = import_module('mmvitlin.apis').DetInferencer
    predict = inferencer(cfg, args.checkpoint, device=get_device())
    classes = predict.model.dataset_meta['classes']
    found = predict(images, out_dir=args.out_dir, pred_score_thr=args.score)['predictions']
    for image, objects in zip(images, found):
        kept = [k for k, s in zip(objects['labels'], objects['scores']) if s >= args.score]
        counted = Counter(classes[label] for label in kept)
        print(f'{image}: ' + (', '.join(f'{n} x {name}' for name, n in counted.items()) or 'none'))


def segment(cfg: Config, args: argparse.Namespace, images: list[str]) -> None:
    """Print the share of each class in each image, and draw the maps."""
    inferencer = import_module('mmvitlin.apis').MMSegInferencer
    predict = inferencer(cfg, args.checkpoint, device=get_device())
    classes = predict.model.dataset_meta['classes']
    found = predict(images, out_dir=args.out_dir)['predictions']
    for image, labels in zip(images, [found] if len(images) == 1 else found):
        counted = Counter(labels.ravel().tolist()).most_common()
        shares = (f'{classes[label]} {100 * n / labels.size:.0f}%' for label, n in counted)
        print(f'{image}: {", ".join(shares)}')


def estimate(cfg: Config, args: argparse.Namespace, images: list[str]) -> None:
    """Print the key points of the object that fills each image, and draw them."""
    inferencer = import_module('mmvitlin.apis').Pose2DInferencer
    predict = inferencer(cfg, args.checkpoint, device=get_device())
    names = predict.model.dataset_meta['keypoint_id2name']
    found = predict(images, vis_out_dir=args.out_dir, kpt_thr=args.score)
    for image, batch in zip(images, found):
        for pose in batch['predictions'][0]:
            points = (
                f'{names[i]} ({x:.1f}, {y:.1f})' for i, (x, y) in enumerate(pose['keypoints'])
            )
            print(f'{image}: {", ".join(points)}')


PREDICT = {'mmpretrain': classify, 'mmdet': detect, 'mmseg': segment, 'mmpose': estimate}


def main() -> None:
    """Predict."""
    args = parse_args()
    existing_checkpoint(args.checkpoint)
    images = find_images(args.images)
    cfg = load_config(args.config, args.cfg_options, work_dir=None)
    cfg.visualizer.vis_backends = None  # pictures go to --out-dir, and no log is written
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        PREDICT[cfg.default_scope](cfg, args, images)
    print(f'pictures are in {args.out_dir}')
    if shared := find_shared_names(images):
        print(
            f'note: several images are named {shorten(shared)}; only the last picture of a name '
            'remains: predict each folder with its own --out-dir'
        )


if __name__ == '__main__':
    with one_line_errors():
        main()
