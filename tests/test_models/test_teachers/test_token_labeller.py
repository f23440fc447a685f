"""Label maps are the best logits of the classifier at each place."""

import pytest
import torch
from mmengine.dataset import pseudo_collate
from tiny_run import tiny_classifier

from mmvitlin.models.teachers import DenseLogits, TokenLabeller


@pytest.fixture
def samples():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 64, 64), generator=generator, dtype=torch.uint8)
    return [dict(inputs=image) for image in images]


@torch.no_grad()
def test_label_maps_are_the_best_logits_resized(samples):
    model, batch = tiny_classifier(), pseudo_collate(samples)
    scores, classes = TokenLabeller(model, size=3, topk=2)(batch)
    images = tiny_classifier().data_preprocessor(batch, False)['inputs']
    logits = DenseLogits(tiny_classifier())(images)  # (3, 10, 2, 2)
    assert logits.shape[-1] == 2
    resized = torch.nn.functional.interpolate(logits, (3, 3), mode='bilinear')
    best = resized.topk(2, dim=1)
    torch.testing.assert_close(scores, best.values)
    assert torch.equal(classes, best.indices)
    as_they_are, _ = TokenLabeller(tiny_classifier(), size=2, topk=1)(batch)
    assert torch.equal(as_they_are[:, 0], logits.amax(1))


def test_mixed_precision_gives_other_last_digits(samples):
    batch = pseudo_collate(samples)
    full, _ = TokenLabeller(tiny_classifier(), size=3, topk=2)(batch)
    mixed, _ = TokenLabeller(tiny_classifier(), size=3, topk=2, amp=True)(batch)
    assert mixed.dtype == full.dtype == torch.float32
    assert not torch.equal(mixed, full)
    assert (mixed - full).abs().mean() < 0.02 * full.abs().mean()


def test_classes_are_counted_by_running_one_sample(samples):
    assert TokenLabeller(tiny_classifier()).count_classes(samples[0]) == 10


def test_the_checksum_follows_every_weight():
    model = tiny_classifier()
    before = TokenLabeller(model).digest_weights()
    assert TokenLabeller(tiny_classifier()).digest_weights() == before
    model.head.fc.bias.data[3] += 1
    assert TokenLabeller(model).digest_weights() != before
