"""The part of a model that is exported as a program from images to tensors.

Classifiers and segmentors are exported whole and return scores of classes. Of detectors, backbone
and neck are exported and return feature maps; the operations of the heads depend on their
predictions.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from torch import Tensor, nn

from mmvitlin.checkpoints.state_dicts import load_whole
from mmvitlin.engine.hosts import image_shape, model_settings, set_loader_defaults
from mmvitlin.errors import ConfigError

Program = Callable[[Tensor], tuple[Tensor, ...]]
MODEL, FEATURES = 'model', 'features'
# Scope -> the parts that can be exported, the default first. A new host needs an entry.
PARTS = {
    'mmpretrain': (MODEL, FEATURES),
    'mmdet': (FEATURES,),
    'mmseg': (MODEL, FEATURES),
    'mmpose': (FEATURES,),
}


class Deployed(nn.Module):
    """A part of a host's model: normalised images (B, C, H, W) -> tensors.

    Args:
        model: of a host, in evaluation mode.
        part: 'model' for scores before the softmax, (B, classes) of a classifier and
            (B, classes, H, W) of a segmentor; 'features' for the maps after the neck, or after the
            backbone where there is no neck.
    """

    def __init__(self, model: nn.Module, part: str):
        super().__init__()
        self.model = model
        self.part = part

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        model: Any = self.model
        if self.part == FEATURES:
            return tuple(model.extract_feat(images))
        scores = model(images, mode='tensor')
        if not isinstance(scores, Tensor):
            raise ConfigError(
                f'{type(model).__name__} returns no scores of classes: take --part {FEATURES}'
            )
        if scores.ndim == 4:  # a segmentor's, at the stride of its head
            align = model.decode_head.align_corners
            scores = F.interpolate(scores, images.shape[2:], mode='bilinear', align_corners=align)
        return (scores,)


def build_deployed(
    cfg: Config, checkpoint: str, part: str | None = None
) -> tuple[Deployed, dict[str, Any]]:
    """Build the exported part of a config's model, with the weights of a checkpoint.

    Args:
        cfg: of a host that has been imported.
        checkpoint: as for `load_checkpoint`.
        part: of `PARTS`; None for the scope's default.

    Returns:
        The part, in evaluation mode, and its description: `describe`.

    Raises:
        CheckpointError: see `load_whole`.
        ConfigError: this part of such a model cannot be exported.
    """
    parts = PARTS[cfg.default_scope]
    part = part or parts[0]
    if part not in parts:
        raise ConfigError(
            f'--part {part} of a model of {cfg.default_scope} cannot be exported, since its output '
            f'is no fixed number of tensors: take --part {" or ".join(parts)}'
        )
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(model_settings(cfg))
    loaded = load_whole(model, checkpoint)
    model.eval()
    meta = loaded.get('meta') or {} if isinstance(loaded, dict) else {}
    classes = (meta.get('dataset_meta') or {}).get('classes')
    deployed = Deployed(model, part)
    deployed.eval()
    return deployed, describe(cfg, model, part, classes)


def describe(cfg: Config, model: Any, part: str, classes: Any) -> dict[str, Any]:
    """Describe what a program expects and returns, in plain data.

    Returns:
        'part'; 'image_size', [H, W] that the config tests on; 'mean', 'std' and 'channels', 'RGB'
        or 'BGR', of the images that the program takes, None without normalisation; 'pad_to', sides
        are multiples of it; 'pipeline', the steps of the config's test data; 'classes', None if the
        checkpoint has none.
    """
    settings = dict(cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {})
    preprocessor = model.data_preprocessor
    pipeline = (cfg.get('test_dataloader') or {}).get('dataset', {}).get('pipeline', ())
    to_rgb = settings.get('to_rgb') or settings.get('bgr_to_rgb')
    mean, std = (getattr(preprocessor, name, None) for name in ('mean', 'std'))
    return dict(
        part=part,
        image_size=list(image_shape(cfg)),
        mean=None if mean is None else mean.flatten().tolist(),
        std=None if std is None else std.flatten().tolist(),
        channels='RGB' if to_rgb else 'BGR',
        pad_to=settings.get('pad_size_divisor', 1),
        pipeline=[_plain(step) for step in pipeline],
        classes=None if classes is None else list(classes),
    )


def _plain(value: Any) -> Any:
    """Convert settings of a config to types that JSON has."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def evaluate(cfg: Config, deployed: Deployed, program: Program) -> dict[str, float]:
    """Compute the metrics of the config's test data, with a program instead of the model's part.

    Args:
        cfg: with test data.
        deployed: the part; its model gives everything else.
        program: images -> tensors, as the part.
    """
    set_loader_defaults(cfg)
    model: Any = deployed.model
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.no_grad():
        loader = Runner.build_dataloader(cfg.test_dataloader)
        evaluator = Evaluator(cfg.test_evaluator)
        evaluator.dataset_meta = getattr(loader.dataset, 'metainfo', None)
        for batch in loader:
            data = model.data_preprocessor(batch, False)
            samples = _predict(deployed, program, data['inputs'], data['data_samples'])
            evaluator.process(samples, batch)
        return evaluator.evaluate(len(loader.dataset))


def _predict(deployed: Deployed, program: Program, images: Tensor, samples: list) -> list:
    """Predict on a batch as the host does, from the outputs of the program."""
    model: Any = deployed.model
    if deployed.part == FEATURES:
        kept = model.backbone, model.neck if model.with_neck else None
        model.backbone, model.neck = _Run(program), None
        try:
            return model.predict(images, samples)
        finally:
            model.backbone, model.neck = kept
    (scores,) = program(images)
    if scores.ndim == 4:
        return model.postprocess_result(scores, samples)
    for sample, score in zip(samples, scores.softmax(1)):
        sample.set_pred_score(score).set_pred_label(score.argmax())
    return samples


class _Run(nn.Module):
    """A program as a module."""

    def __init__(self, program: Program):
        super().__init__()
        self.program = program

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.program(images)
