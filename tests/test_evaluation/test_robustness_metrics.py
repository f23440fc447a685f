"""Metrics of robustness against values worked out by hand."""

import pytest
import torch
from mmengine.evaluator import Evaluator

from mmvitlin.errors import ConfigError
from mmvitlin.evaluation import CorruptionError, SubsetAccuracy
from mmvitlin.evaluation.corruption_error import ALEXNET_ERRORS


def evaluate(metric, samples):
    evaluator = Evaluator([metric])
    evaluator.process(samples)
    return evaluator.evaluate(len(samples))


def test_only_the_classes_of_the_data_set_compete():
    scores = torch.tensor([0.5, 0.1, 0.3, 0.1])
    samples = [dict(pred_score=scores, gt_label=torch.tensor([i])) for i in (0, 1, 1)]
    found = evaluate(SubsetAccuracy(classes=[1, 2], topk=(1, 2)), samples)
    assert found == {'accuracy/top1': pytest.approx(200 / 3), 'accuracy/top2': 100}


@pytest.mark.parametrize('classes, label', [([1, 7], 0), ([1, 2], 2)])
def test_classes_of_another_classifier_are_refused(classes, label):
    sample = dict(pred_score=torch.ones(4), gt_label=torch.tensor([label]))
    with pytest.raises(ConfigError, match='give classes the index in the classifier'):
        SubsetAccuracy(classes).process({}, [sample])


def corrupted(corruption, right):
    scores = torch.tensor([0.9, 0.1]) if right else torch.tensor([0.1, 0.9])
    path = f'data/imagenet-c/{corruption}/3/n01440764/x.JPEG'
    return dict(pred_score=scores, gt_label=torch.tensor([0]), img_path=path)


def test_the_mean_corruption_error_is_over_alexnets():
    samples = [corrupted(name, right) for name in ALEXNET_ERRORS for right in (True, False)]
    found = evaluate(CorruptionError(), [*samples, corrupted('fog', True), corrupted('fog', True)])
    assert found['corruption/fog/top1'] == 75
    assert found['corruption/top1'] == pytest.approx((14 * 50 + 75) / 15)
    errors = [
        100 * (25 if name == 'fog' else 50) / alexnet for name, alexnet in ALEXNET_ERRORS.items()
    ]
    assert found['corruption/mCE'] == pytest.approx(sum(errors) / 15)


def test_without_all_corruptions_there_is_no_mean_corruption_error():
    found = evaluate(CorruptionError(), [corrupted('snow', True)])
    assert found == {'corruption/top1': 100, 'corruption/snow/top1': 100}


def test_an_image_in_another_folder_is_refused():
    sample = corrupted('sunshine', True)
    with pytest.raises(ConfigError, match='is not in CORRUPTION/SEVERITY/CLASS/IMAGE'):
        CorruptionError().process({}, [sample])
