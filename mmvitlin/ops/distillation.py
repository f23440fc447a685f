"""DeiT's hard and soft distillation losses (arXiv 2012.12877, section 3)."""

import torch.nn.functional as F
from torch import Tensor


def hard_distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute the cross entropy of the student with the teacher's most likely class as label.

    Args:
        student, teacher: logits, (B, classes).
    """
    return F.cross_entropy(student, teacher.detach().argmax(dim=1))


def soft_distillation_loss(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """Compute KL(teacher || student) tau^2, with both distributions at temperature `tau`.

    The mean is taken over all B x classes logits, as in DeiT's code. A mean over images, which
    others take, is larger by the number of classes.

    Args:
        student, teacher: logits, (B, classes).
        tau: temperature; a higher one gives more weight to the teacher's unlikely classes.
    """
    divergence = F.kl_div(
        F.log_softmax(student / tau, dim=1),
        F.log_softmax(teacher.detach() / tau, dim=1),
        reduction='sum',
        log_target=True,
    )
    return divergence * tau**2 / student.numel()


# Kind -> loss of (student, teacher, tau). The most likely class is the same at all temperatures.
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
    """Weight the loss from labels by 1 - alpha, and the loss from the teacher by alpha.

    Args:
        base_loss: from the labels.
        student: logits of the student's distillation output, (B, classes).
        teacher: logits of the teacher, the same shape, detached; None if `kind` is 'none'.
        kind: 'none', 'soft' or 'hard'.
        alpha: weight of the loss from the teacher, from 0 to 1.
        tau: temperature of 'soft'.

    Returns:
        The two weighted losses, whose sum is the total loss. With 'none', `base_loss` and zero.

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
            'teacher and student must have the same classes'
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
        raise ValueError(
            f'alpha, the weight of the loss from the teacher, must be from 0 to 1, got {alpha}'
        )
    if not 0 < tau < float('inf'):
        raise ValueError(f'tau must be a finite temperature above 0, got {tau}')
