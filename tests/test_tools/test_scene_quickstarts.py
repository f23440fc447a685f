"""The quickstarts on scenes run by our tools, by the hosts' own, and in two processes."""

import os
import sys
from pathlib import Path

import mmdet
import mmengine
import mmseg
import numpy as np
import pytest
import torch
from fresh_python import run_script
from mmdet.apis import DetInferencer
from mmseg.apis import MMSegInferencer
from PIL import Image
from test_tools.conftest import run_command
from tiny_run import ROOT

pytestmark = pytest.mark.slow

MASK_RCNN = ROOT / 'configs/quickstart/mask-rcnn_l2vit-micro_fpn_digit-scenes.py'
RETINANET = ROOT / 'configs/quickstart/retinanet_l2vit-micro_fpn_digit-scenes.py'
UPERNET = ROOT / 'configs/quickstart/l2vit-micro_upernet_digit-scenes.py'
LION_MASK_RCNN = ROOT / 'configs/quickstart/mask-rcnn_lion-d-natural-micro_sfp_digit-scenes.py'
LION_UPERNET = ROOT / 'configs/quickstart/lion-d-natural-micro_upernet_digit-scenes.py'
CHECKPOINTS = {
    MASK_RCNN: 'epoch_1.pth',
    RETINANET: 'epoch_1.pth',
    UPERNET: 'iter_2.pth',
    LION_MASK_RCNN: 'epoch_1.pth',
    LION_UPERNET: 'iter_2.pth',
}


def segments(config):
    return 'upernet' in config.stem


def arguments(config, work_dir, **options):
    """Return the options that shorten a quickstart to two iterations in `work_dir`."""
    options = {
        'train_dataloader.dataset.num_scenes': 4,
        'train_dataloader.batch_size': 2,
        'val_dataloader.dataset.num_scenes': 2,
        'val_dataloader.dataset.cache_dir': work_dir / 'scenes',
        'test_dataloader.dataset.num_scenes': 2,
        'test_dataloader.dataset.cache_dir': work_dir / 'scenes',
        'experiment_name': f'{config.stem}_{work_dir.name}',
        'log_level': 'WARNING',
        **options,
    }
    if segments(config):
        options.update({'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2})
        options.update({'default_hooks.checkpoint.interval': 2})
    else:
        options.update({'train_cfg.max_epochs': 1})
    settings = [f'{key}={value}' for key, value in options.items()]
    return ['--work-dir', work_dir, '--cfg-options', *settings]


@pytest.fixture(scope='module', params=[MASK_RCNN, LION_UPERNET], ids=lambda config: config.stem)
def trained(request, tmp_path_factory):
    """A quickstart and the work directory of a tiny run of it by the host's own train.py."""
    config, work_dir = request.param, tmp_path_factory.mktemp('trained')
    host = mmseg if segments(config) else mmdet
    tool = Path(host.__file__).parent / '.mim/tools/train.py'
    run_script(tool, config, *arguments(config, work_dir))
    return config, work_dir


def test_the_hosts_own_train_py_runs_a_quickstart_and_ours_tests_it(trained, run_tool, tmp_path):
    config, work_dir = trained
    checkpoint = work_dir / CHECKPOINTS[config]
    assert torch.load(checkpoint, weights_only=True)['random_states']
    out = tmp_path / ('maps' if segments(config) else 'predictions.pkl')
    run_tool(
        *('test.py', config, checkpoint, '--out', out, '--show-dir', tmp_path / 'pictures'),
        *arguments(config, tmp_path),
    )
    assert len(list((tmp_path / 'pictures').rglob('*.png'))) == 2
    if segments(config):
        for name in ('000000.png', '000001.png'):
            assert np.array(Image.open(out / name)).shape == (128, 128)
    else:
        assert [sample['img_id'] for sample in mmengine.load(out)] == [0, 1]


def test_the_hosts_inferencer_takes_paths_of_a_quickstart_and_draws_any_image(trained, tmp_path):
    config, work_dir = trained
    image = tmp_path / 'photograph.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 301, 3), np.uint8)).save(image)
    paths = str(config), str(work_dir / CHECKPOINTS[config])
    if segments(config):
        found = MMSegInferencer(*paths, device='cpu')(str(image), out_dir=str(tmp_path / 'out'))
        assert found['predictions'].shape == (200, 301)
    else:
        inferencer = DetInferencer(*paths, device='cpu', show_progress=False)
        found = inferencer(str(image), out_dir=str(tmp_path / 'out'), pred_score_thr=0)
        (prediction,) = found['predictions']
        assert all(0 <= score <= 1 for score in prediction['scores'])
    (picture,) = (tmp_path / 'out/vis').iterdir()
    with Image.open(picture) as drawn:
        assert drawn.size == (301, 200)


@pytest.mark.parametrize(
    'config', [RETINANET, LION_MASK_RCNN, UPERNET], ids=lambda config: config.stem
)
def test_our_train_py_runs_a_quickstart_and_validates(config, run_tool, tmp_path):
    run_tool('train.py', config, *arguments(config, tmp_path, log_level='INFO'))
    assert (tmp_path / CHECKPOINTS[config]).is_file()
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert ('mIoU: ' if segments(config) else 'Evaluating bbox') in log


def test_two_processes_train_a_detector_on_a_cpu(tmp_path):
    environment = {**os.environ, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'}
    command = [ROOT / 'tools/dist_train.sh', MASK_RCNN, 2, *arguments(MASK_RCNN, tmp_path)]
    run_command(*command, env=environment)
    checkpoint = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    assert len(checkpoint['random_states']) == 2
    assert checkpoint['meta']['iter'] == 1  # 4 scenes, 2 in each of two processes
