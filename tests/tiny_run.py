"""A training run of seconds: the demo's config with fewer digits and a smaller model."""

import functools
from copy import deepcopy
from pathlib import Path

from goldens import draw_weights
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.visualization import Visualizer
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / 'configs/quickstart/l2vit-micro_1xb64_digits.py'

# What makes the demo tiny, in the form of `--cfg-options`.
TINY = {
    'model.backbone.arch.embed_dims': (8, 8, 16, 16),
    'model.backbone.arch.num_heads': (1, 1, 2, 2),
    'model.head.in_channels': 16,
    'train_dataloader.dataset.indices': 48,
    'train_dataloader.batch_size': 16,
    'val_dataloader.dataset.indices': 32,
    'test_dataloader.dataset.indices': 32,
    'default_hooks.checkpoint.interval': 1,
    'default_hooks.checkpoint.save_best': None,
    'default_hooks.logger.interval': 1,
    'train_cfg.max_epochs': 3,
    'log_level': 'WARNING',
}


@functools.cache
def demo() -> Config:
    """The demo's config, to copy."""
    return Config.fromfile(DEMO)


def tiny_config(work_dir: Path, **options) -> Config:
    """The tiny demo, to run in `work_dir`; `options` override it, '__' standing for a dot."""
    cfg = deepcopy(demo())
    cfg.merge_from_dict({**TINY, **{key.replace('__', '.'): v for key, v in options.items()}})
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = str(work_dir).replace('/', '_')  # mmengine keeps one logger per name
    return cfg


def cfg_options(**options) -> list[str]:
    """The same as arguments of a tool."""
    options = {**TINY, **{key.replace('__', '.'): value for key, value in options.items()}}
    return ['--cfg-options', *(f'{k}={str(v).replace(" ", "")}' for k, v in options.items())]


def forget_visualizers(cls: type = Visualizer) -> None:
    """Let the next run in this process have a visualizer, and a folder for it, of its own."""
    cls._instance_dict.clear()
    for subclass in cls.__subclasses__():
        forget_visualizers(subclass)


def tiny_classifier() -> nn.Module:
    """The tiny demo's classifier with fixed weights, in evaluation mode."""
    cfg = tiny_config('')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    draw_weights(model)
    model.eval()
    return model
