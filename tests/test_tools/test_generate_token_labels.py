"""Label maps are the teacher's, and the same however often the run was cut off and shared."""

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from digit_files import write_folders
from goldens import draw_weights
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope
from test_tools.conftest import run_command
from tiny_run import DEMO, ROOT, cfg_options, tiny_config

from mmvitlin.datasets.token_labels.files import label_names, read_label_map
from mmvitlin.models.dense_logits import DenseLogits

TOOL = ROOT / 'tools/generate_token_labels.py'
COUNT = 90
FEW = ('--size', 3, '--topk', 2, '--batch-size', 4, '--workers', 0, '--input-size', 64)
OPTIONS = cfg_options(train_dataloader__dataset__indices=COUNT)


def tiny_teacher(**options):
    cfg = tiny_config('', **options)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    draw_weights(model)
    model.eval()
    return model


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    torch.save(tiny_teacher().state_dict(), path)
    return path


@pytest.fixture(scope='module')
def whole(checkpoint, tmp_path_factory):
    """What a run writes that nobody disturbs, in a process of its own."""
    out = tmp_path_factory.mktemp('whole') / 'labels'
    run_command(sys.executable, TOOL, DEMO, checkpoint, out, *FEW, *OPTIONS)
    return out


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / 'labels')


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


# What is written


@torch.no_grad()
def test_label_maps_are_the_best_logits_of_whole_images(checkpoint, whole):
    model = tiny_teacher()
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        images = DATASETS.build(
            dict(
                type='mmvitlin.Digits',
                split='train',
                indices=COUNT,
                pipeline=[
                    dict(type='Resize', scale=64, interpolation='bicubic'),
                    dict(type='PackInputs'),
                ],
            )
        )
        names = label_names(images)
        assert len(contents(whole)) == len(names) + 1  # and the settings
        inputs = model.data_preprocessor(pseudo_collate([images[7]]), False)['inputs']
    logits = DenseLogits(model)(inputs)  # (1, 10, 2, 2)
    logits = torch.nn.functional.interpolate(logits, (3, 3), mode='bilinear')
    scores, classes = logits[0].topk(2, dim=0)
    written = torch.load(whole / names[7], weights_only=True)
    assert written.dtype == torch.float16
    torch.testing.assert_close(written[0].float(), scores, rtol=1e-3, atol=1e-3)
    assert torch.equal(written[1].float(), classes.float())


def test_a_dataset_reads_what_was_written(whole):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = DATASETS.build(
            dict(
                type='mmvitlin.TokenLabelDataset',
                dataset=dict(type='mmvitlin.Digits', split='train', indices=COUNT),
                label_root=str(whole),
                check_files=True,
            )
        )
    assert dataset.map_shape == (2, 3, 3)
    assert dataset[5]['token_label_map'].shape == (2, 2, 3, 3)


def test_images_in_folders_are_seen_whole_and_labelled_in_their_folders(
    checkpoint, run_tool, tmp_path
):
    """A pipeline that crops for tests does not crop here; nor does loading need another one."""
    folders = write_folders(tmp_path, 'train', 20)
    config = tmp_path / 'config.py'
    images = dict(
        type='CustomDataset',
        data_root=str(tmp_path),
        data_prefix='train',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='ResizeEdge', scale=40, edge='short', interpolation='bicubic'),
            dict(type='CenterCrop', crop_size=32),
            dict(type='PackInputs'),
        ],
    )
    config.write_text(
        f'_base_ = {str(DEMO)!r}\n'
        f"train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=2, "
        f'dataset={images}))\n'
        f'test_dataloader = dict(dataset=dict(_delete_=True, **{images}))\n'
    )
    options = [o for o in cfg_options() if 'indices' not in o]
    run_tool(
        *('generate_token_labels.py', config, checkpoint, tmp_path / 'out', '--workers', 0),
        *options,
    )
    expected = {
        path.relative_to(folders).with_suffix('.pt').as_posix()
        for path in folders.rglob('[0-9]*.*')
    }
    assert set(contents(tmp_path / 'out')) == {*expected, 'settings.json'}
    settings = json.loads((tmp_path / 'out/settings.json').read_text())
    assert settings['decisive']['input_size'] == [32, 32]
    for name in expected:
        assert read_label_map(str(tmp_path / 'out'), name, 10, (5, 18, 18)).shape[1] == 5


def test_a_pipeline_that_tests_on_a_part_shows_the_whole():
    show_all = runpy.run_path(str(TOOL))['show_all']
    load, pack = dict(type='LoadImageFromFile'), dict(type='PackInputs')
    edge = dict(type='ResizeEdge', scale=256, backend='pillow', interpolation='bicubic')
    resize = dict(type='Resize', scale=(32, 24), backend='pillow', interpolation='bicubic')
    assert show_all([load, edge, dict(type='CenterCrop', crop_size=9), pack], (24, 32)) == [
        load,
        resize,
        pack,
    ]
    assert show_all([load, pack], (24, 32)) == [load, dict(type='Resize', scale=(32, 24)), pack]
    with pytest.raises(ValueError, match='torchvision/CenterCrop in the pipeline of tests'):
        show_all([load, dict(type='torchvision/CenterCrop', size=9), pack], (24, 32))


def test_mixed_precision_gives_other_last_digits(checkpoint, whole, run_tool, tmp_path):
    out = tmp_path / 'out'
    run_tool('generate_token_labels.py', DEMO, checkpoint, out, *FEW, '--amp', *OPTIONS)
    (mixed, full) = (
        torch.stack([torch.load(path)[0].float() for path in sorted(folder.rglob('*.pt'))])
        for folder in (out, whole)
    )
    assert not torch.equal(mixed, full)
    assert (mixed - full).abs().mean() < 0.02 * full.abs().mean()


# Cut off, damaged, shared


def test_a_run_that_was_killed_goes_on_to_the_same_files(checkpoint, whole, tmp_path):
    out = tmp_path / 'labels'
    command = [sys.executable, TOOL, DEMO, checkpoint, out, *FEW, *OPTIONS]
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
    give_up = time.monotonic() + 300
    while len(list(out.rglob('*.pt'))) < 8 and time.monotonic() < give_up:
        assert process.poll() is None, 'it ended before it could be killed'
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {name: c for name, c in contents(out).items() if name.endswith('.pt')}
    assert 8 <= len(before) < COUNT
    assert all(contents(whole)[name] == content for name, content in before.items())
    said = run_command(*command)
    assert f'{COUNT - len(before)} written now, {len(before)} before' in said
    assert contents(out) == contents(whole)


def test_damaged_files_are_named_and_made_again(checkpoint, whole, copy, run_tool, capsys):
    paths = sorted(copy.rglob('*.pt'))
    paths[3].write_bytes(paths[3].read_bytes()[:-200])
    paths[4].write_bytes(b'')
    paths[5].unlink()
    paths[6].unlink()
    kept = paths[0].stat().st_mtime_ns
    run_tool('generate_token_labels.py', DEMO, checkpoint, copy, *FEW, *OPTIONS)
    said = capsys.readouterr().out
    names = [path.relative_to(copy).as_posix() for path in paths[3:5]]
    assert f'2 damaged label maps are made again: {", ".join(names)}' in said
    assert f'{COUNT} label maps, 4 written now, {COUNT - 4} before' in said
    assert contents(copy) == contents(whole)
    assert paths[0].stat().st_mtime_ns == kept


def test_two_processes_write_the_files_of_one(checkpoint, whole, tmp_path):
    said = run_command(
        *(ROOT / 'tools/dist_generate_token_labels.sh', DEMO, checkpoint, tmp_path / 'labels', 2),
        *(*FEW, *OPTIONS),
        env={**os.environ, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'},
    )
    assert f'{COUNT} label maps, {COUNT} written now, 0 before' in said
    assert contents(tmp_path / 'labels') == contents(whole)


# Misuse


def test_other_settings_do_not_mix(checkpoint, copy, run_tool, tmp_path):
    def run(*arguments):
        run_tool('generate_token_labels.py', *arguments)

    before = contents(copy)
    with pytest.raises(SystemExit, match=r'another run \(size 3, not 4\): write to another'):
        run(DEMO, checkpoint, copy, *FEW, '--size', 4, *OPTIONS)
    weights = torch.load(checkpoint)
    weights['head.fc.bias'] += 1
    torch.save(weights, tmp_path / 'other.pth')
    with pytest.raises(SystemExit, match=r'another run \(weights '):
        run(DEMO, tmp_path / 'other.pth', copy, *FEW, *OPTIONS)
    (copy / 'settings.json').write_text('{')
    with pytest.raises(SystemExit, match=r'settings\.json cannot be read'):
        run(DEMO, checkpoint, copy, *FEW, *OPTIONS)
    (copy / 'settings.json').unlink()
    with pytest.raises(SystemExit, match=r'holds label maps, and no settings\.json'):
        run(DEMO, checkpoint, copy, *FEW, *OPTIONS)
    del before['settings.json']
    assert contents(copy) == before


MISUSE = {
    'more classes than there are': ('', ['--topk', 11], '--topk 11 of 10 classes: give at most 10'),
    'no size': ('', ['--size', 0], None),
    'no tests': ('test_dataloader = None', [], 'the config has no test_dataloader'),
    'another host': ("default_scope = 'mmseg'", [], 'classifiers of mmpretrain, got scope mmseg'),
    'several sets': (
        "train_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[]))",
        [],
        'the training set is a ConcatDataset of several',
    ),
    'other classes': (
        'model.update(head=dict(num_classes=7, in_channels=16))',
        [],
        'is not a checkpoint of this config',
    ),
}


@pytest.mark.parametrize('name', MISUSE)
def test_misuse_ends_in_one_line_and_writes_nothing(name, checkpoint, run_tool, tmp_path, capsys):
    lines, arguments, message = MISUSE[name]
    config = tmp_path / 'config.py'
    model = 'dict(embed_dims=(8, 8, 16, 16), num_heads=(1, 1, 2, 2))'
    config.write_text(
        f'_base_ = {str(DEMO)!r}\n'
        f'model = dict(backbone=dict(arch={model}), head=dict(in_channels=16))\n{lines}\n'
    )
    with pytest.raises(SystemExit, match=message and f'error: .*{message}'):
        run_tool('generate_token_labels.py', config, checkpoint, tmp_path / 'out', *arguments)
    if message is None:
        assert '--size must be at least 1, got 0' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_out_must_be_a_folder(checkpoint, run_tool, tmp_path):
    (tmp_path / 'out').write_text('')
    with pytest.raises(SystemExit, match=r'OUT is a folder to write to, and .* is a file'):
        run_tool('generate_token_labels.py', DEMO, checkpoint, tmp_path / 'out', *OPTIONS)
