"""The head of token labeling: its predictions, and the targets of its tokens."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from test_models.test_backbones.cases import TINY_LVVIT

from mmvitlin.models import TokenLabelHead
from mmvitlin.ops.token_labels import token_label_targets

CLASSES, WIDTH = 6, 24


def head(**settings):
    torch.manual_seed(0)
    made = TokenLabelHead(**dict(num_classes=CLASSES, in_channels=WIDTH) | settings)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def features(batch=3, grid=(2, 3), box=None):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(batch, 1 + grid[0] * grid[1], WIDTH, generator=generator)
    mixed = () if box is None else (box,)
    return ((tokens[:, 0], tokens[:, 1:].unflatten(1, grid), *mixed),)


def samples(labels=(0, 2, 5)):
    return [DataSample().set_gt_label(label) for label in labels]


def labelled(labels=(0, 2, 5), which=(0, 1, 2)):
    """Samples of which some have a label map, of 3 classes at 4 x 4 places, and a box."""
    generator = torch.Generator().manual_seed(2)
    found = samples(labels)
    for i, sample in enumerate(found):
        scores = 8 * torch.rand(3, 4, 4, generator=generator)
        classes = torch.rand(CLASSES, 4, 4, generator=generator).argsort(0)[:3].float()
        if i in which:
            sample.token_label_map = torch.stack((scores, classes))
            sample.token_label_box = torch.tensor([0.1, 0.2, 0.6, 0.7]) / (1 + i)
    return found


def smoothed(labels, smoothing=0.1):
    return F.one_hot(torch.tensor(labels), CLASSES) * (1 - smoothing) + smoothing / CLASSES


def cross_entropy(logits, targets):
    return -(targets * logits.log_softmax(-1)).sum(-1).mean()


# Predictions


def test_logits_are_the_class_tokens_and_half_of_the_largest_of_the_patches():
    model, feats = head(), features()
    ((class_token, patches),) = feats
    tokens = F.linear(patches, model.token_fc.weight, model.token_fc.bias)
    expected = F.linear(class_token, model.fc.weight, model.fc.bias)
    expected = expected + 0.5 * torch.stack([t.reshape(-1, CLASSES).max(0)[0] for t in tokens])
    torch.testing.assert_close(model(feats), expected)
    torch.testing.assert_close(model.pre_logits(feats), class_token)


def test_the_last_of_several_outputs_is_classified():
    first, last = features(), features(grid=(4, 4))
    torch.testing.assert_close(head()((*first, *last)), head()(last))


@pytest.mark.parametrize('given', ['samples', 'none', 'Nones'])
def test_predictions_go_into_the_samples_or_into_new_ones(given):
    model, feats = head(), features()
    found = {'samples': samples(), 'none': None, 'Nones': [None] * 3}[given]
    predictions = model.predict(feats, found)
    scores = model(feats).softmax(1)
    for i, prediction in enumerate(predictions):
        assert given != 'samples' or prediction is found[i]
        torch.testing.assert_close(prediction.pred_score, scores[i])
        assert prediction.pred_label.tolist() == [scores[i].argmax()]


# Losses


def test_without_label_maps_every_token_has_the_images_label():
    model, feats = head(), features()
    class_logits, token_logits, share = model.classify(feats)
    assert share == 0
    targets = smoothed([0, 2, 5])
    losses = model.loss(feats, samples())
    torch.testing.assert_close(losses['loss_cls'], cross_entropy(class_logits, targets))
    expected = cross_entropy(token_logits.flatten(1, 2), targets[:, None])
    torch.testing.assert_close(losses['loss_tokens'], expected)


def test_labels_that_were_mixed_are_smoothed_like_others():
    scores = torch.rand(3, CLASSES).softmax(1)
    mixed = [sample.set_gt_score(score) for sample, score in zip(samples(), scores)]
    targets = head().make_targets(mixed, (1, 2), torch.device('cpu'))
    expected = scores * 0.9 + 0.1 / CLASSES
    torch.testing.assert_close(targets, expected[..., None].expand(-1, -1, 4))


@pytest.mark.parametrize('grid', [(2, 3), (4, 4), (1, 1)])
def test_label_maps_are_read_for_the_grid_at_hand(grid):
    found = labelled()
    targets = head().make_targets(found, grid, torch.device('cpu'))
    expected = token_label_targets(
        torch.stack([sample.token_label_map for sample in found]),
        torch.stack([sample.token_label_box for sample in found]),
        CLASSES,
        grid,
        0.1,
        torch.tensor([0, 2, 5]),
    )
    torch.testing.assert_close(targets, expected, rtol=0, atol=0)
    losses = head().loss(features(grid=grid), found)
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize('grid', [(2, 3), (1, 1)])
def test_a_sample_without_a_label_map_has_the_images_label_beside_others_that_have_one(grid):
    targets = head().make_targets(labelled(which=(0, 2)), grid, torch.device('cpu'))
    every = head().make_targets(labelled(), grid, torch.device('cpu'))
    assert torch.equal(targets[[0, 2]], every[[0, 2]])
    assert torch.equal(targets[1], smoothed([2])[0][:, None].expand_as(targets[1]))


def test_mixed_tokens_go_back_and_class_targets_follow_the_box():
    box = torch.zeros(2, 3, dtype=torch.bool)
    box[0, 1:] = True
    model, feats = head(), features(box=box)
    class_logits, token_logits, share = model.classify(feats)
    assert share == pytest.approx(2 / 6)
    _, where_they_are, _ = model.classify(features())
    assert torch.equal(token_logits[:, ~box], where_they_are[:, ~box])
    assert torch.equal(token_logits[:, box], where_they_are.flip(0)[:, box])
    losses, targets = model.loss(feats, samples()), smoothed([0, 2, 5])
    expected = cross_entropy(class_logits, targets * 2 / 3 + targets.flip(0) / 3)
    torch.testing.assert_close(losses['loss_cls'], expected)
    expected = cross_entropy(token_logits.flatten(1, 2), targets[:, None])
    torch.testing.assert_close(losses['loss_tokens'], expected)


@pytest.mark.parametrize(
    ('argument', 'value', 'changed'),
    [
        ('cls_weight', 0.5, {'loss_cls'}),
        ('dense_weight', 0.5, {'loss_tokens'}),
        ('smoothing', 0.2, {'loss_cls', 'loss_tokens'}),
        ('ground_truth', True, {'loss_cls'}),
    ],
)
def test_every_argument_is_live(argument, value, changed):
    losses = head().loss(features(), labelled())
    others = head(**{argument: value}).loss(features(), labelled())
    assert {name for name in losses if losses[name] != others[name]} == changed
    if argument.endswith('weight'):
        (name,) = changed
        torch.testing.assert_close(others[name], value * losses[name])


def test_weights_start_truncated_normal_or_as_init_cfg_says():
    model = TokenLabelHead(num_classes=1000, in_channels=64)
    model.init_weights()
    for layer in (model.fc, model.token_fc):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not layer.bias.any()
    constant = dict(type='Constant', layer='Linear', val=0.5)
    model = TokenLabelHead(num_classes=3, in_channels=4, init_cfg=constant)
    model.init_weights()
    assert (model.fc.weight == 0.5).all()


# Errors


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(num_classes=0), 'num_classes must be an integer of at least 1, got 0'),
        (dict(in_channels=0), 'in_channels must be an integer of at least 1, got 0'),
        (dict(cls_weight=-1), 'cls_weight and dense_weight must be at least 0, got -1 and 1.0'),
        (dict(dense_weight=-1), 'got 1.0 and -1'),
        (dict(smoothing=1.0), 'smoothing must be in [0, 1), got 1.0'),
    ],
)
def test_bad_arguments_are_refused_with_what_was_given(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        head(**settings)


def test_features_of_another_form_are_refused_with_what_to_build():
    with pytest.raises(ValueError, match=r"\(2, 24\): build .* out_type='cls_and_patches'"):
        head()((torch.zeros(2, WIDTH),))
    with pytest.raises(ValueError, match='have 24 channels, and in_channels of the head is 48'):
        head(in_channels=48)(features())


def test_label_maps_of_mixed_images_are_refused():
    found = [s.set_gt_score(torch.full((CLASSES,), 1 / CLASSES)) for s in labelled()]
    with pytest.raises(ValueError, match='Mixup and CutMix mix images and not their label maps'):
        head().loss(features(), found)


def test_a_label_map_needs_its_box():
    found = labelled()
    del found[1].token_label_box
    with pytest.raises(ValueError, match=r'no token_label_box, .*: let PackInputs pack both'):
        head().loss(features(), found)


# In mmpretrain's classifier


def classifier(**backbone):
    return ImageClassifier(
        backbone=dict(
            type='mmvitlin.LVViT', arch=TINY_LVVIT, img_size=32, patch_size=8, **backbone
        ),
        head=dict(type='mmvitlin.TokenLabelHead', num_classes=CLASSES, in_channels=WIDTH),
    )


def test_a_classifier_learns_every_parameter_from_label_maps():
    model = classifier()
    losses = model(torch.randn(3, 3, 40, 24), labelled(), mode='loss')
    sum(losses.values()).backward()
    assert losses.keys() == {'loss_cls', 'loss_tokens'}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_a_classifier_starts_at_the_loss_of_guessing():
    model = classifier()
    model.init_weights()
    losses = model(torch.randn(3, 3, 32, 32), samples(), mode='loss')
    for loss in losses.values():
        assert loss.item() == pytest.approx(math.log(CLASSES), rel=0.1)


def test_features_are_extracted_at_every_stage():
    model = classifier()
    model.eval()
    images = torch.randn(2, 3, 32, 32)
    ((class_token, patches),) = model.extract_feat(images, stage='backbone')
    assert (class_token.shape, patches.shape) == ((2, WIDTH), (2, 4, 4, WIDTH))
    assert torch.equal(model.extract_feat(images, stage='pre_logits'), class_token)


def test_another_output_of_the_backbone_is_refused():
    model = classifier(out_type='cls_token')
    with pytest.raises(ValueError, match='out_type'):
        model(torch.randn(2, 3, 32, 32), mode='tensor')


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast_computes_the_losses_in_float32(dtype):
    model, found = classifier(mix_token=False), labelled()
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = model(images, found, mode='loss')
        with torch.autocast('cpu', dtype=dtype):
            losses = model(images, found, mode='loss')
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected[name].item(), rel=0.02)
