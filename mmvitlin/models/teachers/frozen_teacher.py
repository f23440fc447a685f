"""Frozen classifier as a teacher for distillation (arXiv 2012.12877)."""

import logging
from collections.abc import Sequence
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.utils import to_2tuple
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.models.heads import ConformerHead
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from mmvitlin.checkpoints.safe_load import load_checkpoint
from mmvitlin.checkpoints.state_dicts import describe, extract_state_dict, load_and_compare
from mmvitlin.compat import normalizes_images
from mmvitlin.errors import CheckpointError

REGNETY_160 = 'regnety_160.deit_in1k'  # DeiT's teacher, by its name in timm
# Keys of weights in files; averaged weights come first, as in timm.
WEIGHTS_KEYS = ('state_dict_ema', 'model_ema', 'state_dict', 'model')


class TeacherError(CheckpointError):
    """A teacher that cannot be used for this student; the message gives reason and remedy."""


class FrozenTeacher:
    """Classifier of mmpretrain, of this package or of timm that labels the images of a student.

    This is not an `nn.Module`, so `train()`, the optimizer, the EMA, the checkpoints and the data
    parallel wrapper of the student do not include its weights. The weights are moved to the device
    of the images, and copies of a student share them. `prepare` reads them, so a student can be
    built and tested without them.

    The batch of the student, after mixing, is converted back to pixels, resized to the size of the
    teacher, and normalised by the teacher's mean and standard deviation.

    Args:
        model: the config of a classifier, such as `dict(type='ImageClassifier', ...)` or
            `dict(type='TimmClassifier', model_name='resnet50', num_classes=37)`; the path of a
            config file of mmpretrain, which ends in .py; or the name of a timm model. By default
            RegNetY-160 from timm, DeiT's teacher.
        checkpoint: path or URL of its weights: a checkpoint of MMEngine, a state dict, bare or
            under one of `WEIGHTS_KEYS`, or a .safetensors file. Pretrained weights that the config
            names are ignored.
        input_size: height and width of the images that it is given, or one number for both. By
            default that of timm for its models, and for others the size of the student's images.
        data_preprocessor: its normalisation, `dict(mean=..., std=..., to_rgb=...)`. By default that
            of the config, that of timm for its models (in RGB), or else that of the student.

    Raises:
        ValueError: `input_size` is not a size.
    """

    def __init__(
        self,
        model: str | dict = REGNETY_160,
        checkpoint: str | None = None,
        input_size: int | tuple[int, int] | None = None,
        data_preprocessor: dict | None = None,
    ):
        self.model, self.checkpoint = model, checkpoint
        self.input_size = None if input_size is None else _size(input_size)
        self.data_preprocessor = data_preprocessor
        self._classifier: nn.Module | None = None
        self._normalises = False  # True: it has a data preprocessor of its own

    def prepare(self, num_classes: int | None) -> None:
        """Build the classifier and read its weights, unless that is done.

        This does not change the random numbers that the student draws.

        Args:
            num_classes: number of classes of the student; None if it is unknown.

        Raises:
            TeacherError: the weights are missing or of another model, the model does not exist, or
                it has another number of classes.
            CheckpointError: the file has no weights.
            ImportError: timm or safetensors are needed and not installed.
        """
        if self._classifier is not None:
            return
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
            classifier = self._load(num_classes)
        classifier.requires_grad_(False)
        classifier.eval()
        self._classifier = classifier
        count = sum(parameter.numel() for parameter in classifier.parameters()) / 1e6
        size = 'the size of the student' if self.input_size is None else f'{self.input_size}'
        print_log(
            f'Teacher: {self.name} with {count:.1f}M parameters from {self.checkpoint}, at {size}',
            'current',
            logging.INFO,
        )

    def build(self) -> nn.Module:
        """Build the classifier with its initial weights.

        An input size and a normalisation that were not given are taken from its config or timm.

        Raises:
            TeacherError: the model does not exist.
            ImportError: it is a model of timm, and timm is not installed.
        """
        cfg = self._read_config()
        cfg.pop('train_cfg', None)  # images are already mixed
        cfg.pop('pretrained', None)  # `checkpoint` has the weights, and timm would download others
        if self.data_preprocessor is not None:
            cfg['data_preprocessor'] = deepcopy(self.data_preprocessor)
        self._normalises = cfg.get('data_preprocessor') is not None
        classifier = MODELS.build(cfg)
        of_timm = getattr(getattr(classifier, 'model', None), 'pretrained_cfg', None)
        if of_timm and self.input_size is None:
            self.input_size = tuple(of_timm['input_size'][-2:])
        if of_timm and not self._normalises:
            mean, std = ([255 * value for value in of_timm[key]] for key in ('mean', 'std'))
            classifier.data_preprocessor = ClsDataPreprocessor(mean, std, to_rgb=True)
            self._normalises = True
        return classifier

    @torch.compiler.disable
    @torch.no_grad()
    def logits(self, images: Tensor, student: ClsDataPreprocessor) -> Tensor:
        """Compute the logits of a batch, (B, classes).

        Args:
            images: the input of the student, (B, C, H, W).
            student: the data preprocessor that normalised the images.

        Raises:
            ValueError: the output of the classifier is not a tensor.
        """
        classifier: Any = self._classifier  # since `prepare`
        weight = next(classifier.parameters())
        if weight.device != images.device:
            classifier.to(images.device)
        teacher: Any = classifier.data_preprocessor if self._normalises else student
        pixels = images.to(weight.dtype)
        if normalizes_images(student):
            pixels = pixels * student.std + student.mean
        if teacher.to_rgb != student.to_rgb and pixels.shape[1] == 3:
            pixels = pixels.flip(1)
        if self.input_size is not None and pixels.shape[-2:] != self.input_size:
            pixels = F.interpolate(pixels, self.input_size, mode='bicubic', antialias=True)
        if normalizes_images(teacher):
            pixels = (pixels - teacher.mean) / teacher.std
        outputs = classifier(pixels.to(weight.dtype), mode='tensor')
        return class_output(classifier, outputs).to(images.dtype)

    def _load(self, num_classes: int | None) -> nn.Module:
        """Build the classifier with its weights; the errors are those of `prepare`."""
        if self.checkpoint is None:
            raise TeacherError(
                f'the teacher, {self.name}, has no weights: give teacher=dict(checkpoint=PATH), '
                "or train without it by distillation='none'"
            )
        try:
            loaded = load_checkpoint(self.checkpoint)
        except CheckpointError as error:
            raise TeacherError(f'the teacher, {self.name}, has no weights: {error}') from error
        weights = extract_state_dict(loaded, self.checkpoint, WEIGHTS_KEYS)
        classifier = self.build()
        found = num_classes_of(classifier)
        if found not in (None, num_classes):
            raise TeacherError(
                f'the teacher, {self.name}, has {found} classes and the student has {num_classes}: '
                'give a teacher with the same classes. If the weights have them, give the config '
                "with this number, such as dict(type='TimmClassifier', model_name=..., "
                f'num_classes={num_classes})'
            )
        differences = load_and_compare(classifier, weights)
        if differences:
            raise TeacherError(
                f'{self.checkpoint} is not a checkpoint of the teacher, {self.name}: of '
                f'{len(classifier.state_dict())} weights {describe(differences)}. Give the model '
                'that the weights belong to'
            )
        return classifier

    @property
    def name(self) -> str:
        """Name of the model, for messages."""
        if isinstance(self.model, str):
            return self.model
        inner = self.model.get('model_name') or self.model.get('backbone', {}).get('type')
        return f'{self.model.get("type")} of {inner}'

    def _read_config(self) -> dict:
        """Return a copy of the config of the classifier that `model` gives."""
        if not isinstance(self.model, str):
            return deepcopy(self.model)
        if not self.model.endswith('.py'):
            _check_timm_name(self.model)
            return dict(type='TimmClassifier', model_name=self.model)
        if not Path(self.model).is_file():
            raise TeacherError(
                f'there is no config of the teacher at {self.model}; check the path, from '
                f'{Path.cwd()}'
            )
        cfg = Config.fromfile(self.model)
        if 'model' not in cfg:
            raise TeacherError(f'{self.model} is no config of a classifier: it has no model')
        return {'data_preprocessor': cfg.get('data_preprocessor'), **cfg.model}

    def __deepcopy__(self, memo: dict) -> 'FrozenTeacher':
        return self


def num_classes_of(classifier: nn.Module) -> int | None:
    """Return the number of classes of a classifier of mmpretrain; None if it is unknown."""
    for part in ('head', 'model'):  # of ImageClassifier and TimmClassifier
        count = getattr(getattr(classifier, part, None), 'num_classes', None)
        if count is not None:
            return count
    head = getattr(classifier, 'head', None)
    linear = [layer for layer in head.modules() if isinstance(layer, nn.Linear)] if head else []
    return linear[-1].out_features if linear else None  # the head of ViG has no num_classes


def class_output(classifier: nn.Module, outputs: Tensor | Sequence[Tensor]) -> Tensor:
    """Convert the output of a classifier's head to the logits of its prediction, (B, classes).

    Raises:
        ValueError: the output is not a tensor.
    """
    head = getattr(classifier, 'head', None)
    if isinstance(head, ConformerHead):  # one tensor for each of its branches
        return sum(outputs[1:], outputs[0])
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f'{type(classifier).__name__} with {type(head).__name__} returns a '
            f'{type(outputs).__name__}, expected logits (B, classes): use a head that returns one '
            'tensor'
        )
    return outputs


def _size(given: int | Sequence[int]) -> tuple[int, int]:
    size = tuple(to_2tuple(given))
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(
            f"the teacher's input_size is a height and a width in pixels, or a number, got {given}"
        )
    return size


def _check_timm_name(name: str) -> None:
    """Check that timm has a model, and its settings if the name has a tag after a dot.

    Raises:
        TeacherError: timm does not have them.
        ImportError: timm is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise ImportError(f'the teacher {name} needs the package timm: pip install timm') from error
    if not timm.is_model(name):
        names = timm.list_models()
        nearest = ', '.join(get_close_matches(name, names)) or 'nothing like it'
        raise TeacherError(
            f'timm has no model {name!r}; it has {nearest}. A config of mmpretrain ends in .py'
        )
    try:
        timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        raise TeacherError(f'timm has no settings for {name!r}: {error}') from error
