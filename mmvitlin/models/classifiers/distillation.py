"""Distillation training of any classifier of mmpretrain, as in DeiT (arXiv 2012.12877)."""

from collections.abc import Callable
from typing import Any

from mmpretrain.models import ClsDataPreprocessor, ImageClassifier
from mmpretrain.models.heads import ClsHead, DeiTClsHead, EfficientFormerClsHead, LeViTClsHead
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmvitlin.compat import head_loss
from mmvitlin.models.teachers.frozen_teacher import FrozenTeacher, class_output, num_classes_of
from mmvitlin.ops.distillation import check_distillation, distillation_loss
from mmvitlin.registry import MODELS, register


@register(MODELS)
class DistillationClassifier(ImageClassifier):
    """mmpretrain's ImageClassifier, trained on labels and on the outputs of a frozen teacher.

    The student is any backbone, neck and head. With a distillation head (DeiT's, with its
    distillation token, LeViT's and EfficientFormer's) the class output is trained on labels, the
    distillation output on the teacher, and evaluation averages both; other heads train one output
    on both. The log has the weighted `base_loss` and `distillation_loss`, whose sum is the loss.

    Evaluation, prediction and checkpoints are those of an ImageClassifier with the same backbone,
    neck and head, which loads the checkpoints strictly. The teacher is needed in training only. It
    is loaded when training starts (`init_weights`), or else by the first loss.

    Args:
        teacher: arguments of `FrozenTeacher`: model (by default RegNetY-160 of timm), checkpoint,
            input_size and data_preprocessor.
        distillation: 'hard', with the teacher's most likely class as label; 'soft', with its
            distribution; or 'none', an ImageClassifier without a teacher.
        alpha: weight of the loss from the teacher, from 0 to 1.
        tau: temperature of 'soft'.
        backbone, neck, head, pretrained, train_cfg, data_preprocessor, init_cfg: as in
            ImageClassifier. The data preprocessor must be a ClsDataPreprocessor, whose
            normalisation can be undone.

    Raises:
        ValueError: settings out of range, a head without a number of classes, or a backbone that
            mixes images (MixToken).
        TeacherError: at the start of training; see `FrozenTeacher.prepare`.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict | None = None,
        head: dict | None = None,
        teacher: dict | None = None,
        distillation: str = 'hard',
        alpha: float = 0.5,
        tau: float = 1.0,
        pretrained: str | None = None,
        train_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ):
        check_distillation(distillation, alpha, tau)
        super().__init__(
            backbone=backbone,
            neck=neck,
            head=head,
            pretrained=pretrained,
            train_cfg=train_cfg,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        if num_classes_of(self) is None:
            raise ValueError(
                'the student needs a head with a number of classes, such as LinearClsHead, '
                f'got {type(self.head).__name__}'
            )
        if not isinstance(self.data_preprocessor, ClsDataPreprocessor):
            raise ValueError(
                "the student's normalisation is undone for the teacher, which needs a "
                f'ClsDataPreprocessor, got {type(self.data_preprocessor).__name__}'
            )
        if distillation != 'none' and getattr(self.backbone, 'mix_token', False):
            raise ValueError(
                f'{type(self.backbone).__name__} mixes images inside the student, and the teacher '
                'sees them unmixed: give the backbone mix_token=False'
            )
        self.distillation, self.alpha, self.tau = distillation, alpha, tau
        self.teacher = FrozenTeacher(**teacher or {})

    def init_weights(self) -> None:
        """Initialise the student and load the teacher."""
        super().init_weights()
        self._prepare_teacher()

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Compute the weighted losses from the labels and from the teacher.

        Args:
            inputs: images from the data preprocessor, (B, C, H, W).
            data_samples: their labels, or scores of mixed images.

        Returns:
            'base_loss' and 'distillation_loss', and further entries of the head's losses.
        """
        if self.distillation == 'none':
            return super().loss(inputs, data_samples)
        self._prepare_teacher()
        # Before the student holds activations, so that the peak memory of both does not add up.
        teacher = self.teacher.logits(inputs, self.data_preprocessor)
        feats = self.extract_feat(inputs)
        losses, logits = self._learn_labels(feats, data_samples)
        base: Any = sum(losses.pop(name) for name in list(losses) if 'loss' in name)
        losses['base_loss'], losses['distillation_loss'] = distillation_loss(
            base, logits, teacher, self.distillation, self.alpha, self.tau
        )
        return losses

    def _learn_labels(
        self, feats: tuple, data_samples: list[DataSample]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the head's losses from labels, and the logits that are trained on the teacher."""
        outputs_of = _outputs_of(self.head)
        if outputs_of is not None:
            classes, distilled = outputs_of(self.head, feats)
            return head_loss(self.head, classes, data_samples), distilled
        if type(self.head).loss is ClsHead.loss:
            outputs = self.head(feats)
            losses = head_loss(self.head, outputs, data_samples)
        else:
            losses, outputs = self.head.loss(feats, data_samples), self.head(feats)
        return losses, class_output(self, outputs)

    def _prepare_teacher(self) -> None:
        if self.distillation != 'none':
            self.teacher.prepare(num_classes_of(self))


def _outputs_of_deit(head: DeiTClsHead, feats: tuple) -> tuple[Tensor, Tensor]:
    class_token, distillation_token = head.pre_logits(feats)
    return head.layers.head(class_token), head.layers.head_dist(distillation_token)


def _outputs_of_levit(head: LeViTClsHead, feats: tuple) -> tuple[Tensor, Tensor]:
    x = head.pre_logits(feats)
    return head.head(x), head.head_dist(x)


def _outputs_of_efficientformer(head: EfficientFormerClsHead, feats: tuple) -> tuple:
    x = head.pre_logits(feats)
    return head.head(x), head.dist_head(x)


def _outputs_of(head: nn.Module) -> Callable[[nn.Module, tuple], tuple[Tensor, Tensor]] | None:
    """Return the function that computes both logits of a distillation head; None for others."""
    if isinstance(head, DeiTClsHead):
        return _outputs_of_deit
    if isinstance(head, LeViTClsHead) and head.distillation:
        return _outputs_of_levit
    if isinstance(head, EfficientFormerClsHead) and head.dist:
        return _outputs_of_efficientformer
    return None
