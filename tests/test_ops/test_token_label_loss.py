"""The loss of token labeling: the original's numbers, and its parts."""

import pytest
import torch
from goldens import load_meta, load_outputs, standard_normal

from mmvitlin.ops.token_label_loss import token_label_loss

B, N, C = 4, 9, 7
META, OUTPUTS = load_meta('token_label_loss'), load_outputs('token_label_loss')


def drawn():
    """Class logits, token logits, dense targets and soft labels as the original was given."""
    seed = META['seed']
    return (
        standard_normal((B, C), seed + 5),
        standard_normal((B, N, C), seed + 6),
        standard_normal((B, C, N + 2), seed + 7).softmax(1),
        standard_normal((B, C), seed + 8).softmax(1),
    )


@pytest.mark.parametrize('name', OUTPUTS)
def test_losses_are_the_originals(name):
    kind, box, ground_truth = name.split('_')
    class_logits, token_logits, dense, labels = drawn()
    x1, y1, x2, y2 = map(int, box.removeprefix('bb'))
    loss_cls, loss_tokens = token_label_loss(
        class_logits,
        token_logits,
        dense if kind == 'tokenlabel' else labels[..., None].expand(-1, -1, N + 2),
        (x2 - x1) * (y2 - y1) / N,
        ground_truth == 'gt1',
    )
    loss = META['cls_weight'] * loss_cls + META['dense_weight'] * loss_tokens
    assert loss.item() == pytest.approx(OUTPUTS[name].item(), rel=1e-6)


def test_a_single_patch_has_the_target_of_the_class_token():
    class_logits, token_logits, dense, _ = drawn()
    patch = token_logits[:, :1]
    twice = token_label_loss(class_logits, patch, dense[..., [0, 1, 1]])
    assert token_label_loss(class_logits, patch, dense[..., :2]) == twice


def test_half_precision_is_computed_in_float32():
    class_logits, token_logits, dense, _ = drawn()
    halves = (class_logits.half() * 100, token_logits.half() * 100)
    losses = token_label_loss(*halves, dense.half(), 0.25)
    expected = token_label_loss(*(x.float() for x in halves), dense.half().float(), 0.25)
    for loss, wanted in zip(losses, expected):
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(wanted.item(), rel=1e-3)
