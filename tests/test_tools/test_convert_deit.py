"""tools/convert_checkpoint.py deit makes mmpretrain's classifiers of the original's checkpoints."""

import pytest
import torch
from config_reading import load
from goldens import draw_weight, load_golden, relative_error
from mmpretrain.models import ImageClassifier

from mmvitlin.curricula import TokenExpansionHook
from mmvitlin.engine.cost import build_on_meta

SYSTEM = 'deit'
GOLDEN = load_golden('deit_toe')
ARCH = dict(embed_dims=48, num_layers=4, num_heads=3, feedforward_channels=192)
DISTILLED = GOLDEN.weights | {
    'dist_token': draw_weight('dist_token', (1, 1, 48), 1),
    'pos_embed': draw_weight('pos_embed', (1, 38, 48), 1),
    'head_dist.weight': draw_weight('head_dist.weight', (10, 48), 1),
    'head_dist.bias': draw_weight('head_dist.bias', (10,), 1),
}


def classifier(backbone, head):
    return ImageClassifier(
        backbone=dict(type=backbone, arch=ARCH, img_size=96, patch_size=16),
        head=dict(type=head, num_classes=10, in_channels=48),
    ).double()


@pytest.mark.parametrize('key', [None, 'model'])
def test_a_converted_checkpoint_gives_the_originals_logits(key, convert, capsys):
    """With token expansion at its last stage, which keeps every token."""
    converted = convert({key: GOLDEN.weights} if key else GOLDEN.weights)
    model = classifier('VisionTransformer', 'LinearClsHead')
    model.load_state_dict(converted['state_dict'], strict=True)
    hook = TokenExpansionHook(**GOLDEN.meta['toe'])
    hook.attach(model)
    model.train()
    for stage, epoch in {1: 0, 2: 100, 3: 200}.items():
        hook.set_epoch(epoch)
        logits = model(GOLDEN.images, mode='tensor')
        assert relative_error(logits, GOLDEN.outputs[f'logits_stage{stage}']) < 1e-5
    assert converted['meta']['arch'] == ARCH | dict(num_heads=1)  # 48 is no multiple of 64
    assert f'{len(GOLDEN.weights)} tensors of deit' in capsys.readouterr().out


def test_a_distilled_checkpoint_loads_strictly_and_keeps_every_tensor(convert):
    converted = convert(DISTILLED)['state_dict']
    model = classifier('DistilledVisionTransformer', 'DeiTClsHead')
    model.load_state_dict(converted, strict=True)
    assert torch.equal(model.backbone.dist_token, DISTILLED['dist_token'])
    assert torch.equal(model.head.layers.head_dist.weight, DISTILLED['head_dist.weight'])
    assert torch.equal(model.head.layers.head.weight, DISTILLED['head.weight'])
    assert torch.equal(model.backbone.ln1.weight, DISTILLED['norm.weight'])


@pytest.mark.parametrize('arch', ['tiny', 'small', 'base'])
def test_checkpoints_fit_the_classifiers_of_the_configs(arch, convert):
    model = build_on_meta(load(f'configs/toe/deit-{arch}_4xb256-300e_in1k.py'))
    weights = {name: torch.zeros(()).expand(v.shape) for name, v in model.state_dict().items()}
    assert convert(weights)['meta']['arch'] == f'deit-{arch}'


def without(*names):
    return {name: value for name, value in GOLDEN.weights.items() if name not in names}


REFUSED = {
    'another model': (
        {'stages.0.weight': torch.zeros(2), 'head.weight': torch.zeros(2, 2)},
        r'not a checkpoint of deit: 1 of 2 names are not those .* stages\.0\.weight',
    ),
    'weights missing': (
        without('blocks.0.mlp.fc1.bias', 'head.bias'),
        r'2 missing, such as backbone\.layers\.0\.ffn\.layers\.0\.0\.bias, head\.fc\.bias',
    ),
    'half of a distilled one': (
        {name: value for name, value in DISTILLED.items() if 'head_dist' not in name},
        r'2 missing, such as head\.layers\.head_dist\.bias',
    ),
    'no positions': (
        without('pos_embed'),
        r'backbone\.pos_embed is missing: this is not a whole classifier',
    ),
}


@pytest.mark.parametrize('case', REFUSED)
def test_anything_else_is_refused_in_one_line(case, refuses_in_one_line):
    assert refuses_in_one_line(*REFUSED[case])
