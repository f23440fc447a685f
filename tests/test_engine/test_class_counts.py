"""Numbers of classes are found wherever a config states them."""

from config_reading import load

from mmvitlin.engine.class_counts import EVALUATORS, find_numbers

DEMO = 'configs/quickstart/l2vit-micro_1xb64_digits.py'


def test_numbers_of_classes_are_found_by_place():
    cfg = load(DEMO)
    found = dict(find_numbers(cfg, ('data_preprocessor', 'model'), 'num_classes'))
    assert found['model.head.num_classes'] == 10
    assert set(found.values()) == {10}


def test_the_largest_of_several_numbers_counts():
    cfg = load(DEMO)
    cfg.val_evaluator = dict(type='Accuracy', topk=(1, 5))
    assert dict(find_numbers(cfg, EVALUATORS[:1], 'topk')) == {'val_evaluator.topk': 5}


def test_a_teacher_may_have_other_classes():
    cfg = load(DEMO)
    cfg.model.teacher = dict(head=dict(num_classes=1000))
    assert 1000 not in dict(find_numbers(cfg, ('model',), 'num_classes')).values()
