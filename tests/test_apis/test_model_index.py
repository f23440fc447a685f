"""The model index lists every config once, with numbers that the repository's own tool counts."""

import re
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
import yaml
from config_reading import ALL_CONFIGS, CONFIGS, load
from modelindex.load_model_index import load as load_model_index
from tiny_run import ROOT

from mmvitlin.apis import model_index
from mmvitlin.apis.model_index import (
    CLASSIFICATION,
    DETECTION,
    POSE,
    PRE_TRAINING,
    SEGMENTATION,
    UnknownModelError,
    find_entry,
    find_names,
    how_to_get_weights,
    read_index,
)
from mmvitlin.checkpoints.converters import CONVERTERS
from mmvitlin.engine.cost import count_config
from mmvitlin.engine.hosts import image_shape

pytestmark = pytest.mark.slow

METAFILES = sorted((ROOT / 'configs').glob('*/metafile.yml'))
MODELS = [
    (path, model) for path in METAFILES for model in yaml.safe_load(path.read_text())['Models']
]
ENTRY = pytest.mark.parametrize(
    'entry',
    [model for _, model in MODELS if model['Config'] in CONFIGS],
    ids=lambda e: e['Name'],
)
TASKS = {'mmpretrain': CLASSIFICATION, 'mmdet': DETECTION, 'mmseg': SEGMENTATION, 'mmpose': POSE}

# What the papers report; the tar twins are the same trainings.
PUBLISHED = {
    'l2vit-tiny_8xb128-accum4-300e_in1k': 83.1,
    'l2vit-small_8xb128-accum4-300e_in1k': 84.1,
    'l2vit-base_8xb128-accum4-300e_in1k': 84.4,
    'l2vit-base_in21k-pre_8xb64-accum2-30e_in1k': 86.0,
    'l2vit-base_in21k-pre_8xb64-accum2-30e_in1k-384px': 87.0,
    'lion-lit-base_4xb256-300e_in1k': 74.7,
    'lion-d-base_4xb256-300e_in1k': 77.8,
    'lion-d-natural-base_4xb256-300e_in1k': 80.2,
    'lion-s-base_4xb256-300e_in1k': 76.3,
    'lion-s-natural-base_4xb256-300e_in1k': 79.9,
    'vit-llama-tiny_4xb256-300e_in1k': 73.2,
    'vit-llama-small_4xb256-300e_in1k': 80.7,
    'vit-llama-base_4xb256-300e_in1k': 81.7,
    'vit-tiny_4xb256-300e_in1k': 72.1,
    'vit-small_4xb256-300e_in1k': 80.1,
    'vit-base_4xb256-300e_in1k': 80.6,
    'deit-tiny_4xb256-300e_in1k': 72.2,
    'deit-small_4xb256-300e_in1k': 79.8,
    'deit-base_4xb256-300e_in1k': 81.8,
    'deit-tiny_distilled_4xb256-300e_in1k': 74.5,
    'deit-small_distilled_4xb256-300e_in1k': 81.2,
    'deit-base_distilled_4xb256-300e_in1k': 83.4,
    'lvvit-small_8xb64-30e_in1k-384px': 84.4,
    'lvvit-medium_8xb64-30e_in1k-384px': 85.4,
    'lvvit-medium_8xb64-30e_in1k-448px': 85.5,
    'lvvit-large_8xb64-30e_in1k-448px': 86.2,
    'convnext-tiny_efftrain_8xb256-accum2-300e_in1k': 82.2,
    'convnext-small_efftrain_8xb256-accum2-300e_in1k': 83.2,
    'convnext-base_efftrain_8xb256-accum2-300e_in1k': 83.8,
    'deit-small_efftrain_8xb256-accum2-300e_in1k': 80.4,
    'swin-tiny_efftrain_8xb256-accum2-300e_in1k': 81.3,
    'swin-small_efftrain_8xb256-accum2-300e_in1k': 83.2,
    'swin-base_efftrain_8xb256-accum2-300e_in1k': 83.6,
    'vit-small_imagenet-a': 20.5,
    'vit-small_imagenet-c': 57.2,
    'vit-small_imagenet-r': 42.1,
    'vit-small_imagenet-sketch': 28.9,
    'vit-llama-small_imagenet-a': 22.7,
    'vit-llama-small_imagenet-c': 58.7,
    'vit-llama-small_imagenet-r': 42.8,
    'vit-llama-small_imagenet-sketch': 30.5,
}


def test_every_config_is_in_exactly_one_metafile():
    assert Counter(model['Config'] for _, model in MODELS) == Counter(ALL_CONFIGS)


def test_every_metafile_lists_the_configs_of_its_folder_and_the_index_every_metafile():
    for path, model in MODELS:
        assert (ROOT / model['Config']).parent == path.parent
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert [ROOT / path for path in index['Import']] == METAFILES


def test_names_are_those_of_the_configs_in_lower_case_and_unique():
    names = [model['Name'] for _, model in MODELS]
    assert names == [Path(model['Config']).stem for _, model in MODELS]
    assert names == [name.lower() for name in names]
    assert len(set(names)) == len(names)


def test_the_hosts_reader_finds_no_fault():
    index = load_model_index(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    assert len(index.models) == len(MODELS)
    for model in index.models:
        assert not model.check_errors
        assert not model.metadata.check_errors
        for result in model.results:
            assert not result.check_errors
        assert model.in_collection in [collection.name for collection in index.collections]


@pytest.fixture(scope='module')
def count():
    """`count_config`, once for configs with the same model at the same size."""
    costs = {}

    def count_once(cfg):
        key = repr((cfg.model, cfg.get('data_preprocessor'), image_shape(cfg)))
        if key not in costs:
            costs[key] = count_config(cfg)
        return costs[key]

    return count_once


@ENTRY
def test_parameters_and_flops_are_what_get_flops_counts(entry, count):
    cost = count(load(entry['Config']))
    assert entry['Metadata']['Parameters'] == pytest.approx(cost.parameters, rel=0.005)
    assert entry['Metadata']['FLOPs'] == pytest.approx(cost.flops.total, rel=0.005)
    assert entry['Metadata']['Image Size'] == '{} x {}'.format(*cost.shape)
    assert entry['Metadata'].get('Frozen Parameters', 0) == cost.frozen_outside


@ENTRY
def test_task_and_data_are_those_of_the_config(entry):
    cfg = load(entry['Config'])
    tasks = [result['Task'] for result in entry['Results']]
    task = TASKS[cfg.default_scope] if cfg.test_dataloader else PRE_TRAINING
    assert tasks[0] == task
    assert ('Instance Segmentation' in tasks) == ('mask_head' in cfg.model.get('roi_head', {}))
    assert all(result['Dataset'] for result in entry['Results'])


@ENTRY
def test_no_weights_are_claimed_and_every_number_is_marked_as_a_papers(entry):
    assert not [key for key in entry if 'weight' in key.lower()]
    for result in entry['Results']:
        for name in result['Metrics']:
            assert name.endswith(' (paper)'), name


def test_the_papers_numbers_are_those_that_they_report():
    for name, top1 in PUBLISHED.items():
        (result,) = read_index()[name].content['Results']
        assert result['Metrics']['Top 1 Accuracy (paper)'] == top1
    for name in read_index():
        if name.endswith('-tar'):
            twin = read_index()[name.removesuffix('-tar')].content
            assert read_index()[name].content['Results'] == twin['Results']


@pytest.mark.parametrize(
    'folder', [path.parent.name for path in METAFILES if (path.parent / 'README.md').exists()]
)
def test_readmes_and_index_quote_the_same_numbers(folder):
    readme = (ROOT / f'configs/{folder}/README.md').read_text()
    for path, model in MODELS:
        if path.parent.name == folder:
            for result in model['Results']:
                for value in result['Metrics'].values():
                    assert re.search(rf'\b{value}\b', readme), (model['Name'], value)


# Reading it


def test_patterns_and_tasks_pick_names():
    assert find_names() == sorted(read_index())
    assert find_names('lion') == [name for name in find_names() if name.startswith('lion')]
    assert find_names('*L2ViT*upernet', SEGMENTATION)
    assert find_names('*upernet*', DETECTION) == []
    of_tasks = [find_names(task=task) for task in (*TASKS.values(), PRE_TRAINING)]
    assert all(of_tasks) and sorted(chain(*of_tasks)) == find_names()


def test_an_entry_leads_to_its_config():
    for name in find_names():
        assert find_entry(name.upper()).config.is_file()


@pytest.mark.parametrize(
    ('wrong', 'nearest'),
    [
        ('l2vit-tinny', 'l2vit-tiny_8xb128-accum4-300e_in1k'),
        ('lion-d-natural-base_4xb265-300e_in1k', 'lion-d-natural-base_4xb256-300e_in1k'),
        ('vit-lama-small', 'vit-llama-small_4xb256-300e_in1k'),
        ('l2vit-tiny_upernett', 'l2vit-tiny_upernet_8xb2-160k_ade20k-512x512'),
    ],
)
def test_a_wrong_name_gets_the_nearest_ones(wrong, nearest):
    with pytest.raises(UnknownModelError, match=re.escape(nearest)):
        find_entry(wrong)


def test_a_model_for_another_task_is_named_as_such():
    with pytest.raises(
        UnknownModelError, match='is for Image Classification, expected a model for Obj'
    ):
        find_entry('l2vit-micro_1xb64_digits', DETECTION)


@pytest.mark.parametrize('name', read_index())
def test_ways_to_weights_are_commands_that_there_are(name):
    """A converter that is offered is one of the tool's, and for a model that has an original."""
    text = how_to_get_weights(name, load(f'{read_index()[name].config}').model.backbone.type)
    assert f'no weights of {name} are published' in text
    offered = re.search(r'convert_checkpoint.py (\S+) ORIGINAL', text)
    assert not offered or offered[1] in CONVERTERS
    assert not (offered and ('digit' in name or 'coco' in name or 'ade20k' in name))


def test_without_an_index_it_is_said_where_one_should_be(monkeypatch, tmp_path):
    monkeypatch.setattr(model_index, '__file__', str(tmp_path / 'mmvitlin/apis/model_index.py'))
    with pytest.raises(FileNotFoundError, match=r'model-index\.yml'):
        model_index.index_folder()


def test_an_installation_reads_its_own_files(monkeypatch, tmp_path):
    (tmp_path / 'mmvitlin/.mim').mkdir(parents=True)
    (tmp_path / 'mmvitlin/.mim/model-index.yml').touch()
    monkeypatch.setattr(model_index, '__file__', str(tmp_path / 'mmvitlin/apis/model_index.py'))
    assert model_index.index_folder() == tmp_path / 'mmvitlin/.mim'
