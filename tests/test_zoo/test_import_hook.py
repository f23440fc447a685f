"""mmpretrain lists and builds our classifiers, whichever of the two is imported first.

What depends on what was imported before runs in a fresh interpreter.
"""

import importlib.util
import re
import sys
import warnings
from fnmatch import fnmatchcase
from pathlib import Path

import mmpretrain
import numpy as np
import pytest
import torch
from config_reading import CONFIGS, load
from fresh_python import run_python
from mmengine.registry import DefaultScope
from mmpretrain.apis import FeatureExtractor, ImageClassificationInferencer, ModelHub
from tiny_run import DEMO
from torch.utils._pytree import tree_leaves

import mmvitlin
from mmvitlin.zoo import import_hook
from mmvitlin.zoo.model_index import CLASSIFICATION, find_names

CLASSIFIERS = sorted(
    Path(path).stem for path in CONFIGS if load(path).default_scope == 'mmpretrain'
)
DIGITS = [name for name in CLASSIFIERS if name.endswith('_digits')]
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
LIST = "print('listed', len(mmpretrain.list_models('*l2vit*')))"
SYSTEMS = ('l2vit', 'lion', 'vit-llama', 'lvvit', 'toe', 'efftrain')
NUMBER = sum('l2vit' in name for name in CLASSIFIERS)


@pytest.fixture(autouse=True)
def scope():
    """What mmpretrain takes for granted, and mmdet's and mmseg's inferencers change for good."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of the demo's model, whose outputs are those of no other weights."""
    model = mmpretrain.get_model(DEMO.stem)
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, tmp_path / 'demo.pth')
    return model, str(tmp_path / 'demo.pth')


@pytest.mark.parametrize(
    'imports',
    [
        'import mmvitlin, mmpretrain',
        'import mmpretrain, mmvitlin',
        'import mmvitlin, importlib, mmpretrain; importlib.reload(mmvitlin)',
        'import mmvitlin.zoo.import_hook as hook, importlib; importlib.reload(hook).install(); '
        'import mmpretrain; importlib.reload(hook).install()',
    ],
)
def test_models_are_listed_whatever_is_imported_first(imports):
    strict = "import warnings; warnings.simplefilter('error', UserWarning)"
    output = run_python(f'{strict}; {imports}; {LIST}')
    assert f'listed {NUMBER}\n' in output


def test_the_package_works_without_mmpretrain_and_mmpretrain_without_the_hook():
    output = run_python(
        """
        import mmvitlin
        from mmvitlin.apis import list_models

        try:
            import mmpretrain
        except ModuleNotFoundError as error:
            print('missing:', error, len(list_models('l2vit')))
        """,
        without=['mmpretrain'],
    )
    assert "missing: No module named 'mmpretrain'" in output


OLD = {
    'without the module': {'__init__.py': "__version__ = '0.25.0'\n"},
    'without a hub': {
        '__init__.py': 'from .apis import model\n',
        'apis/model.py': 'get_model = 1\n',
    },
    'with another hub': {
        '__init__.py': 'from .apis import model\n',
        'apis/model.py': 'class ModelHub:\n    models = {}\n',
    },
}


@pytest.mark.parametrize('kind', OLD)
def test_an_old_mmpretrain_is_imported_as_ever(kind, tmp_path):
    for name, text in {'apis/__init__.py': '', **OLD[kind]}.items():
        path = tmp_path / 'mmpretrain' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    output = run_python(
        """
        import mmvitlin, mmpretrain
        print('imported', mmpretrain.__file__)
        """,
        path=str(tmp_path),
    )
    assert f'imported {tmp_path}' in output
    said = 'mmpretrain does not list the models of mmvitlin: AttributeError' in output
    assert said == (kind == 'with another hub')


def test_an_mmpretrain_that_fails_to_import_fails_in_its_own_words(tmp_path):
    for name, text in {'__init__.py': 'from .apis import model\n', 'apis/__init__.py': ''}.items():
        (tmp_path / 'mmpretrain' / name).parent.mkdir(exist_ok=True)
        (tmp_path / 'mmpretrain' / name).write_text(text)
    (tmp_path / 'mmpretrain/apis/model.py').write_text("raise AssertionError('MMCV==9 is used')\n")
    output = run_python(
        """
        import mmvitlin
        for attempt in range(2):
            try:
                import mmpretrain
            except AssertionError as error:
                print('raised:', error)
        """,
        path=str(tmp_path),
    )
    assert output.count('raised: MMCV==9 is used') == 2


def test_the_module_keeps_its_own_loader():
    module = sys.modules[import_hook.HUB]
    assert type(module.__loader__).__module__ != 'mmvitlin.zoo.import_hook'
    assert module.__spec__.loader is module.__loader__
    assert [type(f).__name__ for f in sys.meta_path].count('HubFinder') == 1


def test_who_only_looks_for_the_module_finds_its_source():
    spec = importlib.util.find_spec(import_hook.HUB)
    assert 'class ModelHub' in spec.loader.get_source(import_hook.HUB)
    (hook,) = (finder for finder in sys.meta_path if type(finder).__name__ == 'HubFinder')
    loader = hook.find_spec(import_hook.HUB, mmpretrain.apis.__path__).loader
    assert type(loader).__name__ == 'HubLoader'
    assert loader.get_source(import_hook.HUB) == spec.loader.get_source(import_hook.HUB)


def test_the_hub_lists_every_classifier_and_no_other_model_of_ours():
    ours = {n for n, m in ModelHub._models_dict.items() if type(m).__name__ == 'HubModel'}
    mmpretrain.list_models()  # which has mmpretrain enter its own, or raise for a name of ours
    assert sorted(ours) == CLASSIFIERS == find_names(task=CLASSIFICATION)
    assert set(mmpretrain.list_models()) >= ours
    dense = set(find_names()) - ours
    assert dense and not dense & set(mmpretrain.list_models())


@pytest.mark.parametrize('system', SYSTEMS)
def test_a_pattern_of_its_name_lists_the_configs_of_a_system(system):
    expected = [name for name in CLASSIFIERS if system in name]
    assert expected
    assert mmpretrain.list_models(f'*{system}*') == expected


@pytest.mark.parametrize('pattern', ['l2vit*', '*micro_*_digits', '*_digits'])
def test_patterns_list_the_classification_configs_that_they_match(pattern):
    expected = [name for name in CLASSIFIERS if fnmatchcase(name, f'{pattern}*')]
    assert expected
    assert mmpretrain.list_models(pattern) == expected
    assert mmpretrain.list_models(pattern, task=CLASSIFICATION) == expected


def test_reloading_and_installing_again_enters_nothing_twice():
    before = dict(ModelHub._models_dict)
    importlib.reload(mmvitlin)
    import_hook.install()
    assert ModelHub._models_dict == before


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_every_classifier_is_built_by_name(name):
    with torch.device('meta'):
        model = mmpretrain.get_model(name)
    expected = load(next(p for p in CONFIGS if f'/{name}.py' in p)).model.type
    assert type(model).__name__ == expected.removeprefix('mmvitlin.')
    assert model._metainfo.name == name


@pytest.mark.filterwarnings('ignore:no weights of', 'ignore:Unable to find')
@pytest.mark.parametrize('name', DIGITS)
def test_the_hosts_inferencers_run_the_digits_models(name):
    result = mmpretrain.inference_model(name, IMAGE)
    assert result['pred_class'] in '0123456789'
    (again,) = ImageClassificationInferencer(name)(IMAGE)
    assert sum(again['pred_scores']) == pytest.approx(1, abs=1e-3)
    (features,) = FeatureExtractor(name)(IMAGE)
    assert all(torch.isfinite(feature).all() for feature in tree_leaves(features))


@pytest.mark.filterwarnings('ignore:no weights of', 'ignore:Unable to find')
@pytest.mark.parametrize(
    'name',
    [
        'l2vit-tiny_8xb128-accum4-300e_in1k',
        'lion-s-natural-tiny_4xb256-300e_in1k',
        'deit-tiny_toe_4xb256-300e_in1k',
        'vit-tiny_4xb256-300e_in1k-tar',
    ],
)
def test_a_model_of_each_system_sees_an_image(name):
    result = mmpretrain.inference_model(name, IMAGE)
    assert len(result['pred_scores']) == 1000
    assert 0 <= result['pred_label'] < 1000


def test_weights_are_loaded_from_a_file(checkpoint):
    model, path = checkpoint
    loaded = mmpretrain.get_model(DEMO.stem, pretrained=path)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


@pytest.mark.parametrize(
    ('name', 'way'),
    [
        ('lion-d-tiny_4xb256-300e_in1k', r'tools/convert_checkpoint\.py lion ORIGINAL'),
        ('l2vit-micro_1xb64_digits', r'tools/train\.py'),
    ],
)
def test_asking_for_published_weights_tells_how_to_get_some(name, way):
    with pytest.warns(UserWarning, match=f'no weights of {name} are published.*{way}'):
        mmpretrain.get_model(name, pretrained=True)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        mmpretrain.get_model(name)


@pytest.mark.parametrize(
    ('wrong', 'nearest'),
    [
        ('l2vit-micro_digits', 'l2vit-micro_1xb64_digits'),
        ('LION-D-Small', 'lion-d-small_4xb256-300e_in1k'),
        ('mask-rcnn_l2vit-tiny_fpn', 'l2vit-tiny_8xb128-accum4-300e_in1k'),
    ],
)
def test_a_wrong_name_gets_the_nearest_of_ours(wrong, nearest):
    with pytest.raises(ValueError, match=f'no model .*the nearest are .*{nearest}'):
        mmpretrain.get_model(wrong)


def test_a_detectors_name_gets_what_it_is_for():
    with pytest.raises(ValueError, match='is for Object Detection'):
        mmpretrain.get_model('mask-rcnn_l2vit-tiny_fpn_1x_coco')


def test_a_wrong_name_that_is_nearer_to_the_hosts_is_left_to_the_host():
    with pytest.raises(ValueError, match='Failed to find model "resnet50_8xb32_in2k"'):
        mmpretrain.get_model('resnet50_8xb32_in2k')


def test_entering_models_costs_little_beside_importing_mmpretrain():
    """Nothing heavy comes along with them: mmpretrain itself has imported what it takes."""
    output = run_python(
        """
        import mmpretrain, mmengine
        before = set(sys.modules)
        import mmvitlin
        print('new:', *sorted(set(sys.modules) - before))
        """
    )
    new = re.search('^new: (.*)$', output, re.MULTILINE)[1].split()
    assert {name.partition('.')[0] for name in new} == {'mmvitlin'}
    assert not [name for name in new if name.startswith('mmvitlin.models')]
