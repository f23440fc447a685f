"""The weights that DeiT and ViT-LLaMA start from, as our configs build them, are the originals'."""

import pytest
import torch
from config_reading import load
from mmengine.registry import MODELS, DefaultScope

CONFIGS = [
    'configs/toe/deit-tiny_4xb256-300e_in1k.py',
    'configs/toe/deit-small_4xb256-300e_in1k.py',
    'configs/vit_llama/vit-tiny_4xb256-300e_in1k.py',
    'configs/distill/deit-small_distilled_4xb256-300e_in1k.py',
]


def build(path):
    cfg = load(path)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        settings = dict(cfg.model)
        for key in ('teacher', 'distillation', 'alpha', 'tau'):
            settings.pop(key, None)
        settings['type'] = 'ImageClassifier'
        model = MODELS.build(settings)
    model.init_weights()
    return model


def assert_normal(parameter, std, name):
    """Check mean and std within five standard errors.

    torch's and timm's truncated normal is cut at -2 and 2, not at multiples of std, and draws -2
    about once in 2 ** 24 times, where its uniform numbers are exactly -1: those are left out.
    """
    count = parameter.numel()
    parameter = parameter[parameter != -2]
    assert count - parameter.numel() <= 2, name
    assert parameter.mean().abs() < 5 * std / count**0.5, name
    assert parameter.std().item() == pytest.approx(std, rel=5 / (2 * count) ** 0.5), name


@pytest.mark.parametrize('path', CONFIGS)
def test_deit_starts_as_the_original(path):
    model = build(path)
    for name, parameter in model.named_parameters():
        if name.endswith('.cls_token'):
            assert_normal(parameter, 1e-6, name)
        elif 'patch_embed' in name:  # torch's own, uniform within 1 / sqrt(3 x 16 x 16)
            assert parameter.abs().max() <= 1 / 768**0.5
            if parameter.ndim > 1:
                assert_normal(parameter, (1 / 768 / 3) ** 0.5, name)
        elif parameter.ndim > 1:
            assert_normal(parameter, 0.02, name)
        elif '.ln' in name and name.endswith('weight'):
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        else:
            assert torch.equal(parameter, torch.zeros_like(parameter)), name


def test_the_class_token_of_vit_llama_starts_near_zero():
    llama = dict(embed_dims=32, num_heads=2, feedforward_channels=64, checkpoint='random')
    model = MODELS.build(dict(type='mmvitlin.ViTLLaMA', arch='tiny', llama=llama))
    model.init_weights()
    assert_normal(model.cls_token, 1e-6, 'cls_token')
    assert_normal(model.pos_embed.weight, 0.02, 'pos_embed')
