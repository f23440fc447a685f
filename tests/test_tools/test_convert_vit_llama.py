"""tools/convert_checkpoint.py vit-llama takes the original's checkpoints, the block included."""

import pytest
import torch
from goldens import load_golden, relative_error
from llama_files import LLAMA
from test_models.test_backbones.test_vit_llama import BLOCK, golden_classifier

from mmvitlin.models import ViTLLaMA

SYSTEM = 'vit-llama'
GOLDEN = load_golden('vit_llama')
WITHOUT = {name: value for name, value in GOLDEN.weights.items() if name not in BLOCK}


@pytest.mark.parametrize('key', [None, 'model', 'model_ema'])
def test_a_converted_checkpoint_gives_the_originals_logits(key, convert, capsys):
    """It loads strictly, holding the block: no file of LLaMA is named."""
    converted = convert({key: GOLDEN.weights} if key else GOLDEN.weights)
    model = golden_classifier(checkpoint=None)
    model.load_state_dict(converted['state_dict'], strict=True)
    model.eval()
    with torch.no_grad():
        logits = model(GOLDEN.images, mode='tensor')
    assert relative_error(logits, GOLDEN.outputs['logits']) <= 1e-5
    assert converted['meta']['arch'] == dict(
        embed_dims=48, num_layers=2, num_heads=1, feedforward_channels=192
    )
    # All but the norm after the block, which is one.
    assert f'{len(GOLDEN.weights) - 1} tensors of vit-llama' in capsys.readouterr().out


def test_a_checkpoint_without_the_block_stays_without_it(convert):
    converted = convert(WITHOUT)['state_dict']
    assert len(converted) == len(WITHOUT) - 1
    model = golden_classifier(checkpoint='random')
    model.load_state_dict(converted, strict=True)


def test_tensors_keep_their_dtype(convert):
    halves = {name: value.half() for name, value in GOLDEN.weights.items()}
    converted = convert(halves)['state_dict']
    assert {value.dtype for value in converted.values()} == {torch.float16}


@pytest.mark.parametrize(('arch', 'patch_size'), [('small', 16), ('tiny', 32)])
def test_the_arch_is_told_from_the_shapes(arch, patch_size, convert):
    with torch.device('meta'):
        backbone = ViTLLaMA(arch, patch_size=patch_size, llama=LLAMA)
        head = torch.nn.ModuleDict({'fc': torch.nn.Linear(backbone.embed_dims, 3)})
        model = torch.nn.ModuleDict({'backbone': backbone, 'head': head})
    weights = {name: torch.zeros(()).expand(v.shape) for name, v in model.state_dict().items()}
    assert convert(weights)['meta']['arch'] == arch


def without(*names):
    return {name: value for name, value in GOLDEN.weights.items() if name not in names}


REFUSED = {
    'another model': (
        {'stages.0.weight': torch.zeros(2), 'head.weight': torch.zeros(2, 2)},
        r'not a checkpoint of vit-llama: 1 of 2 names are not those .* stages\.0\.weight',
    ),
    'weights missing': (
        without('blocks.0.mlp.fc1.bias', 'head.bias'),
        r'2 missing, such as backbone\.layers\.0\.mlp\.fc1\.bias, head\.fc\.bias',
    ),
    'a part of the block missing': (
        without('llama.layers.0.ffn_norm.weight'),
        r'8 unexpected, such as backbone\.llama\.layers\.0',
    ),
    'a part of the block of another shape': (
        GOLDEN.weights | {'llama.layers.0.ffn_norm.weight': torch.zeros(3)},
        r'block of LLaMA does not fit: .*ffn_norm\.weight: \(3,\) in the checkpoint, \(64,\) here',
    ),
    'no way into the block': (
        without('llama_dim_mapper1.weight'),
        r'backbone\.llama_in\.weight is missing: this is not a whole classifier',
    ),
    'a norm that was trained': (
        GOLDEN.weights | {'llama.norm.weight': torch.full((64,), 2.0)},
        r'llama\.norm\.weight is not one everywhere',
    ),
}


@pytest.mark.parametrize('case', REFUSED)
def test_anything_else_is_refused_in_one_line(case, refuses_in_one_line):
    assert refuses_in_one_line(*REFUSED[case])
