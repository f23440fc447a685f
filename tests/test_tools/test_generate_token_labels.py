"""The tool writes the teacher's label maps, the same in one run as in several, by one or two."""

import json
import time

import pytest
import torch
from fresh_python import run_ranks, run_script, start_script
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, DefaultScope
from tiny_run import DEMO, ROOT, cfg_options, tiny_classifier

from mmvitlin.models.teachers import TokenLabeller

pytestmark = pytest.mark.slow

TOOL = ROOT / 'tools/generate_token_labels.py'
COUNT = 90
FEW = ('--size', 3, '--topk', 2, '--batch-size', 4, '--workers', 0, '--input-size', 64)
OPTIONS = cfg_options(train_dataloader__dataset__indices=COUNT)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    torch.save(tiny_classifier().state_dict(), path)
    return path


@pytest.fixture(scope='module')
def whole(checkpoint, tmp_path_factory):
    """Return the folder of a run without a stop, in a separate process."""
    out = tmp_path_factory.mktemp('whole') / 'labels'
    run_script(TOOL, DEMO, checkpoint, out, *FEW, *OPTIONS)
    return out


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


def test_a_dataset_reads_the_teachers_labels(whole):
    resize = dict(type='Resize', scale=64, interpolation='bicubic')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        digits = dict(type='mmvitlin.Digits', split='train', indices=COUNT)
        dataset = DATASETS.build(
            dict(
                type='mmvitlin.TokenLabelDataset',
                dataset=digits,
                label_root=str(whole),
                check_files=True,
            )
        )
        shown = DATASETS.build({**digits, 'pipeline': [resize, dict(type='PackInputs')]})
    assert len(contents(whole)) == COUNT + 1  # and the settings
    scores, classes = TokenLabeller(tiny_classifier(), size=3, topk=2)(pseudo_collate([shown[7]]))
    written = dataset[7]['token_label_map']
    torch.testing.assert_close(written[0], scores[0], rtol=1e-3, atol=1e-3)
    assert torch.equal(written[1], classes[0].float())


def test_a_killed_run_goes_on_in_two_processes_to_the_same_files(checkpoint, whole, tmp_path):
    out = tmp_path / 'labels'
    run = start_script(TOOL, DEMO, checkpoint, out, *FEW, *OPTIONS)
    give_up = time.monotonic() + 300
    while len(list(out.rglob('*.pt'))) < 8 and time.monotonic() < give_up:
        assert run.process.is_alive(), 'it ended before it could be killed'
        time.sleep(0.001)
    run.kill()
    before = {name: c for name, c in contents(out).items() if name.endswith('.pt')}
    assert 8 <= len(before) < COUNT
    assert all(contents(whole)[name] == content for name, content in before.items())
    said = run_ranks(TOOL, DEMO, checkpoint, out, *FEW, *OPTIONS)
    now = COUNT - len(before)
    assert f'{COUNT} label maps, {now} written now, {len(before)} before' in said[0]
    assert contents(out) == contents(whole)


def test_another_teacher_or_precision_is_refused(checkpoint, whole, run_tool, tmp_path):
    weights = torch.load(checkpoint)
    weights['head.fc.bias'] += 1
    torch.save(weights, tmp_path / 'other.pth')
    with pytest.raises(SystemExit, match=r'another run \(weights '):
        run_tool(TOOL.name, DEMO, tmp_path / 'other.pth', whole, *FEW, *OPTIONS)
    with pytest.raises(SystemExit, match=r'another run \(amp False, not True\)'):
        run_tool(TOOL.name, DEMO, checkpoint, whole, *FEW, '--amp', *OPTIONS)
    settings = json.loads((whole / 'settings.json').read_text())
    assert settings['config'] == str(DEMO)
    assert settings['decisive']['input_size'] == [64, 64]


MISUSE = {
    'too many classes': ('', ['--topk', 11], 'topk is 11, and the teacher has 10 classes'),
    'no size': ('', ['--size', 0], None),
    'another host': ("default_scope = 'mmseg'", [], 'of mmpretrain, got a config of mmseg'),
    'another model': (
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
        run_tool(TOOL.name, config, checkpoint, tmp_path / 'out', *arguments)
    if message is None:
        assert '--size must be at least 1, got 0' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_out_must_be_a_folder(checkpoint, run_tool, tmp_path):
    (tmp_path / 'out').write_text('')
    with pytest.raises(SystemExit, match=r'OUT must be a folder to write to, and .* is a file'):
        run_tool(TOOL.name, DEMO, checkpoint, tmp_path / 'out', *OPTIONS)
