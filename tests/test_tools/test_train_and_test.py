"""tools/train.py and tools/test.py do what the hosts' do, and say in a line what is wrong."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import mmpretrain
import pytest
import torch
from test_tools.conftest import run_command
from tiny_run import DEMO, ROOT, cfg_options

from mmvitlin.engine.launcher import load_config, set_auto_scale_lr, set_resume


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The work directory of a tiny run of two epochs by tools/train.py, as a program."""
    work_dir = tmp_path_factory.mktemp('trained')
    options = cfg_options(train_cfg__max_epochs=2, log_level='INFO')
    run_command(sys.executable, ROOT / 'tools/train.py', DEMO, '--work-dir', work_dir, *options)
    return work_dir


def logged_accuracy(work_dir):
    logs = [log.read_text() for log in sorted(work_dir.glob('*/*.log'))]
    return re.findall(r'Epoch\(\w+\).*accuracy/top1: ([\d.]+)', ''.join(logs))


def test_testing_prints_the_accuracy_of_the_training_log(trained, run_tool, tmp_path):
    run_tool(
        *('test.py', DEMO, trained / 'epoch_2.pth', '--work-dir', tmp_path),
        *cfg_options(log_level='INFO'),
    )
    assert logged_accuracy(tmp_path) == logged_accuracy(trained)[-1:]


def test_metrics_and_predictions_are_written(trained, run_tool, tmp_path):
    arguments = (DEMO, trained / 'epoch_2.pth', '--work-dir', tmp_path)
    run_tool('test.py', *arguments, '--out', tmp_path / 'p.pkl', *cfg_options())
    run_tool(
        *('test.py', *arguments, '--out', tmp_path / 'm.json', '--out-item', 'metrics'),
        *cfg_options(),
    )
    predictions = pickle.loads((tmp_path / 'p.pkl').read_bytes())
    right = [int(sample['pred_label']) == int(sample['gt_label']) for sample in predictions]
    metrics = json.loads((tmp_path / 'm.json').read_text())
    assert len(right) == 32
    assert metrics['accuracy/top1'] == pytest.approx(100 * sum(right) / len(right))


def test_show_dir_gets_a_picture_of_every_prediction(trained, run_tool, tmp_path):
    run_tool(
        *('test.py', DEMO, trained / 'epoch_2.pth', '--work-dir', tmp_path),
        *('--show-dir', tmp_path / 'pictures'),
        *cfg_options(test_dataloader__dataset__indices=3),
    )
    assert len(list((tmp_path / 'pictures').rglob('*.png'))) == 3


def test_tta_averages_flipped_predictions(trained, run_tool, tmp_path):
    scores = []
    for tta in ([], ['--tta']):
        run_tool(
            *('test.py', DEMO, trained / 'epoch_2.pth', '--work-dir', tmp_path, *tta),
            *('--out', tmp_path / 'p.pkl', *cfg_options()),
        )
        predictions = pickle.loads((tmp_path / 'p.pkl').read_bytes())
        scores.append(torch.stack([sample['pred_score'] for sample in predictions]))
    assert scores[0].shape == scores[1].shape == (32, 10)
    assert not torch.allclose(*scores)


def test_resume_goes_on_from_the_latest_checkpoint(trained, run_tool, tmp_path):
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes((trained / 'epoch_1.pth').read_bytes())
    (tmp_path / 'last_checkpoint').write_text(str(path))
    options = cfg_options(train_cfg__max_epochs=2, experiment_name='auto', log_level='INFO')
    run_tool('train.py', DEMO, '--work-dir', tmp_path, '--resume', *options)
    resumed, straight = (
        torch.load(folder / 'epoch_2.pth', weights_only=True) for folder in (tmp_path, trained)
    )
    for name, weight in straight['state_dict'].items():
        assert torch.equal(resumed['state_dict'][name], weight), name


def test_no_validate_trains_without_validation(run_tool, tmp_path):
    run_tool(
        *('train.py', DEMO, '--work-dir', tmp_path, '--no-validate'),
        *cfg_options(train_cfg__max_epochs=1, experiment_name='no_val', log_level='INFO'),
    )
    assert (tmp_path / 'epoch_1.pth').is_file()
    assert logged_accuracy(tmp_path) == []


def test_auto_scale_lr_scales_by_the_batch_size(run_tool, tmp_path):
    run_tool(
        *('train.py', DEMO, '--work-dir', tmp_path, '--auto-scale-lr'),
        *cfg_options(train_cfg__max_epochs=1, experiment_name='scaled', param_scheduler=None),
    )
    checkpoint = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    assert checkpoint['optimizer']['param_groups'][0]['lr'] == pytest.approx(2e-3 * 16 / 64)


def test_auto_scale_lr_counts_accumulated_batches():
    cfg = load_config(str(DEMO), {'optim_wrapper.accumulative_counts': 4}, None)
    set_auto_scale_lr(cfg)
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=16)


def test_resuming_with_nothing_to_resume_starts_from_what_the_config_says(tmp_path):
    cfg = load_config(str(DEMO), dict(load_from='pretrained.pth'), str(tmp_path))
    set_resume(cfg, 'auto')
    assert (cfg.resume, cfg.load_from) == (False, 'pretrained.pth')
    (tmp_path / 'epoch_1.pth').touch()
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    set_resume(cfg, 'auto')
    assert (cfg.resume, cfg.load_from) == (True, str(tmp_path / 'epoch_1.pth'))


def test_two_processes_train_on_a_cpu(tmp_path):
    environment = {**os.environ, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'}
    options = cfg_options(train_cfg__max_epochs=1, log_level='INFO')
    run_command(
        *(ROOT / 'tools/dist_train.sh', DEMO, 2, '--work-dir', tmp_path, *options),
        env=environment,
    )
    checkpoint = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    assert len(checkpoint['random_states']) == 2
    assert checkpoint['meta']['iter'] == 2  # 48 digits, 16 in each of two processes: 1.5, padded

    run_command(
        *(ROOT / 'tools/dist_test.sh', DEMO, tmp_path / 'epoch_1.pth', 2),
        *('--work-dir', tmp_path / 'test', *options),
        env=environment,
    )
    assert logged_accuracy(tmp_path / 'test') == logged_accuracy(tmp_path)


def test_mmpretrains_own_train_py_runs_the_demo(tmp_path):
    tool = Path(mmpretrain.__file__).parent / '.mim/tools/train.py'
    options = cfg_options(train_cfg__max_epochs=1)
    run_command(sys.executable, tool, DEMO, '--work-dir', tmp_path, *options)
    assert torch.load(tmp_path / 'epoch_1.pth', weights_only=True)['random_states']
    options = cfg_options(train_cfg__max_epochs=2)
    run_command(sys.executable, tool, DEMO, '--work-dir', tmp_path, '--resume', *options)
    test_tool = tool.with_name('test.py')
    run_command(sys.executable, test_tool, DEMO, tmp_path / 'epoch_2.pth', *cfg_options())


def config_with(tmp_path, text):
    path = tmp_path / 'config.py'
    path.write_text(f'_base_ = [{str(DEMO)!r}]\n{text}\n')
    return path


def checkpoint_of_another_model(tmp_path):
    torch.save({'state_dict': {'backbone.weight': torch.zeros(2)}}, tmp_path / 'other.pth')
    return tmp_path / 'other.pth'


def damaged_checkpoint(tmp_path):
    torch.save({'state_dict': {}}, tmp_path / 'half.pth')
    whole = (tmp_path / 'half.pth').read_bytes()
    (tmp_path / 'half.pth').write_bytes(whole[: len(whole) // 2])
    return tmp_path / 'half.pth'


MASK_RCNN = ROOT / 'configs/quickstart/mask-rcnn_l2vit-micro_fpn_digit-scenes.py'
ERRORS = {
    'missing config': (
        lambda tmp: ['train.py', tmp / 'none.py'],
        r'there is no config at .*none\.py; check the path',
    ),
    'unreadable config': (
        lambda tmp: ['train.py', config_with(tmp, 'model = dict(')],
        r'config\.py cannot be read: SyntaxError',
    ),
    'unknown scope': (
        lambda tmp: ['train.py', config_with(tmp, "default_scope = 'mmpose'")],
        r"default_scope='mmpose'; set it to one of mmpretrain, mmdet, mmseg",
    ),
    'no launcher environment': (
        lambda tmp: ['train.py', DEMO, '--launcher', 'pytorch'],
        r'--launcher pytorch finds no RANK, WORLD_SIZE, LOCAL_RANK.*tools/dist_train\.sh',
    ),
    'no slurm environment': (
        lambda tmp: ['test.py', DEMO, damaged_checkpoint(tmp), '--launcher', 'slurm'],
        r'--launcher slurm finds no SLURM_PROCID.*tools/slurm_train\.sh',
    ),
    'amp on a CPU': (
        lambda tmp: ['train.py', DEMO, '--amp'],
        r'--amp needs an accelerator',
    ),
    'no base batch size': (
        lambda tmp: ['train.py', config_with(tmp, 'auto_scale_lr = None'), '--auto-scale-lr'],
        r'--auto-scale-lr needs auto_scale_lr=dict\(base_batch_size=\.\.\.\)',
    ),
    'resume from nothing': (
        lambda tmp: ['train.py', DEMO, '--resume', tmp / 'none.pth'],
        r'there is no checkpoint at .*none\.pth; check the path',
    ),
    'missing checkpoint': (
        lambda tmp: ['test.py', DEMO, tmp / 'none.pth'],
        r'there is no checkpoint at .*none\.pth; check the path',
    ),
    'damaged checkpoint': (
        lambda tmp: ['test.py', DEMO, damaged_checkpoint(tmp)],
        r'half\.pth is not a whole checkpoint',
    ),
    'checkpoint of another model': (
        lambda tmp: ['test.py', DEMO, checkpoint_of_another_model(tmp)],
        r'other\.pth is not a checkpoint of this config.*1 unexpected, such as backbone\.weight\.',
    ),
    'resume from another model': (
        lambda tmp: ['train.py', DEMO, '--resume', checkpoint_of_another_model(tmp)],
        r'other\.pth is not a checkpoint of this config',
    ),
    'predictions into no pickle': (
        lambda tmp: ['test.py', DEMO, damaged_checkpoint(tmp), '--out', tmp / 'p.json'],
        r'--out takes a \.pkl file for a config of mmpretrain',
    ),
    'augmented masks': (
        lambda tmp: ['test.py', MASK_RCNN, damaged_checkpoint(tmp), '--tta'],
        r'--tta merges boxes, and the model of this config predicts masks as well',
    ),
    'pictures without a hook': (
        lambda tmp: [
            *('test.py', config_with(tmp, 'default_hooks = dict(_delete_=True)')),
            *(damaged_checkpoint(tmp), '--show-dir', tmp),
        ],
        r'--show-dir needs a visualization hook',
    ),
}


@pytest.mark.parametrize('case', ERRORS)
def test_what_is_wrong_is_said_in_one_line(case, run_tool, tmp_path, monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'SLURM_PROCID'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    command, message = ERRORS[case]
    with pytest.raises(SystemExit) as end:
        run_tool(*command(tmp_path))
    assert re.search(f'^error: .*{message}', end.value.code)
    assert '\n' not in end.value.code


@pytest.mark.parametrize(
    'tool',
    [
        'dist_train.sh',
        'dist_test.sh',
        'dist_generate_token_labels.sh',
        'slurm_train.sh',
        'slurm_test.sh',
        'slurm_generate_token_labels.sh',
    ],
)
def test_shell_tools_say_how_they_are_called(tool):
    done = subprocess.run([ROOT / 'tools' / tool], capture_output=True, text=True)
    assert done.returncode == 2
    assert re.match(rf'usage: \S+{tool} [A-Z_]+ ', done.stderr)


@pytest.mark.parametrize(
    ('tool', 'last'),
    [
        ('slurm_train.sh', '--work-dir out'),
        ('slurm_test.sh', 'out'),
        ('slurm_generate_token_labels.sh', 'out'),
    ],
)
def test_slurm_tools_ask_srun_for_the_job(tool, last, tmp_path):
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\necho "$@"\n')
    srun.chmod(0o755)
    environment = {**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'GPUS': '16'}
    asked = run_command(
        *(ROOT / 'tools' / tool, 'gpu', 'job', 'config.py', 'out', '--amp'), env=environment
    )
    assert re.search(r'-p gpu --job-name=job .*--ntasks=16 --ntasks-per-node=8', asked)
    assert re.search(rf'config\.py {last} --amp --launcher slurm$', asked.strip())


def test_work_dir_is_named_after_the_config_by_default():
    cfg = load_config(str(DEMO), None, None)
    assert Path(cfg.work_dir) == Path('work_dirs') / DEMO.stem
