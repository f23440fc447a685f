"""A classifier that teaches and does not learn."""

import logging
from collections.abc import Sequence
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path

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
from mmvitlin.errors import CheckpointError

REGNETY_160 = 'regnety_160.deit_in1k'  # timm's name of DeiT's teacher
# Where files keep weights; averaged ones first, as timm takes them.
WEIGHTS_KEYS = ('state_dict_ema', 'model_ema', 'state_dict', 'model')


class TeacherError(CheckpointError):
    """A teacher that cannot teach this student; the message says why and what to do."""


class FrozenTeacher:
    """A classifier of mmpretrain, of ours or of timm: images that a student sees -> logits.

    This is no module: the student's `train()`, optimiser, average, checkpoints and data parallel
    wrapper never meet the weights. They follow the images to their device, and copies of a student
    share them. They are read when it is time to `prepare`, so a student can be built and tested
    where they are not.

    The student's batch, mixed as it is, is brought back to pixels, resized where the teacher wants
    another size, and normalised by the teacher's mean and standard deviation.

    Args:
        model: the config of a classifier, such as `dict(type='ImageClassifier', ...)` or
            `dict(type='TimmClassifier', model_name='resnet50', num_classes=37)`; the path of a
            config file of mmpretrain, which ends in .py; or the name of a timm model. By default
            RegNetY-160 from timm, DeiT's teacher.
        checkpoint: a file of its weights or a URL: a runner's checkpoint, a state dict, bare or
            under one of `WEIGHTS_KEYS`, or a .safetensors file. What the config says of pretrained
            weights counts for nothing.
        input_size: height and width that it sees, or one number for both. By default timm's for its
            models, and for others the size of the student's images.
        data_preprocessor: its normalisation, `dict(mean=..., std=..., to_rgb=...)`. By default that
            of the config, timm's for its models (in RGB), and otherwise the student's.

    Raises:
        ValueError: `input_size` is no size.
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
        self._normalises = False  # whether by a data preprocessor of its own

    def prepare(self, num_classes: int) -> None:
        """Build the classifier and read its weights, where that is not done.

        It takes no random number that the student would.

        Args:
            num_classes: those of the student.

        Raises:
            TeacherError: no weights, weights of another model, no such model, or other classes.
            CheckpointError: a file that holds no weights.
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
        """The classifier, at its initial weights.

        What of its input size and normalisation was not given is taken from its config or timm.

        Raises:
            TeacherError: there is no such model.
            ImportError: it is timm's, which is not installed.
        """
        cfg = self._read_config()
        cfg.pop('train_cfg', None)  # mixing images is the student's
        cfg.pop('pretrained', None)  # weights are those of `checkpoint`, and timm downloads
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
        """The logits of a batch, (B, classes).

        Args:
            images: as they go into the student, (B, C, H, W).
            student: what has normalised them.

        Raises:
            ValueError: the classifier gives something else.
        """
        classifier = self._classifier
        weight = next(classifier.parameters())
        if weight.device != images.device:
            classifier.to(images.device)
        teacher = classifier.data_preprocessor if self._normalises else student
        pixels = images.to(weight.dtype)
        if student._enable_normalize:
            pixels = pixels * student.std + student.mean
        if teacher.to_rgb != student.to_rgb and pixels.shape[1] == 3:
            pixels = pixels.flip(1)
        if self.input_size is not None and pixels.shape[-2:] != self.input_size:
            pixels = F.interpolate(pixels, self.input_size, mode='bicubic', antialias=True)
        if teacher._enable_normalize:
            pixels = (pixels - teacher.mean) / teacher.std
        outputs = classifier(pixels.to(weight.dtype), mode='tensor')
        return class_output(classifier, outputs).to(images.dtype)

    def _load(self, num_classes: int) -> nn.Module:
        """The classifier with its weights; raises what `prepare` does."""
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
                f'the teacher, {self.name}, tells {found} classes apart and the student '
                f'{num_classes}: take a teacher of the same classes. Where the weights are of such '
                "a one, give its config, as dict(type='TimmClassifier', model_name=..., "
                f'num_classes={num_classes})'
            )
        differences = load_and_compare(classifier, weights)
        if differences:
            raise TeacherError(
                f'{self.checkpoint} is no checkpoint of the teacher, {self.name}: of '
                f'{len(classifier.state_dict())} weights {describe(differences)}. Give the model '
                'that the weights belong to'
            )
        return classifier

    @property
    def name(self) -> str:
        """The model, for messages."""
        if isinstance(self.model, str):
            return self.model
        inner = self.model.get('model_name') or self.model.get('backbone', {}).get('type')
        return f'{self.model.get("type")} of {inner}'

    def _read_config(self) -> dict:
        """The config of a classifier, whichever way `model` gives it; a copy to change."""
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
    """The number of classes that a classifier of mmpretrain tells apart; None if it hides that."""
    for part in ('head', 'model'):  # an ImageClassifier's, a TimmClassifier's
        count = getattr(getattr(classifier, part, None), 'num_classes', None)
        if count is not None:
            return count
    head = getattr(classifier, 'head', None)
    linear = [layer for layer in head.modules() if isinstance(layer, nn.Linear)] if head else []
    return linear[-1].out_features if linear else None  # ViG's head keeps no count


def class_output(classifier: nn.Module, outputs: Tensor | Sequence[Tensor]) -> Tensor:
    """The logits by which a classifier predicts, (B, classes), of what its head gives.

    Raises:
        ValueError: that is no tensor.
    """
    head = getattr(classifier, 'head', None)
    if isinstance(head, ConformerHead):  # one tensor for each of its branches
        return sum(outputs)
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f'{type(classifier).__name__} with {type(head).__name__} gives a '
            f'{type(outputs).__name__}, and student and teacher are compared by logits (B, '
            'classes): take a head that gives one tensor'
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
    """Check that timm has a model, and its settings where the name has a tag, behind a dot.

    Raises:
        TeacherError: it has not.
        ImportError: timm is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise ImportError(f'the teacher {name} takes the package timm: pip install timm') from error
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
