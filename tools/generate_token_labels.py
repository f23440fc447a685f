"""Write label maps for token labeling: the best classes of a teacher at each place of every image.

CONFIG and CHECKPOINT are a trained classifier of mmpretrain that pools a feature map; models of
timm can be used through TimmClassifier. The teacher is given the images of the config's training
set, whole and resized to one size. Its neck and head are applied to each place of its last feature
map, and the logits are resized to --size x --size. The --topk best scores and classes of each place
are written to OUT, one file per image, in the same folders as the images;
`mmvitlin.TokenLabelDataset` reads them. Scores are logits: targets take a softmax of them.

A run that was stopped can be started again: whole files are kept, and the others are written. With
the same --batch-size they are the same to the bit as those of a run without a stop, for any number
of processes. tools/dist_generate_token_labels.sh starts several processes.
"""

import argparse
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_rank, init_dist
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmvitlin.checkpoints.safe_load import register_safe_loaders
from mmvitlin.checkpoints.state_dicts import load_whole
from mmvitlin.datasets.token_labels.files import TokenLabelError, label_names
from mmvitlin.datasets.token_labels.writer import (
    build_whole_images,
    check_classes,
    check_settings,
    digest,
    write_label_maps,
)
from mmvitlin.engine.launcher import (
    PLACES,
    add_cfg_options,
    existing_checkpoint,
    has_accelerator,
    load_config,
    one_line_errors,
    set_launcher,
)
from mmvitlin.errors import ConfigError
from mmvitlin.models.teachers import NoFeatureMapError, TokenLabeller


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', metavar='CONFIG', help="the teacher's config")
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help="the teacher's weights")
    parser.add_argument('out', metavar='OUT', type=Path, help='the folder to write to')
    parser.add_argument(
        '--size', type=int, default=18, help='rows and columns of a label map (default: 18)'
    )
    parser.add_argument('--topk', type=int, default=5, help='classes per place (default: 5)')
    parser.add_argument(
        '--input-size',
        type=int,
        help='height and width of the images that the teacher is given (default: those of its test '
        'pipeline). With a stride of 32, 576 makes a feature map of 18 x 18, which needs no '
        'resizing',
    )
    parser.add_argument('--batch-size', type=int, default=64, help='images per batch (default: 64)')
    parser.add_argument(
        '--workers', type=int, default=4, help='processes that load images (default: 4)'
    )
    parser.add_argument('--amp', action='store_true', help='run the teacher in mixed precision')
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher', choices=['none', *PLACES], default='none', help='what starts the processes'
    )
    parser.add_argument('--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    for name in ('size', 'topk', 'input_size', 'batch_size'):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1, got {value}')
    if args.workers < 0:
        parser.error(f'--workers must be at least 0, got {args.workers}')
    return args


def build_classifier(cfg: Config, checkpoint: str) -> nn.Module:
    """Build the classifier of a config and load its weights."""
    if cfg.get('data_preprocessor'):
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(cfg.model)
    load_whole(model, existing_checkpoint(checkpoint))
    return revert_sync_batchnorm(model).to(get_device())


def main() -> None:
    """Write the label maps that are missing."""
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options, work_dir=None)
    if cfg.default_scope != 'mmpretrain':
        raise ConfigError(
            f'a teacher is a classifier of mmpretrain, got a config of {cfg.default_scope}'
        )
    if args.out.exists() and not args.out.is_dir():
        raise ConfigError(f'OUT must be a folder to write to, and {args.out} is a file')
    register_safe_loaders()
    init_default_scope(cfg.default_scope)
    set_launcher(cfg, args.launcher)
    if args.launcher != 'none' and has_accelerator():
        init_dist(args.launcher)
    torch.backends.cudnn.deterministic = True  # a repeated run writes the same files

    images, input_size, pipeline = build_whole_images(cfg, args.input_size)
    classifier = build_classifier(cfg, args.checkpoint)
    try:
        names = label_names(images)
        teacher = TokenLabeller(classifier, args.size, args.topk, args.amp)
        num_classes = teacher.count_classes(images[0])
    except (NoFeatureMapError, TokenLabelError) as error:
        raise ConfigError(str(error)) from error
    check_classes(images, num_classes, args.topk)
    decisive = dict(
        weights=teacher.digest_weights(),
        model=digest(cfg.model.to_dict()),
        pipeline=digest(pipeline),
        input_size=input_size,
        classes=num_classes,
        size=args.size,
        topk=args.topk,
        amp=args.amp,
    )
    check_settings(args.out, decisive, config=args.config, checkpoint=args.checkpoint)

    shape = (args.topk, args.size, args.size)
    written = write_label_maps(
        args.out, images, names, teacher, shape, num_classes, args.batch_size, args.workers
    )
    if get_rank() == 0:
        kept = len(names) - written
        print(f'{args.out}: {len(names)} label maps, {written} written now, {kept} before')


if __name__ == '__main__':
    with one_line_errors():
        main()
