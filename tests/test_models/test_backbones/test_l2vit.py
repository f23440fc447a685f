"""Features of L2ViT only; those of all backbones are in test_backbones.py."""

import pytest
import torch
from goldens import load_golden, relative_error
from test_models.test_backbones.cases import L2VIT
from torch import nn

from mmvitlin.checkpoints.converters.l2vit import convert_l2vit
from mmvitlin.layers.linear_attention import LinearAttention
from mmvitlin.models.backbones.l2vit import L2ViT, LinearGlobalBlock, LocalWindowBlock


def batch_norms(model):
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}


# The original's numbers


@pytest.mark.usefixtures('mmpretrain_scope')
@pytest.mark.parametrize('name', ['l2vit_64x64', 'l2vit_70x100', 'l2vit_win12_96x96'])
def test_classifier_gives_the_originals_numbers(name):
    from mmpretrain.models import ImageClassifier

    golden = load_golden(name)
    dims, classes = golden.kwargs['dims'], golden.kwargs['num_classes']
    backbone = dict(
        type='mmvitlin.L2ViT',
        arch=dict(
            embed_dims=dims, depths=golden.kwargs['depths'], num_heads=golden.kwargs['num_heads']
        ),
        window_size=golden.kwargs.get('window_size', 7),
    )
    model = ImageClassifier(
        backbone=backbone,
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=classes, in_channels=dims[-1]),
    ).double()
    model.load_state_dict(convert_l2vit(golden.weights), strict=True)
    model.eval()

    outputs = {}
    for index, stage in enumerate(model.backbone.stages):
        stage[-1].register_forward_hook(
            lambda block, args, out, key=f'stage{index}': outputs.update({key: out.flatten(1, 2)})
        )
    with torch.no_grad():
        outputs['logits'] = model(golden.images, mode='tensor')
    assert outputs.keys() == golden.outputs.keys()
    for key, expected in golden.outputs.items():
        assert relative_error(outputs[key], expected) <= 1e-5, key


def test_converter_refuses_a_name_that_the_original_does_not_have():
    with pytest.raises(ValueError, match=r'patch_embed\.proj\.weight'):
        convert_l2vit({'patch_embed.proj.weight': torch.zeros(1)})


# Structure


@pytest.mark.parametrize(
    ('arch', 'millions'), [('tiny', 28.596781), ('small', 50.199), ('base', 88.577)]
)
def test_parameters_of_the_classifier_are_as_many_as_published(arch, millions):
    with torch.device('meta'):
        model = L2ViT(arch)
        head = nn.Linear(model.embed_dims[-1], 1000)
    count = sum(p.numel() for module in (model, head) for p in module.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=1e-9 if arch == 'tiny' else 5e-4)


def test_local_and_global_blocks_take_turns_in_each_stage():
    arch = dict(embed_dims=(8,) * 4, depths=(3, 1, 4, 2), num_heads=(1,) * 4)
    local, linear = LocalWindowBlock, LinearGlobalBlock
    assert [[type(block) for block in stage] for stage in L2ViT(arch).stages] == [
        [local, linear, local],
        [local],
        [local, linear, local, linear],
        [local, linear],
    ]


@pytest.mark.parametrize('depths', [(2, 1, 3, 2), (1, 1, 1, 1)])
def test_drop_path_grows_linearly_over_all_blocks(depths):
    arch = dict(embed_dims=(8,) * 4, depths=depths, num_heads=(1,) * 4)
    model = L2ViT(arch, drop_path_rate=0.3)
    rates = [block.drop_path.drop_prob for stage in model.stages for block in stage]
    assert rates == pytest.approx(torch.linspace(0, 0.3, sum(depths)).tolist(), abs=1e-7)


def test_drop_path_drops_whole_branches_of_single_images():
    """At a rate of one half, all eight combinations of kept and dropped branches occur."""
    model = L2VIT.build(drop_path_rate=0.5)
    block = model.stages[2][1].train()
    block.drop_path.drop_prob = 0.5
    x = torch.randn(1, 4, 4, 24).expand(64, -1, -1, -1)
    block.concentration.eval()
    out = block(x)
    kinds = out.flatten(1).round(decimals=3).unique(dim=0)
    assert len(kinds) == 8  # three branches, each kept or dropped
    untouched = (out - block.cpe(x)).abs().amax((1, 2, 3)) < 1e-6
    assert 0 < untouched.sum() < 32


def test_outputs_go_through_a_norm_of_their_own():
    model = L2VIT.build(out_indices=(1, 3))
    model.eval()
    assert sorted(n for n, _ in model.named_children() if n.startswith('norm')) == [
        'norm1',
        'norm3',
    ]
    images = L2VIT.images()
    with torch.no_grad():
        before = model(images)
        model.norm1.weight.mul_(2)
        model.norm1.bias.add_(1)
        after = model(images)
    bias = model.norm1.bias.detach().view(1, -1, 1, 1) - 1
    torch.testing.assert_close(after[0], (before[0] - bias) * 2 + bias + 1)
    torch.testing.assert_close(after[1], before[1], rtol=0, atol=0)


def test_outputs_are_contiguous_since_roi_align_reads_no_other_layout():
    outs = L2VIT.build(out_indices=(0, 1, 2, 3))(L2VIT.images(64, 96))
    assert all(out.is_contiguous() for out in outs)


@pytest.mark.parametrize(('height', 'width'), [(33, 47), (1, 1), (38, 62)])
def test_zeros_to_the_right_and_below_are_the_padding(height, width):
    """The stem and the stages see a side that a stride does not divide as if zeros followed it."""
    model = L2VIT.build(out_indices=(0,)).double()
    model.eval()
    images = L2VIT.images(height, width).double()
    bottom, right = -height % 4, -width % 4
    padded = torch.cat([images, torch.zeros(2, 3, bottom, width, dtype=torch.double)], 2)
    padded = torch.cat([padded, torch.zeros(2, 3, height + bottom, right, dtype=torch.double)], 3)
    with torch.no_grad():
        torch.testing.assert_close(model(images)[0], model(padded)[0], rtol=0, atol=1e-12)


def test_downsampling_pads_after_the_norm():
    model = L2VIT.build()
    downsample = model.downsamples[1].double()
    x = torch.randn(2, 3, 5, 8, dtype=torch.double)
    padded = torch.zeros(2, 4, 6, 8, dtype=torch.double)
    padded[:, :3, :5] = downsample.norm(x)
    expected = downsample.conv(padded.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(downsample(x), expected)


# Initialisation


def test_temperature_starts_at_the_inverse_root_of_the_head_width():
    for model in (L2ViT(**L2VIT.kwargs), L2ViT(**L2VIT.kwargs)):
        model.init_weights()
        attentions = [m for m in model.modules() if isinstance(m, LinearAttention)]
        assert [a.temperature.flatten().tolist() for a in attentions] == [
            pytest.approx([8**-0.5]),
            pytest.approx([12**-0.5] * 2),
        ]
        assert all(a.temperature.shape == (a.num_heads, 1, 1) for a in attentions)


def test_every_convolution_and_linear_layer_starts_truncated_normal():
    arch = dict(embed_dims=(32, 32, 64, 64), depths=(2, 2, 2, 2), num_heads=(2, 2, 4, 4))
    model = L2ViT(arch)
    model.init_weights()
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    # stem 2, downsampling 3, local blocks 2 + 4 and global blocks 3 + 4 in each of four stages
    assert len(layers) == 2 + 3 + 4 * (6 + 7)
    for name, layer in layers.items():
        spread = 5 * 0.02 / (2 * layer.weight.numel()) ** 0.5  # five standard errors
        assert layer.weight.std().item() == pytest.approx(0.02, abs=spread), name
        assert abs(layer.weight.mean().item()) < 5 * 0.02 / layer.weight.numel() ** 0.5, name
        assert not layer.bias.any(), name
    for name, norm in model.named_modules():
        if isinstance(norm, nn.LayerNorm | nn.BatchNorm2d):
            assert torch.all(norm.weight == 1), name
            assert not norm.bias.any(), name
            assert norm.eps == 1e-5, name


def test_pretrained_weights_are_loaded_and_the_rest_is_initialised(tmp_path):
    source = L2VIT.build()
    saved = {f'backbone.{name}': value for name, value in source.state_dict().items()}
    missing = saved.pop('backbone.stages.2.1.attn.qkv.weight')
    torch.save(dict(state_dict=saved), tmp_path / 'classifier.pth')
    pretrained = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'classifier.pth'), prefix='backbone.'
    )
    for init_cfg in (pretrained, [pretrained]):
        model = L2ViT(**L2VIT.kwargs, init_cfg=init_cfg)
        model.init_weights()
        state = model.state_dict()
        lost = state.pop('stages.2.1.attn.qkv.weight')
        for name, value in state.items():
            assert torch.equal(value, saved[f'backbone.{name}']), name
        assert lost.shape == missing.shape
        assert lost.std().item() == pytest.approx(0.02, rel=0.1)


# BatchNorm


@pytest.mark.parametrize('with_cp', [False, True], ids=['plain', 'with_cp'])
def test_training_counts_each_batch_once_in_the_running_statistics(with_cp):
    model = L2VIT.build(with_cp=with_cp).double()
    model.train()
    norms = batch_norms(model)
    expected = {
        name: (norm.running_mean.clone(), norm.running_var.clone()) for name, norm in norms.items()
    }
    assert len(expected) == 2 + 2  # stem, and one for each global block
    seen = {}
    for name, norm in norms.items():
        norm.register_forward_pre_hook(
            lambda norm, args, name=name: seen.setdefault(name, args[0].detach())
        )
    for step in (1, 2):
        seen.clear()
        model(L2VIT.images(32 * step, 64).double())[0].square().sum().backward()
        for name, norm in norms.items():
            x = seen[name].transpose(0, 1).flatten(1)
            mean, var = expected[name]
            expected[name] = (0.9 * mean + 0.1 * x.mean(1), 0.9 * var + 0.1 * x.var(1))
            torch.testing.assert_close((norm.running_mean, norm.running_var), expected[name])
            assert norm.num_batches_tracked == step, name


@pytest.mark.parametrize(('training', 'depends'), [(True, False), (False, True)])
@pytest.mark.parametrize('with_cp', [False, True], ids=['plain', 'with_cp'])
def test_running_statistics_are_used_in_evaluation_alone(training, depends, with_cp):
    model = L2VIT.build(with_cp=with_cp)
    for name, norm in batch_norms(model).items():
        outs = []
        for offset in (0.0, 3.0):
            model.train(training)
            norm.running_mean.fill_(offset)
            outs.append(model(L2VIT.images(64, 64))[0])
        assert torch.equal(*outs) is not depends, name


def test_evaluation_leaves_the_buffers_alone():
    model = L2VIT.build()
    model.eval()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(L2VIT.images())
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
