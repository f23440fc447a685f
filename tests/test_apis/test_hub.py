"""mmpretrain lists, builds and runs our classifiers by name.

Tests that depend on the order of imports run in a fresh interpreter.
"""

from pathlib import Path

import mmpretrain
import numpy as np
import pytest
import torch
from config_reading import CONFIGS, load
from fresh_python import run_python
from mmengine.registry import DefaultScope
from mmpretrain.apis import FeatureExtractor, ImageClassificationInferencer
from tiny_run import DEMO
from torch.utils._pytree import tree_flatten

from mmvitlin.apis.hub import enter_hub
from mmvitlin.apis.model_index import CLASSIFICATION, find_names
from mmvitlin.engine.cost import meta_device

pytestmark = pytest.mark.slow

CLASSIFIERS = sorted(
    Path(path).stem
    for path in CONFIGS
    if load(path).default_scope == 'mmpretrain' and load(path).test_dataloader
)
DIGITS = [name for name in CLASSIFIERS if name.endswith('_digits')]
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
COUNT = "print('listed', len(mmpretrain.list_models('*l2vit*')))"


@pytest.fixture(autouse=True)
def scope():
    """The scope that mmpretrain expects, and that mmdet's and mmseg's inferencers change."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.mark.parametrize(
    'imports', ['import mmpretrain, mmvitlin', 'import mmvitlin, mmvitlin.apis, mmpretrain']
)
def test_models_are_listed_after_either_order_of_imports(imports):
    expected = sum('l2vit' in name for name in CLASSIFIERS)
    assert f'listed {expected}\n' in run_python(f'{imports}; {COUNT}')


def test_importing_the_package_first_changes_nothing_in_mmpretrain():
    output = run_python(f'import mmvitlin, mmpretrain; {COUNT}')
    assert 'listed 0\n' in output


def test_the_package_and_its_apis_work_without_mmpretrain():
    output = run_python(
        """
        from mmvitlin.apis import list_models

        print('names:', len(list_models('l2vit')))
        """,
        without=['mmpretrain'],
    )
    assert 'names: 0' not in output


def test_the_hub_lists_every_classifier_and_no_detector_or_segmentor():
    listed = set(mmpretrain.list_models())
    assert find_names(task=CLASSIFICATION) == CLASSIFIERS
    assert listed & set(find_names()) == set(CLASSIFIERS)


def test_entering_the_hub_again_changes_nothing():
    before = mmpretrain.list_models()
    enter_hub()
    assert mmpretrain.list_models() == before


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_every_classifier_is_built_by_name(name):
    with meta_device():
        model = mmpretrain.get_model(name)
    expected = load(next(path for path in CONFIGS if f'/{name}.py' in path)).model.type
    assert type(model).__name__ == expected.removeprefix('mmvitlin.')


@pytest.mark.filterwarnings('ignore:Unable to find')
@pytest.mark.parametrize('name', DIGITS)
def test_the_hosts_inferencers_run_the_digits_models(name):
    assert mmpretrain.inference_model(name, IMAGE)['pred_class'] in '0123456789'
    (result,) = ImageClassificationInferencer(name)(IMAGE)
    assert sum(result['pred_scores']) == pytest.approx(1, abs=1e-3)
    (features,) = FeatureExtractor(name)(IMAGE)
    assert all(torch.isfinite(feature).all() for feature in tree_flatten(features)[0])


@pytest.mark.filterwarnings('ignore:Unable to find')
@pytest.mark.parametrize(
    'name',
    [
        'l2vit-tiny_8xb128-accum4-300e_in1k',
        'lion-s-natural-tiny_4xb256-300e_in1k',
        'deit-tiny_toe_4xb256-300e_in1k',
        'vit-tiny_4xb256-300e_in1k-tar',
    ],
)
def test_a_full_size_model_of_each_system_classifies_an_image(name):
    result = mmpretrain.inference_model(name, IMAGE)
    assert len(result['pred_scores']) == 1000
    assert 0 <= result['pred_label'] < 1000


def test_weights_are_loaded_from_a_file(tmp_path):
    model = mmpretrain.get_model(DEMO.stem)
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, tmp_path / 'demo.pth')
    loaded = mmpretrain.get_model(DEMO.stem, pretrained=str(tmp_path / 'demo.pth'))
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
