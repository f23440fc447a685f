"""WeightedCrossEntropyLoss equals PyTorch's weighted mean, and ignores a label."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, DefaultScope

from mmvitlin.models.losses import WeightedCrossEntropyLoss

WEIGHTS = [0.2, 1.0, 3.0]


@pytest.fixture
def batch():
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (2, 5, 4))
    labels[:, 0] = 255
    return torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True), labels


def test_it_is_the_weighted_mean_over_pixels_that_are_not_ignored(batch):
    logits, labels = batch
    loss = WeightedCrossEntropyLoss(WEIGHTS, loss_weight=0.5).double()
    expected = F.cross_entropy(logits, labels, torch.tensor(WEIGHTS).double(), ignore_index=255)
    torch.testing.assert_close(loss(logits, labels), expected * 0.5)
    half = torch.zeros(labels.shape)
    half[1] = 2  # as a sampler of pixels weighs them
    torch.testing.assert_close(
        loss(logits, labels, half), loss(logits[1:], labels[1:]), check_dtype=False
    )


def test_a_batch_of_ignored_pixels_has_the_loss_0_and_no_gradient(batch):
    logits, labels = batch
    loss = WeightedCrossEntropyLoss(WEIGHTS)(logits, torch.full_like(labels, 7), ignore_index=7)
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


def test_other_logits_are_refused(batch):
    with pytest.raises(ValueError, match='3 classes, and class_weight has 2'):
        WeightedCrossEntropyLoss(WEIGHTS[:2])(*batch)


@pytest.mark.parametrize('weights', [[], [1.0, -1.0], [0.0, 0.0]])
def test_weights_that_train_nothing_are_refused(weights):
    with pytest.raises(ValueError, match='class_weight must hold'):
        WeightedCrossEntropyLoss(weights)


def test_a_head_of_mmsegmentation_trains_by_it_where_pixels_are_ignored():
    import mmseg.models  # noqa: F401
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    loss = dict(type='mmvitlin.WeightedCrossEntropyLoss', class_weight=WEIGHTS)
    with DefaultScope.overwrite_default_scope('mmseg'):
        head = MODELS.build(
            dict(type='FCNHead', in_channels=4, channels=4, num_classes=3, loss_decode=loss)
        )
    labels = PixelData(data=torch.tensor([[[0, 255], [2, 1]]]))
    sample = SegDataSample(gt_sem_seg=labels)
    losses = head.loss((torch.randn(1, 4, 2, 2),), [sample], {})
    assert losses['loss_ce'].requires_grad
    assert not any('class_weight' in name for name in head.state_dict())
