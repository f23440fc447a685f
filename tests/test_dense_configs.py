"""Detectors and segmentors start from their classifier's weights and keep to its backbone."""

import re
from pathlib import Path

import pytest
import torch
from config_reading import CONFIGS, load
from mmengine.registry import MODELS

from mmvitlin.checkpoints import pretrained
from mmvitlin.errors import CheckpointError

DENSE = [path for path in CONFIGS if re.search(r'/(l2vit|lion|vit_llama)/.*_(coco|ade20k)', path)]
PYRAMIDS = [
    path
    for path in CONFIGS
    if (load(path).model.get('neck') or {}).get('type') == 'mmvitlin.SimpleFeaturePyramid'
]
PLAIN_ARCH = dict(embed_dims=8, num_layers=12, num_heads=2, feedforward_channels=8)
L2VIT_ARCH = dict(embed_dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2))
LLAMA = dict(embed_dims=8, num_heads=2, feedforward_channels=8, checkpoint='random')
# What a classifier and a detector of it have in common.
SHARED = ('type', 'arch', 'mask_type', 'order', 'llama', 'pos_emb', 'patch_size', 'window_size')


def classifier_of(path):
    """The name of the classifier in a config's path."""
    return re.search(r'(?:mask-rcnn_|retinanet_)?([a-z0-9-]+)_', Path(path).name)[1]


@pytest.mark.parametrize('path', DENSE)
def test_the_backbone_is_the_classifiers(path):
    name, backbone = classifier_of(path), load(path).model.backbone
    classifiers = [p for p in CONFIGS if re.search(rf'/{name}_8xb128-accum4|/{name}_4xb256', p)]
    (classifier,) = [load(p).model.backbone for p in classifiers if p.endswith('_in1k.py')]
    assert {key: backbone.get(key) for key in SHARED} == {
        key: classifier.get(key) for key in SHARED
    }
    assert backbone.init_cfg.checkpoint == f'checkpoints/{name}_in1k.pth'


@pytest.mark.parametrize('path', PYRAMIDS)
def test_images_are_padded_to_whole_patches_before_they_come(path):
    """Then predictions are cropped, where maps of a half-filled patch would be resized askew."""
    cfg = load(path)
    settings = cfg.model.data_preprocessor
    detects = cfg.default_scope == 'mmdet'
    divisor = settings.pad_size_divisor if detects else settings.test_cfg.size_divisor
    assert divisor % cfg.model.backbone.get('patch_size', 16) == 0


@pytest.mark.parametrize('path', DENSE)
def test_the_backbone_starts_from_the_classifiers_weights(path, tmp_path, monkeypatch):
    backbone = load(path).model.backbone
    backbone.arch = L2VIT_ARCH if backbone.type == 'mmvitlin.L2ViT' else PLAIN_ARCH
    backbone.init_cfg.checkpoint = str(tmp_path / 'classifier.pth')
    if 'llama' in backbone:
        backbone.llama = LLAMA
    model = MODELS.build(backbone)
    with pytest.raises(CheckpointError, match=r'classifier\.pth'):
        model.init_weights()  # never from random weights without a word

    classifier = MODELS.build({key: backbone[key] for key in SHARED if key in backbone})
    weights = {name: torch.rand(value.shape) for name, value in classifier.state_dict().items()}
    torch.save(
        {'state_dict': {f'backbone.{name}': value for name, value in weights.items()}},
        tmp_path / 'classifier.pth',
    )
    log = []
    monkeypatch.setattr(pretrained, 'print_log', lambda message, *_: log.append(message))
    model = MODELS.build(backbone)
    model.init_weights()
    (report,) = log
    assert '(100%) loaded from' in report
    found = model.state_dict()
    for name, value in weights.items():
        if name == 'pos_embed.weight':  # 14 x 14 positions become those of the crop
            assert found[name].shape == (1, 1 + 32 * 32, 8)
            assert torch.equal(found[name][:, 0], value[:, 0])
        else:
            assert torch.equal(found[name], value.to(found[name].dtype)), name
