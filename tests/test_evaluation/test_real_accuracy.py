"""ReaLAccuracy counts first choices among the labels of an image, and no image without labels."""

import json

import pytest
import torch
from mmengine.evaluator import Evaluator

from mmvitlin.errors import ConfigError
from mmvitlin.evaluation import ReaLAccuracy


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / 'real.json'
    path.write_text(json.dumps([[2], [0, 1], [], [3]]))
    return str(path)


def sample(number, choice):
    score = torch.nn.functional.one_hot(torch.tensor(choice), 4).float()
    return dict(img_path=f'val/n01440764/ILSVRC2012_val_{number:08d}.JPEG', pred_score=score)


def test_a_choice_among_the_labels_is_right_and_images_without_are_not_counted(labels):
    evaluator = Evaluator([dict(type='mmvitlin.ReaLAccuracy', labels=labels)])
    evaluator.process([sample(1, 2), sample(2, 1)])
    evaluator.process([sample(3, 0), sample(4, 0)])
    assert evaluator.evaluate(4) == {'real/top1': pytest.approx(200 / 3)}


def test_an_image_of_another_name_is_refused(labels):
    metric = ReaLAccuracy(labels)
    for path in ('val/cat.JPEG', 'ILSVRC2012_val_00000005.JPEG', 'ILSVRC2012_val_00000000.JPEG'):
        with pytest.raises(ConfigError, match=r'is not named as ImageNet names .* to 00000004'):
            metric.process({}, [dict(img_path=path, pred_score=torch.zeros(4))])


@pytest.mark.parametrize('content', [None, 'no json', '{"a": 1}', '[1, 2]'])
def test_a_file_that_is_something_else_is_refused(tmp_path, content):
    path = tmp_path / 'real.json'
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r'give the path of real\.json'):
        ReaLAccuracy(str(path))
