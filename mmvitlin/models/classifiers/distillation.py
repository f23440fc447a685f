"""Training any classifier of mmpretrain with a teacher, as DeiT does (arXiv 2012.12877)."""

from collections.abc import Callable

from mmpretrain.models import ClsDataPreprocessor, ImageClassifier
from mmpretrain.models.heads import ClsHead, DeiTClsHead, EfficientFormerClsHead, LeViTClsHead
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmvitlin.models.teachers.frozen_teacher import FrozenTeacher, class_output, num_classes_of
from mmvitlin.ops.distillation import check_distillation, distillation_loss
from mmvitlin.registry import MODELS, register


@register(MODELS)
class DistillationClassifier(ImageClassifier):
    """mmpretrain's ImageClassifier, which learns from labels and from a frozen teacher.

    The student is any backbone, neck and head. One with a head for distillation (DeiT's, with its
    distillation token, LeViT's and EfficientFormer's) learns the labels by its class output and the
    teacher's answers by the other, and averages the two at evaluation; any other learns both by
    its class output. The log tells `base_loss` and `distillation_loss`, weighted: they add up to
    the loss.

    Evaluation, prediction and checkpoints are those of an ImageClassifier with the same backbone,
    neck and head, which loads the checkpoints strictly. The teacher is needed for training alone:
    it is read, and whatever is wrong with it is raised, when training starts (`init_weights`), or
    with the first loss where nobody called that.

    Args:
        teacher: arguments of `FrozenTeacher`, which says more: model (by default RegNetY-160 of
            timm), checkpoint, input_size and data_preprocessor.
        distillation: 'hard', the teacher's first choice is a label; 'soft', its distribution is; or
            'none', train as an ImageClassifier, without a teacher.
        alpha: the teacher's part of the loss, from 0 to 1.
        tau: the temperature of 'soft'.
        backbone, neck, head, pretrained, train_cfg, data_preprocessor, init_cfg: as in
            ImageClassifier. The data preprocessor is a ClsDataPreprocessor, whose normalisation can
            be undone.

    Raises:
        ValueError: settings out of range, or a student without a head that has classes, or one that
            mixes images inside (MixToken).
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
                'the student needs a head that tells its classes apart, such as LinearClsHead, '
                f'got {type(self.head).__name__}'
            )
        if not isinstance(self.data_preprocessor, ClsDataPreprocessor):
            raise ValueError(
                "the student's images are brought back to pixels for the teacher, which takes a "
                f'ClsDataPreprocessor, got {type(self.data_preprocessor).__name__}'
            )
        if distillation != 'none' and getattr(self.backbone, 'mix_token', False):
            raise ValueError(
                f'{type(self.backbone).__name__} mixes images where the teacher does not see it: '
                'give it mix_token=False'
            )
        self.distillation, self.alpha, self.tau = distillation, alpha, tau
        self.teacher = FrozenTeacher(**teacher or {})

    def init_weights(self) -> None:
        """Initialise the student; see that the teacher is there, now that training starts."""
        super().init_weights()
        self._prepare_teacher()

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """The loss from the labels and that from the teacher, weighted.

        Args:
            inputs: images as the data preprocessor leaves them, (B, C, H, W).
            data_samples: their labels, or scores where images are mixed.

        Returns:
            'base_loss' and 'distillation_loss', and whatever else the head gives.
        """
        if self.distillation == 'none':
            return super().loss(inputs, data_samples)
        self._prepare_teacher()
        # First, while the student holds no activations: what the two take then does not add up.
        teacher = self.teacher.logits(inputs, self.data_preprocessor)
        feats = self.extract_feat(inputs)
        losses, logits = self._learn_labels(feats, data_samples)
        base = sum(losses.pop(name) for name in list(losses) if 'loss' in name)
        losses['base_loss'], losses['distillation_loss'] = distillation_loss(
            base, logits, teacher, self.distillation, self.alpha, self.tau
        )
        return losses

    def _learn_labels(
        self, feats: tuple, data_samples: list[DataSample]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """What the head says of the labels, and the logits that learn from the teacher."""
        outputs_of = _outputs_of(self.head)
        if outputs_of is not None:
            classes, distilled = outputs_of(self.head, feats)
            return self.head._get_loss(classes, data_samples), distilled
        if type(self.head).loss is ClsHead.loss:
            outputs = self.head(feats)
            losses = self.head._get_loss(outputs, data_samples)
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
    """What gives the logits for labels and for the teacher, of a head with an output for each."""
    if isinstance(head, DeiTClsHead):
        return _outputs_of_deit
    if isinstance(head, LeViTClsHead) and head.distillation:
        return _outputs_of_levit
    if isinstance(head, EfficientFormerClsHead) and head.dist:
        return _outputs_of_efficientformer
    return None
