"""Plain vision transformers on COCO and ADE20K start from their classifiers and learn by depth."""

import re
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from config_reading import CONFIGS, build_on_meta, load, steps
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

from mmvitlin.checkpoints import pretrained
from mmvitlin.errors import CheckpointError

LION_SMALL = dict(type='mmvitlin.LION', arch='small', mask_type='Decay', order='S')
LION_BASE = dict(type='mmvitlin.LION', arch='base', mask_type='Selective', order='S')
LLAMA_SMALL = dict(type='mmvitlin.ViTLLaMA', arch='small')
CHECKPOINTS = {  # of the classifiers
    'lion-d-natural-small': LION_SMALL,
    'lion-s-natural-base': LION_BASE,
    'vit-llama-small': LLAMA_SMALL,
}
MASK_RCNN = [
    'configs/lion/mask-rcnn_lion-d-natural-small_sfp_1x_coco.py',
    'configs/lion/mask-rcnn_lion-s-natural-base_sfp_1x_coco.py',
]
UPERNET = [
    'configs/lion/lion-d-natural-small_upernet_8xb2-160k_ade20k-512x512.py',
    'configs/lion/lion-s-natural-base_upernet_8xb2-160k_ade20k-512x512.py',
    'configs/vit_llama/vit-llama-small_upernet_8xb2-160k_ade20k-512x512.py',
]
DENSE = MASK_RCNN + UPERNET
WIDTHS = {'small': 384, 'base': 768}
DROP_PATHS = {'small': 0.1, 'base': 0.2}


def name_of(path):
    """The name of the classifier in a config's path."""
    (name,) = (name for name in CHECKPOINTS if name in path)
    return name


def test_every_dense_config_of_a_plain_vit_is_held_to_a_recipe():
    found = [path for path in CONFIGS if re.search(r'/(lion|vit_llama)/.*_(coco|ade20k)', path)]
    assert sorted(found) == sorted(DENSE)


@pytest.mark.parametrize('path', DENSE)
def test_the_backbone_is_the_classifiers_with_maps(path):
    backbone = load(path).model.backbone
    settings = CHECKPOINTS[name_of(path)]
    assert {key: backbone[key] for key in settings} == settings
    assert backbone.out_type == 'featmap'
    assert backbone.drop_path_rate == DROP_PATHS[backbone.arch]
    (classifier,) = (
        load(other).model.backbone
        for other in CONFIGS
        if Path(other).name.startswith(f'{name_of(path)}_') and other.endswith('300e_in1k.py')
    )
    for key in ('llama', 'pos_emb', 'patch_size', 'mask_type', 'order'):
        assert backbone.get(key) == classifier.get(key), key


@pytest.mark.parametrize('path', MASK_RCNN)
def test_detectors_have_five_levels_of_one_map(path):
    cfg = load(path)
    model = build_on_meta(cfg)
    assert cfg.model.type == 'MaskRCNN'
    assert cfg.model.backbone.get('out_indices', -1) == -1
    assert model.neck.in_channels == (WIDTHS[cfg.model.backbone.arch],) * 4
    with torch.device('meta'):
        outs = model.extract_feat(torch.empty(1, 3, 64, 96))
    assert [64 // out.shape[2] for out in outs] == cfg.model.rpn_head.anchor_generator.strides
    assert cfg.train_cfg.max_epochs == 12
    assert cfg.test_evaluator.metric == ['bbox', 'segm']


@pytest.mark.parametrize('path', UPERNET)
def test_segmentors_have_a_map_at_each_quarter_of_the_depth(path):
    cfg = load(path)
    model = build_on_meta(cfg)
    assert tuple(cfg.model.backbone.out_indices) == (2, 5, 8, 11)
    assert model.decode_head.num_classes == model.auxiliary_head.num_classes == 150
    assert cfg.model.data_preprocessor.size == steps(cfg, 'RandomCrop')[0].crop_size == (512, 512)
    assert cfg.train_cfg.max_iters == 160_000
    if 'llama' not in path:  # whose block says what to do without its file
        with torch.device('meta'):
            outs = model.extract_feat(torch.empty(1, 3, 64, 96))
        assert [64 // out.shape[2] for out in outs] == [4, 8, 16, 32]


PYRAMIDS = [
    path
    for path in CONFIGS
    if (load(path).model.get('neck') or {}).get('type') == 'mmvitlin.SimpleFeaturePyramid'
]


@pytest.mark.parametrize('path', PYRAMIDS)
def test_images_are_padded_to_whole_patches_before_they_come(path):
    """Then predictions are cropped, where maps of a half-filled patch would be resized askew."""
    assert set(DENSE) < set(PYRAMIDS)
    cfg = load(path)
    settings = cfg.model.data_preprocessor
    detects = cfg.default_scope == 'mmdet'
    divisor = settings.pad_size_divisor if detects else settings.test_cfg.size_divisor
    assert divisor % cfg.model.backbone.get('patch_size', 16) == 0


@pytest.mark.parametrize('path', DENSE)
def test_the_rate_falls_by_the_layer_and_only_matrices_decay(path):
    cfg = load(path)
    rate = 0.7 if path in MASK_RCNN else 0.75
    optimizer_cfg = cfg.optim_wrapper.optimizer
    lr, weight_decay = (1e-4, 0.05) if path in MASK_RCNN else (6e-5, 0.01)
    assert optimizer_cfg == dict(type='AdamW', lr=lr, weight_decay=weight_decay)
    model = build_on_meta(cfg)
    optimizer = build_optim_wrapper(model, deepcopy(cfg.optim_wrapper)).optimizer
    found = {id(p): group for group in optimizer.param_groups for p in group['params']}
    for name, parameter in model.named_parameters():
        group, depth = found[id(parameter)], 13
        if re.match(r'backbone\.(patch_embed|cls_token|pos_embed)', name):
            depth = 0
        elif name.startswith('backbone.layers.'):
            depth = int(name.split('.')[2]) + 1
        still = parameter.ndim < 2 or 'cls_token' in name or 'pos_embed' in name
        assert group['lr'] == pytest.approx(lr * rate ** (13 - depth)), name
        assert group['weight_decay'] == (0 if still else weight_decay), name


@pytest.mark.parametrize('path', DENSE)
def test_the_backbone_starts_from_the_classifiers_weights(path, tmp_path, monkeypatch):
    backbone = load(path).model.backbone
    assert backbone.init_cfg.checkpoint == f'checkpoints/{name_of(path)}_in1k.pth'
    arch = dict(embed_dims=8, num_layers=12, num_heads=2, feedforward_channels=8)
    backbone.arch = arch
    backbone.init_cfg.checkpoint = str(tmp_path / 'classifier.pth')
    if 'llama' in backbone:
        backbone.llama = dict(
            embed_dims=8, num_heads=2, feedforward_channels=8, checkpoint='random'
        )
    model = MODELS.build(backbone)
    with pytest.raises(CheckpointError, match=r'classifier\.pth'):
        model.init_weights()  # never from random weights in silence

    plain = ('type', 'arch', 'mask_type', 'order', 'llama')
    classifier = MODELS.build({key: backbone[key] for key in plain if key in backbone})
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
    assert 'missing' not in report and 'unexpected' not in report
    found = model.state_dict()
    for name, value in weights.items():
        if name == 'pos_embed.weight':  # 14 x 14 positions become those of the crop
            assert found[name].shape == (1, 1 + 32 * 32, 8)
            assert torch.equal(found[name][:, 0], value[:, 0])
        else:
            assert torch.equal(found[name], value.to(found[name].dtype)), name


def test_layer_decay_knows_mmpretrains_vision_transformer_too():
    cfg = load(MASK_RCNN[0])
    cfg.model.backbone = dict(
        type='mmpretrain.VisionTransformer', arch='deit-small', out_type='featmap'
    )
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, deepcopy(cfg.optim_wrapper)).optimizer.param_groups
    rates = sorted({round(group['lr'], 12) for group in groups})
    assert rates == pytest.approx([1e-4 * 0.7**depth for depth in range(13, -1, -1)])
