"""tools/convert_checkpoint.py lvvit takes the original's checkpoints, and nothing else."""

import pytest
import torch
from goldens import relative_error
from test_models.test_backbones.test_lvvit import GOLDEN, golden_classifier

from mmvitlin.models import LVViT, TokenLabelHead

SYSTEM = 'lvvit'


@pytest.mark.parametrize('key', [None, 'model', 'state_dict', 'model_ema'])
def test_a_converted_checkpoint_gives_the_originals_logits(key, convert, capsys):
    converted = convert({key: GOLDEN.weights} if key else GOLDEN.weights)
    model = golden_classifier()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    model.load_state_dict(converted['state_dict'], strict=True)
    with torch.no_grad():
        logits = model(GOLDEN.images, mode='tensor')
    assert relative_error(logits, GOLDEN.outputs['logits']) <= 1e-5
    assert converted['meta']['arch'] == dict(
        embed_dims=48,
        num_layers=3,
        num_heads=1,
        feedforward_channels=144,
        skip_lam=1.0,
        stem_channels=64,
    )
    said = capsys.readouterr().out
    assert f'{len(GOLDEN.weights)} tensors of lvvit' in said
    assert 'num_heads and skip_lam of this arch leave no trace in weights and are guesses' in said


@pytest.mark.parametrize('arch', LVViT.arch_zoo)
def test_the_arch_is_told_from_the_shapes(arch, convert, capsys):
    """By the names of the original, whose heads and skip_lam leave no trace."""
    with torch.device('meta'):
        backbone = LVViT(arch, img_size=(448 if arch == 'large' else 224))
        head = TokenLabelHead(7, backbone.embed_dims)
        model = torch.nn.ModuleDict({'backbone': backbone, 'head': head})
    weights = {name: torch.zeros(()).expand(v.shape) for name, v in model.state_dict().items()}
    converted = convert(weights)
    assert converted['meta']['arch'] == arch
    assert converted['meta']['num_classes'] == 7
    assert 'guesses' not in capsys.readouterr().out


def test_both_heads_get_the_classes_of_an_index(convert, tmp_path):
    rows = [(7 * i) % 10 for i in range(1000)]
    (tmp_path / 'index.txt').write_text('\n'.join(map(str, rows)))
    converted = convert(GOLDEN.weights, '--class-index', tmp_path / 'index.txt')['state_dict']
    assert torch.equal(converted['head.fc.weight'], GOLDEN.weights['head.weight'][rows])
    assert torch.equal(converted['head.token_fc.bias'], GOLDEN.weights['aux_head.bias'][rows])


def without(*names):
    return {name: value for name, value in GOLDEN.weights.items() if name not in names}


REFUSED = {
    'another model': (
        {'stages.0.weight': torch.zeros(2), 'head.weight': torch.zeros(2, 2)},
        r'not a checkpoint of lvvit: 1 of 2 names are not those .* stages\.0\.weight',
    ),
    'one head alone': (
        without('aux_head.weight', 'aux_head.bias'),
        r'2 missing, such as head\.token_fc\.bias, head\.token_fc\.weight',
    ),
    'weights missing': (
        without('blocks.0.mlp.fc1.bias'),
        r'1 missing, such as backbone\.layers\.0\.mlp\.fc1\.bias',
    ),
    'a plain stem': (
        without('patch_embed.conv1.weight'),
        r'backbone\.patch_embed\.conv1\.weight is missing: this is not a whole classifier',
    ),
    'biases of queries': (
        GOLDEN.weights | {'blocks.0.attn.qkv.bias': torch.zeros(144)},
        r'1 unexpected, such as backbone\.layers\.0\.attn\.qkv\.bias',
    ),
}


@pytest.mark.parametrize('case', REFUSED)
def test_anything_else_is_refused_in_one_line(case, refuses_in_one_line):
    assert refuses_in_one_line(*REFUSED[case])
