"""Model of a config and one image for it, for the tools that visualise models."""

import argparse
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mmvitlin.checkpoints.state_dicts import load_whole
from mmvitlin.engine.hosts import model_settings
from mmvitlin.engine.launcher import existing_checkpoint
from mmvitlin.errors import ConfigError


def parse_patch(text: str) -> tuple[int, int]:
    """Parse 'ROW,COLUMN'."""
    parts = text.split(',')
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f'expected ROW,COLUMN such as 3,4, got {text!r}')
    return int(parts[0]), int(parts[1])


def build_model(cfg: Config, checkpoint: str | None) -> nn.Module:
    """Build the model of a config, with the weights of a checkpoint or initial ones."""
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(model_settings(cfg))
    if checkpoint is None:
        logger = MMLogger.get_current_instance()
        level = logger.level
        logger.setLevel('WARNING')  # MMEngine logs the initialisation of each weight
        model.init_weights()
        logger.setLevel(level)
    else:
        load_whole(model, existing_checkpoint(checkpoint))
    return model.eval()


def load_image(cfg: Config, model: Any, path: str) -> tuple[np.ndarray, Tensor]:
    """Run the test pipeline of a config and the data preprocessor of its model on an image.

    Returns:
        The image after the pipeline, (H, W, 3) in RGB, and the input of the backbone, (1, C, H, W).
    """
    if not Path(path).is_file():
        raise ConfigError(f'there is no image at {path}; check the path, from {Path.cwd()}')
    image = mmcv.imread(path) if Path(path).stat().st_size else None
    if image is None:
        raise ConfigError(f'OpenCV cannot read {path}: give a .png or .jpg file')
    if cfg.get('test_dataloader') is None:
        raise ConfigError('the config has no test_dataloader, whose pipeline is run on the image')
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:  # a wrapper such as RepeatDataset
        dataset = dataset.dataset
    pipeline = [step for step in dataset.pipeline if 'LoadAnnotations' not in str(step['type'])]
    # `img` is for pipelines of data sets with images in memory, `img_path` for those that load
    # files.
    sample = dict(img=image, img_path=path, img_shape=image.shape[:2], ori_shape=image.shape[:2])
    packed = Compose(pipeline)(sample)
    images = model.data_preprocessor(pseudo_collate([packed]), False)['inputs']
    rgb = packed['inputs'].flip(0).expand(3, -1, -1)  # a grey image has one channel
    return rgb.permute(1, 2, 0).numpy(), images


def default_patches(grid: tuple[int, int]) -> list[tuple[int, int]]:
    """Choose a patch in the middle, one near the first corner and one near the last."""
    rows, columns = grid
    near = rows // 8, columns // 8
    far = rows - 1 - near[0], columns - 1 - near[1]
    return list(dict.fromkeys([(rows // 2, columns // 2), near, far]))
