"""What a student loses against a teacher's logits, by DeiT (arXiv 2012.12877, section 3)."""

import torch.nn.functional as F
from torch import Tensor


def hard_distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross entropy of the student's logits, with the teacher's first choice for the label.

    Args:
        student, teacher: logits, (B, classes).
    """
    return F.cross_entropy(student, teacher.detach().argmax(dim=1))


def soft_distillation_loss(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """Divergence of the student's distribution from the teacher's, both at temperature `tau`.

    KL(teacher || student) tau^2, as a mean over all B x classes logits, which DeiT's code takes:
    where others take the mean over the images, this is smaller by the number of classes.

    Args:
        student, teacher: logits, (B, classes).
        tau: the higher, the more the classes that the teacher did not choose count.
    """
    divergence = F.kl_div(
        F.log_softmax(student / tau, dim=1),
        F.log_softmax(teacher.detach() / tau, dim=1),
        reduction='sum',
        log_target=True,
    )
    return divergence * tau**2 / student.numel()


# Kind -> loss of (student, teacher, tau). A first choice is the same at every temperature.
DISTILLATION_LOSSES = {
    'soft': soft_distillation_loss,
    'hard': lambda student, teacher, tau: hard_distillation_loss(student, teacher),
}


def distillation_loss(
    base_loss: Tensor,
    student: Tensor,
    teacher: Tensor | None,
    kind: str = 'hard',
    alpha: float = 0.5,
    tau: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """(1 - alpha) of the loss from labels and alpha of the loss from the teacher.

    Args:
        base_loss: from the labels.
        student: logits of the student's distillation output, (B, classes).
        teacher: logits of the teacher, the same shape; no gradient goes to them. None if `kind` is
            'none'.
        kind: 'none', 'soft' or 'hard'.
        alpha: the teacher's part, from 0 to 1.
        tau: the temperature of 'soft'.

    Returns:
        The two parts, weighted: their sum is the loss. With 'none' all of `base_loss`, and zero.

    Raises:
        ValueError: settings out of range, or logits of different shapes.
    """
    check_distillation(kind, alpha, tau)
    if kind == 'none':
        return base_loss, base_loss.new_zeros(())
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(
            'distillation compares logits (B, classes) of one shape, got '
            f'{tuple(student.shape)} from the student and {tuple(teacher.shape)} from the teacher: '
            'the teacher must tell the same classes apart'
        )
    return (1 - alpha) * base_loss, alpha * DISTILLATION_LOSSES[kind](student, teacher, tau)


def check_distillation(kind: str, alpha: float, tau: float) -> None:
    """Check the settings of `distillation_loss`.

    Raises:
        ValueError: one is out of range.
    """
    kinds = ['none', *DISTILLATION_LOSSES]
    if kind not in kinds:
        raise ValueError(f'distillation must be one of {", ".join(kinds)}, got {kind!r}')
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is the teacher's part of the loss, from 0 to 1, got {alpha}")
    if not 0 < tau < float('inf'):
        raise ValueError(f'tau is a finite temperature above 0, got {tau}')
