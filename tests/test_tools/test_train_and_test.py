"""tools/train.py and tools/test.py work as those of the hosts, with errors of one line."""

import json
import os
import pickle
import re
import subprocess
from pathlib import Path

import mmpretrain
import pytest
import torch
from fresh_python import run_ranks, run_script
from PIL import Image
from test_tools.conftest import run_command
from tiny_run import DEMO, ROOT, cfg_options

from mmvitlin.engine.launcher import load_config, set_auto_scale_lr, set_resume

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The work directory of a tiny run of two epochs by tools/train.py, as a program."""
    work_dir = tmp_path_factory.mktemp('trained')
    options = cfg_options(train_cfg__max_epochs=2, log_level='INFO')
    run_script(ROOT / 'tools/train.py', DEMO, '--work-dir', work_dir, *options)
    return work_dir


def logged_accuracy(work_dir):
    logs = [log.read_text() for log in sorted(work_dir.glob('*/*.log'))]
    return re.findall(r'Epoch\(\w+\).*\saccuracy/top1: ([\d.]+)', ''.join(logs))


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
    torch.save({}, tmp_path / 'epoch_1.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    set_resume(cfg, 'auto')
    assert (cfg.resume, cfg.load_from) == (True, str(tmp_path / 'epoch_1.pth'))


def test_two_processes_test_as_one_does(trained, tmp_path):
    arguments = (DEMO, trained / 'epoch_2.pth', '--work-dir', tmp_path)
    run_ranks(ROOT / 'tools/test.py', *arguments, *cfg_options(log_level='INFO'))
    assert logged_accuracy(tmp_path) == logged_accuracy(trained)[-1:]


def test_mmpretrains_own_train_py_runs_the_demo(tmp_path):
    tool = Path(mmpretrain.__file__).parent / '.mim/tools/train.py'
    options = cfg_options(train_cfg__max_epochs=1)
    run_script(tool, DEMO, '--work-dir', tmp_path, *options)
    assert torch.load(tmp_path / 'epoch_1.pth', weights_only=True)['random_states']
    options = cfg_options(train_cfg__max_epochs=2)
    run_script(tool, DEMO, '--work-dir', tmp_path, '--resume', *options)
    test_tool = tool.with_name('test.py')
    run_script(test_tool, DEMO, tmp_path / 'epoch_2.pth', *cfg_options())


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
        lambda tmp: ['train.py', config_with(tmp, "default_scope = 'mmocr'")],
        r"default_scope='mmocr'; set it to one of mmpretrain, mmdet, mmseg, mmpose",
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


def with_options(**options):
    """tools/train.py on the tiny demo, with other settings."""
    return lambda tmp: ['train.py', DEMO, '--work-dir', tmp / 'run', *cfg_options(**options)]


def resuming_from(change):
    """--resume of a tiny checkpoint that was changed."""

    def command(tmp):
        options = cfg_options(train_cfg__max_epochs=2, experiment_name=tmp.name)
        checkpoint = torch.load(WHOLE, weights_only=True)
        change(checkpoint)
        torch.save(checkpoint, tmp / 'changed.pth')
        work_dir = ('--work-dir', tmp / 'run')
        return ['train.py', DEMO, *work_dir, '--resume', tmp / 'changed.pth', *options]

    return command


def without(*keys):
    def remove(checkpoint):
        for key in keys:
            del checkpoint[key]

    return remove


def shrink_optimizer(checkpoint):
    state = checkpoint['optimizer']['state']
    state[0]['exp_avg'] = state[0]['exp_avg'][:1]


def forget_parameters(checkpoint):
    checkpoint['optimizer']['param_groups'].pop()


def damage_random_states(checkpoint):
    del checkpoint['random_states'][0]['torch']


def folder_with(name, content=b''):
    """--work-dir with a file in it."""

    def command(tmp):
        (tmp / 'run').mkdir()
        (tmp / 'run' / name).write_bytes(content)
        return ['train.py', DEMO, '--work-dir', tmp / 'run']

    return command


def folders_of_images(tmp):
    for folder in ('train/cat', 'train/dog'):
        (tmp / folder).mkdir(parents=True)
        Image.new('RGB', (8, 8)).save(tmp / folder / 'image.jpg')
    path = config_with(
        tmp,
        f"train_dataloader = dict(dataset=dict(_delete_=True, type='ImageNet', "
        f"data_root={str(tmp)!r}, split='train'))",
    )
    return ['train.py', path, '--work-dir', tmp / 'run', *cfg_options()[:-1]]


WRONG_ONCE = [dict(type='LinearLR', begin=0, end=2), dict(type='CosineAnnealingLR', begin=5, end=3)]
ERRORS |= {
    'checkpoints of another training': (
        folder_with('epoch_3.pth'),
        r'holds checkpoints of another training, such as epoch_3\.pth: go on with it by --resume',
    ),
    'work directory that is a file': (
        lambda tmp: ['train.py', DEMO, '--work-dir', damaged_checkpoint(tmp)],
        r'the work directory .*half\.pth cannot be written \(File exists\): give another',
    ),
    'resume from damage alone': (
        lambda tmp: [*folder_with('epoch_3.pth', b'PK')(tmp), '--resume'],
        r'no checkpoint in .*run is whole: epoch_3\.pth \(it is cut off or no checkpoint\)',
    ),
    'resume from weights': (
        resuming_from(without('optimizer', 'param_schedulers', 'message_hub', 'meta')),
        r'changed\.pth lacks optimizer, message_hub, meta, param_schedulers, which resuming needs',
    ),
    'resume without an iteration': (
        resuming_from(lambda checkpoint: checkpoint['meta'].pop('iter')),
        r'changed\.pth lacks meta\.iter',
    ),
    'resume from another optimizer': (
        resuming_from(forget_parameters),
        r'changed\.pth holds the state of another optimizer, with \d+ parameters in \d+ groups',
    ),
    'resume from an optimizer of another shape': (
        resuming_from(shrink_optimizer),
        r'changed\.pth holds the state of another optimizer, with a parameter of shape \(1, ',
    ),
    'resume from damaged random states': (
        resuming_from(damage_random_states),
        r"the random states of the checkpoint are damaged \(KeyError: 'torch'\)",
    ),
    'resume from a damaged log': (
        resuming_from(lambda c: c['message_hub']['log_scalars']['train/loss'].pop('log')),
        r"message_hub of the checkpoint is damaged \(KeyError: 'log'\)",
    ),
    'unknown setting': (
        with_options(modle__backbone__window_size=2),
        r'--cfg-options modle\.backbone\.window_size: there is no setting modle; did you mean',
    ),
    'no optimizer': (
        with_options(optim_wrapper=None),
        r'l2vit-micro_1xb64_digits\.py has no optim_wrapper; add it',
    ),
    'half a validation': (
        with_options(val_evaluator=None),
        r'the config has val_dataloader, val_cfg and no val_evaluator: give all three, or none',
    ),
    'unknown arch': (
        with_options(model__backbone__arch='tinyy'),
        r'tinyy',
    ),
    'unknown argument': (
        with_options(model__backbone__windowsize=2),
        r"unexpected keyword argument 'windowsize'(\. Did you mean '\w+'\?)?"
        r' \(--traceback shows where\)',
    ),
    'argument out of range': (
        with_options(model__backbone__window_size=0),
        r'window_size',
    ),
    'mixed precision on a CPU': (
        with_options(optim_wrapper__type='AmpOptimWrapper'),
        r'optim_wrapper\.type=AmpOptimWrapper trains in mixed precision, which needs an acc',
    ),
    'schedule that ends before it begins': (
        lambda tmp: ['train.py', config_with(tmp, f'param_scheduler = {WRONG_ONCE}')],
        r'param_scheduler\[1\] \(CosineAnnealingLR\) begins at epoch 5 and ends at 3',
    ),
    'top-5 of four classes': (
        with_options(model__head__num_classes=4, val_evaluator__topk=(1, 5)),
        r'val_evaluator\.topk=\(1, 5\) needs 5 classes, and model\.head has num_classes=4',
    ),
    'fewer classes than the data has': (
        with_options(model__head__num_classes=7),
        r'model\.head has num_classes=7, and the training data 10 classes: set num_classes=10',
    ),
    "classes of ImageNet's folder": (
        folders_of_images,
        r"number of subfolders \(2\).*classes \(1000\).*metainfo=dict\(classes=\('cat', 'dog'\)\)",
    ),
    'loss that is not finite': (
        with_options(
            optim_wrapper__optimizer__lr=1e30,
            param_scheduler=None,
            experiment_name='infinite',
        ),
        r'iteration \d+: loss is (nan|inf)(, loss is nan)?; the batch is sample \d+',
    ),
}


@pytest.fixture(scope='module', autouse=True)
def whole(trained):
    """The path of a whole checkpoint, for the commands above."""
    global WHOLE
    WHOLE = trained / 'epoch_1.pth'


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
