"""A classifier at every place: the mean of its answers is its own where pooling is linear."""

import pytest
import torch
from goldens import draw_weights
from mmengine.registry import MODELS, DefaultScope
from tiny_models import L2VIT, WIDTHS

from mmvitlin.models.teachers.dense_logits import DenseLogits, NoFeatureMapError

GAP = dict(type='GlobalAveragePooling')
VIT = dict(
    type='VisionTransformer',
    arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32),
    img_size=64,
    patch_size=16,
)
LION = dict(
    type='mmvitlin.LION',
    arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32),
    img_size=64,
)
CONVNEXT = dict(type='ConvNeXt', arch=dict(depths=(1, 1, 1, 1), channels=WIDTHS))
SWIN = dict(
    type='SwinTransformer',
    arch=dict(embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1)),
    img_size=64,
    window_size=2,
)


def build(backbone, channels, neck=None, head='LinearClsHead'):
    cfg = dict(
        type='ImageClassifier',
        backbone=backbone,
        neck=neck,
        head=dict(type=head, num_classes=5, in_channels=channels),
    )
    return finish(cfg)


def build_timm(name, **options):
    pytest.importorskip('timm')
    return finish(dict(type='TimmClassifier', model_name=name, num_classes=5, **options))


def finish(cfg):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg)
    draw_weights(model)
    model.eval()
    return model


def answer_of(model, images):
    """The classifier's own logits."""
    if hasattr(model, 'head'):
        return model.head(model.extract_feat(images))
    return model(images)


# Classifiers whose pooled map goes through linear layers only, and the side of that map at 64.
LINEAR = {
    'L2ViT': (lambda: build(L2VIT, WIDTHS[-1], GAP), 2),
    'ResNet': (lambda: build(dict(type='ResNet', depth=18, base_channels=8), 64, GAP), 2),
    'Swin': (lambda: build(SWIN, 64, GAP), 2),
    'ViT featmap': (
        lambda: build(VIT | dict(out_type='featmap'), 16, GAP, 'VisionTransformerClsHead'),
        4,
    ),
    'timm, channels first': (lambda: build_timm('resnet10t'), 2),
    'timm, channels last': (lambda: build_timm('swin_s3_tiny_224', img_size=64, window_size=2), 2),
}
# Those that normalise what they pooled, or pool more than the map.
OTHERS = {
    'ConvNeXt': (lambda: build(CONVNEXT, WIDTHS[-1]), 2),
    'ViT avg_featmap': (
        lambda: build(VIT | dict(out_type='avg_featmap'), 16, None, 'VisionTransformerClsHead'),
        4,
    ),
    'LION': (lambda: build(LION, 16), 4),
    'timm ConvNeXt': (lambda: build_timm('convnext_atto'), 2),
}


@torch.no_grad()
@pytest.mark.parametrize('name', LINEAR)
def test_the_mean_over_places_is_the_classifiers_answer(name):
    make, side = LINEAR[name]
    model, images = make(), torch.randn(3, 3, 64, 64)
    answer = answer_of(model, images)
    logits = DenseLogits(model)(images)
    assert logits.shape == (3, 5, side, side)
    torch.testing.assert_close(logits.mean((2, 3)), answer, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits[..., 0, 0], logits[..., -1, -1], atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize('name', OTHERS)
def test_backbones_that_pool_are_opened(name):
    make, side = OTHERS[name]
    model = make()
    logits = DenseLogits(model)(torch.randn(3, 3, 64, 64))
    assert logits.shape == (3, 5, side, side)
    assert not torch.allclose(logits[..., 0, 0], logits[..., -1, -1], atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize('name', ['ConvNeXt', 'ViT avg_featmap', 'timm ConvNeXt'])
def test_an_image_that_is_one_place_gets_the_classifiers_answer(name):
    model = OTHERS[name][0]()
    side = 16 if 'ViT' in name else 32
    images = torch.randn(3, 3, side, side)
    answer = answer_of(model, images)
    logits = DenseLogits(model)(images)
    torch.testing.assert_close(logits[..., 0, 0], answer, rtol=1e-4, atol=1e-4)


def test_classifiers_without_a_map_are_refused_with_what_to_take():
    images = torch.randn(1, 3, 64, 64)
    by_class_token = DenseLogits(build(VIT, 16, None, 'VisionTransformerClsHead'))
    with pytest.raises(NoFeatureMapError, match=r"with out_type='cls_token' returns \(1, 16\)"):
        by_class_token(images)
    with pytest.raises(NoFeatureMapError, match='Linear has neither a backbone and a head'):
        DenseLogits(torch.nn.Linear(1, 1))
    fused = build(L2VIT, 7, GAP)  # a head of another width
    with pytest.raises(NoFeatureMapError, match='do not take a single position'):
        DenseLogits(fused)(images)
    with pytest.raises(NoFeatureMapError, match=r'VisionTransformer returns \(1, 17, 192\)'):
        DenseLogits(build_timm('vit_tiny_patch16_224', img_size=64))(images)
