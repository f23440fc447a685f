"""The pose quickstart by our tools and by mmpose's own; skipped where mmpose is not installed."""

import subprocess
import sys
from pathlib import Path

import mmcv
import numpy as np
import pytest
from tiny_run import ROOT

mmpose = pytest.importorskip('mmpose', reason='mmpose is not installed: tests/mmpose.txt')

pytestmark = pytest.mark.slow

TOOLS = {'ours': ROOT / 'tools', "mmpose's": Path(mmpose.__file__).parent / '.mim/tools'}
CONFIGS = {
    'ours': ROOT / 'configs/quickstart/td-hm_l2vit-micro_1xb64_digits.py',
    "mmpose's": ROOT / 'configs/quickstart/td-hm_lion-d-natural-micro_sfp_1xb64_digits.py',
}
FEW = ['train_dataloader.dataset.indices=64', 'val_dataloader.dataset.indices=16']
FEW += ['test_dataloader.dataset.indices=16', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1']


def run(tool: Path, *arguments: object) -> str:
    command = [sys.executable, str(tool), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.parametrize('tools', TOOLS)
def test_training_and_testing_print_the_same_pck(tools, tmp_path):
    config = CONFIGS[tools]
    few = ['--cfg-options', *FEW]
    train = run(TOOLS[tools] / 'train.py', config, '--work-dir', tmp_path, *few)
    checkpoint = tmp_path / 'epoch_1.pth'
    assert checkpoint.is_file() and 'PCK: ' in train
    test = run(TOOLS['ours'] / 'test.py', config, checkpoint, '--work-dir', tmp_path / 'test', *few)
    printed = [text.rpartition('PCK: ')[2].split()[0] for text in (train, test)]
    assert printed[0] == printed[1]
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    mmcv.imwrite(image, str(tmp_path / 'image.png'))
    images = [tmp_path / 'image.png', '--out-dir', tmp_path / 'drawn', '--score', 0]  # draws all
    said = run(TOOLS['ours'] / 'predict.py', config, checkpoint, *images)
    assert 'image.png: top (' in said and (tmp_path / 'drawn/image.png').is_file()


def test_the_inferencer_finds_key_points_by_name():
    from mmvitlin.apis import get_inferencer, list_models

    assert {path.stem for path in CONFIGS.values()} == set(list_models(task='Pose Estimation'))
    predict = get_inferencer(CONFIGS['ours'].stem, device='cpu')
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    (found,) = predict(image)
    ((pose,),) = found['predictions']
    assert np.shape(pose['keypoints']) == (5, 2)
