"""The configs of ViT-LLaMA name LLaMA's file, and those on tar files differ in nothing else."""

import json
import math
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from config_reading import CONFIGS, load
from PIL import Image
from tiny_run import ROOT

from mmvitlin.engine.cost import build_on_meta

pytestmark = pytest.mark.slow

NAMES = [Path(path).stem for path in CONFIGS if re.search('/vit_llama/.*_in1k(?!-fsdp)', path)]
PLAIN = [name for name in NAMES if not name.endswith('-tar')]
ON_TAR = [name for name in PLAIN if '-p32_' not in name]


def config(name):
    return load(f'configs/vit_llama/{name}.py')


def test_every_config_of_the_paper_has_one_on_tar_files():
    assert set(NAMES) - set(PLAIN) | set(ON_TAR) == {
        f'{name}{data}' for name in ON_TAR for data in ('', '-tar')
    }


@pytest.mark.parametrize('name', ON_TAR)
def test_tar_files_are_all_that_differs(name):
    plain, tar = config(name), config(f'{name}-tar')
    for split in ('train', 'val', 'test'):
        dataset = tar[f'{split}_dataloader'].dataset
        assert dataset.type == 'mmvitlin.ImageNetTar'
        dataset.type = plain[f'{split}_dataloader'].dataset.type
    assert tar.to_dict() == plain.to_dict()


@pytest.mark.parametrize('name', [name for name in PLAIN if 'llama' in name])
def test_the_block_is_llamas_frozen_and_left_out_of_checkpoints(name):
    cfg = config(name)
    assert cfg.model.backbone.llama == dict(
        checkpoint='checkpoints/llama-7b_layer-31.safetensors', dtype='bfloat16', save=False
    )
    assert build_on_meta(cfg).backbone.llama.num_weights == 202_383_360


@pytest.mark.parametrize('arch', ['tiny', 'small', 'base'])
def test_the_plain_vit_is_the_same_but_for_llama(arch):
    plain = build_on_meta(config(f'vit-{arch}_4xb256-300e_in1k')).backbone
    ours = build_on_meta(config(f'vit-llama-{arch}_4xb256-300e_in1k')).backbone
    assert len(plain.layers) == len(ours.layers) == 12
    for theirs, layer in zip(plain.layers, ours.layers):
        count, expected = (
            sorted(tuple(p.shape) for p in module.parameters()) for module in (layer, theirs)
        )
        assert count == expected
        assert layer.attn.num_heads == theirs.attn.num_heads
        assert layer.norm1.eps == theirs.ln1.eps == 1e-6
        assert layer.drop_path.drop_prob == pytest.approx(theirs.ffn.dropout_layer.drop_prob)


def write_tar(root, split):
    """Two images in a tar without folders, and their labels in meta/."""
    rng = np.random.default_rng(0)
    with tarfile.open(root / f'{split}.tar', 'w') as archive:
        for name in ('first.png', 'last.png'):
            Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(root / name)
            archive.add(root / name, name)
            (root / name).unlink()
    (root / 'meta').mkdir(exist_ok=True)
    (root / f'meta/{split}.txt').write_text('first.png 0\nlast.png 999\n')


def test_a_full_size_config_trains_and_validates_on_tar_files(run_tool, tmp_path):
    """With a narrow random block in the place of LLaMA's."""
    options = {
        'default_hooks.logger.interval': 1,
        'default_hooks.checkpoint.interval': -1,
        'default_hooks.checkpoint.save_last': False,
        'model.backbone.llama.checkpoint': 'random',
        'model.backbone.llama.embed_dims': 64,
        'model.backbone.llama.num_heads': 4,
        'model.backbone.llama.feedforward_channels': 176,
        'model.backbone.img_size': 64,
        'train_dataloader.batch_size': 2,
        'train_dataloader.sampler.num_repeats': 1,
        'train_dataloader.dataset.pipeline.1.scale': 64,
        'val_dataloader.dataset.pipeline.1.scale': 64,
        'val_dataloader.dataset.pipeline.2.crop_size': 64,
        'train_cfg.max_epochs': 1,
        'experiment_name': 'tar',
        'visualizer.name': 'tar',
    }
    for split in ('train', 'val'):
        write_tar(tmp_path, split)
        options[f'{split}_dataloader.dataset.data_root'] = tmp_path
        options[f'{split}_dataloader.num_workers'] = 0
        options[f'{split}_dataloader.persistent_workers'] = False
    name = 'vit-llama-tiny_4xb256-300e_in1k-tar'
    run_tool(
        *('train.py', ROOT / f'configs/vit_llama/{name}.py', '--work-dir', tmp_path / 'run'),
        '--cfg-options',
        *(f'{key}={value}' for key, value in options.items()),
    )
    (scalars,) = (tmp_path / 'run').glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in scalars.read_text().splitlines()]
    losses = [record['loss'] for record in records if 'loss' in record]
    assert len(losses) == 1
    assert math.isfinite(losses[0])
    assert any('accuracy/top1' in record for record in records)
