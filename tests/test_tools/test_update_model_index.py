"""tools/update_model_index.py writes the numbers of configs and keeps manual entries."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from tiny_run import ROOT

from mmvitlin.apis.model_index import read_index
from mmvitlin.engine import cost as costs

pytestmark = pytest.mark.slow

TOOL = 'update_model_index.py'
FOLDER = 'configs/quickstart'
NAME = 'vit-micro_1xb64_digits'
BASES = ('datasets/digits.py', 'schedules/digits_adamw_30e.py', 'runtimes/mmpretrain_digits.py')


def test_the_index_is_as_the_tool_writes_it(run_tool, monkeypatch):
    """Its counts taken for granted, which tests/test_apis/test_model_index.py counts."""

    def counted_before(cfg):
        data = read_index()[Path(cfg.filename).stem].content['Metadata']
        flops = costs.FlopCount({'': data['FLOPs']})
        shape = tuple(data['Image Size'].split(' x '))
        frozen = data.get('Frozen Parameters', 0)
        return costs.ModelCost(None, shape, flops, data['Parameters'], frozen)

    monkeypatch.setattr(costs, 'count_config', counted_before)
    run_tool(TOOL, '--check')


@pytest.fixture
def tree(tmp_path):
    """A project of one config."""
    for path in (f'tools/{TOOL}', f'{FOLDER}/{NAME}.py', f'{FOLDER}/metafile.yml'):
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(ROOT / path, tmp_path / path)
    for base in (*BASES, 'runtimes/mmpretrain.py'):
        (tmp_path / 'configs/_base_' / base).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(ROOT / 'configs/_base_' / base, tmp_path / 'configs/_base_' / base)
    return tmp_path


@pytest.fixture
def update(tree, monkeypatch):
    """Run the tool on that project; return its one metafile."""

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [TOOL, *arguments])
        runpy.run_path(str(tree / 'tools' / TOOL), run_name='__main__')
        return yaml.safe_load((tree / FOLDER / 'metafile.yml').read_text())

    return run


def test_a_new_config_gets_an_entry_and_one_that_is_gone_loses_it(tree, update):
    assert [model['Name'] for model in update()['Models']] == [NAME]
    config = (tree / FOLDER / f'{NAME}.py').read_text().replace('num_layers=6', 'num_layers=3')
    (tree / FOLDER / 'half.py').write_text(config)
    half, whole = update()['Models']
    assert (half['Name'], half['Config']) == ('half', f'{FOLDER}/half.py')
    assert half['Metadata']['FLOPs'] < 0.6 * whole['Metadata']['FLOPs']
    assert half['Metadata']['Parameters'] < 0.6 * whole['Metadata']['Parameters']
    assert half['In Collection'] == whole['In Collection']


def test_metrics_and_collections_are_kept_and_the_rest_is_updated(tree, update):
    expected = update()
    content = yaml.safe_load((tree / FOLDER / 'metafile.yml').read_text())
    model = content['Models'][0]
    model['Results'][0]['Metrics'] = {'Top 1 Accuracy (paper)': 12.5}
    model['Metadata'] = {'Parameters': 1}
    content['Collections'][0]['Paper'] = {'Title': 'Mine'}
    (tree / FOLDER / 'metafile.yml').write_text(yaml.safe_dump(content))
    updated = update()
    assert updated['Collections'][0]['Paper'] == {'Title': 'Mine'}
    assert updated['Models'][0]['Results'][0]['Metrics'] == {'Top 1 Accuracy (paper)': 12.5}
    assert updated['Models'][0]['Metadata'] == expected['Models'][0]['Metadata']


def test_check_names_what_is_old_and_writes_nothing(tree, update):
    update()
    update('--check')
    config = tree / FOLDER / f'{NAME}.py'
    config.write_text(config.read_text().replace('num_layers=6', 'num_layers=3'))
    before = (tree / FOLDER / 'metafile.yml').read_text()
    with pytest.raises(SystemExit, match=f'{FOLDER}/metafile.yml: not up to date; run'):
        update('--check')
    assert (tree / FOLDER / 'metafile.yml').read_text() == before


def test_data_without_a_published_name_and_folders_without_a_metafile_are_errors(tree, update):
    config = tree / FOLDER / f'{NAME}.py'
    text = config.read_text()
    config.write_text(text + "test_dataloader = dict(dataset=dict(type='Flowers102'))\n")
    with pytest.raises(SystemExit, match='reads Flowers102; add the name'):
        update()
    config.write_text(text)
    (tree / FOLDER / 'metafile.yml').unlink()
    with pytest.raises(SystemExit, match='begin it with the collection'):
        update()
