"""Features that all plain vision transformers share, tested on LION."""

import pytest
import torch
from test_models.test_backbones.cases import LION, LVVIT, TINY_VIT, VIT_LLAMA

from mmvitlin.checkpoints import pretrained


def test_every_out_type_reads_the_same_tokens():
    outs = {}
    for out_type in ('raw', 'cls_token', 'avg_tokens', 'featmap'):
        model = LION.build(out_type=out_type).double()
        model.eval()
        with torch.no_grad():
            (outs[out_type],) = model(LION.images(33, 47).double())
    raw = outs['raw']  # 5 x 6 patches of 8 x 8 pixels, and the class token first
    assert raw.shape == (2, 31, 24)
    assert torch.equal(outs['cls_token'], raw[:, 0])
    torch.testing.assert_close(outs['avg_tokens'], raw.mean(1))
    torch.testing.assert_close(outs['featmap'].flatten(2).transpose(1, 2), raw[:, 1:])


def test_maps_are_contiguous_since_roi_align_reads_no_other_layout():
    assert all(out.is_contiguous() for out in LION.build(out_indices=(0, 2))(LION.images(64, 96)))


def test_zeros_to_the_right_and_below_are_the_padding():
    model = LION.build().double()
    model.eval()
    images = LION.images(33, 47).double()
    padded = torch.zeros(2, 3, 40, 48, dtype=torch.double)
    padded[:, :, :33, :47] = images
    with torch.no_grad():
        torch.testing.assert_close(model(images), model(padded), rtol=0, atol=1e-12)


def test_each_output_goes_through_a_norm_of_its_own():
    model = LION.build(out_indices=(0, 2), out_type='raw')
    model.eval()
    with torch.no_grad():
        before = model(LION.images())
        model.norm0.bias.add_(1)
        after = model(LION.images())
    torch.testing.assert_close(after[0], before[0] + 1)
    torch.testing.assert_close(after[1], before[1], rtol=0, atol=0)
    assert model.norm0.eps == 1e-6


def test_layers_after_the_last_output_are_not_built_and_drop_path_counts_all():
    model = LION.build(arch=TINY_VIT | dict(num_layers=5), out_indices=2, drop_path_rate=0.4)
    assert len(model.layers) == 3
    rates = [layer.drop_path.drop_prob for layer in model.layers]
    assert rates == pytest.approx([0, 0.1, 0.2])


def test_positions_are_those_of_img_size_and_resized_to_the_image():
    model = LION.build(img_size=(24, 33))
    assert model.pos_embed.grid == (3, 5)
    model.eval()
    with torch.no_grad():
        before = model(LION.images(64, 40))[0]
        model.pos_embed.weight[:, 1:] += torch.arange(24.0) - 11.5
        after = model(LION.images(64, 40))[0]
    assert before.shape == after.shape == (2, 24, 8, 5)
    assert not torch.allclose(before, after)


def test_pretrained_positions_of_another_size_are_resized_and_reported(tmp_path, monkeypatch):
    source = LION.build(img_size=16)
    weights = {f'backbone.{name}': value for name, value in source.state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'classifier.pth')
    init_cfg = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'classifier.pth'), prefix='backbone.'
    )
    log = []
    monkeypatch.setattr(pretrained, 'print_log', lambda message, *_: log.append(message))
    for img_size in (40, 16):
        model = LION.backbone(**LION.kwargs | dict(img_size=img_size, init_cfg=init_cfg))
        model.init_weights()
        torch.testing.assert_close(model.pos_embed.weight, source.pos_embed(model.pos_embed.grid))
    assert log[0].endswith('\n  resized: pos_embed.weight (1, 5, 24) to (1, 26, 24)')
    assert 'resized' not in log[1]


def test_every_linear_layer_starts_truncated_normal():
    model = LION.backbone(
        arch=dict(embed_dims=64, num_layers=2, num_heads=2, feedforward_channels=128),
        patch_size=8,
        pos_emb=True,
    )
    model.init_weights()
    linears = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert len(linears) == 2 * 4
    for name, layer in linears.items():
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1), name
        assert not layer.bias.any(), name
    assert 0.01 < model.cls_token.std() < 0.03
    assert model.pos_embed.weight.std().item() == pytest.approx(0.02, rel=0.1)


# Without a class token

PLAIN = pytest.mark.parametrize('case', [LION, VIT_LLAMA, LVVIT], ids=lambda case: case.name)


@PLAIN
def test_without_a_class_token_patches_are_all_there_is(case):
    outs = {}
    for out_type in ('raw', 'avg_tokens', 'featmap'):
        model = case.build(out_type=out_type, with_cls_token=False).double()
        model.eval()
        with torch.no_grad():
            (outs[out_type],) = model(case.images(33, 47).double())
    assert outs['raw'].shape == (2, 30, 24)
    torch.testing.assert_close(outs['avg_tokens'], outs['raw'].mean(1))
    torch.testing.assert_close(outs['featmap'].flatten(2).transpose(1, 2), outs['raw'])
    assert 'cls_token' not in model.state_dict()


@PLAIN
def test_without_a_class_token_every_parameter_gets_gradient(case):
    model = case.build(out_type='raw', with_cls_token=False, frozen_stages=-1)
    (out,) = model(case.images())
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad or parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize('mask_type', ['Lit', 'Decay', 'Selective'])
def test_without_a_class_token_all_formats_agree(mask_type):
    model = LION.build(mask_type=mask_type, with_cls_token=False).double()
    images = LION.images(33, 47).double()
    with torch.no_grad():
        model.eval()
        model.switch_format('Attention')
        (expected,) = model(images)
        for format in ('RNN', 'Chunk'):
            model.switch_format(format)
            torch.testing.assert_close(model(images)[0], expected, rtol=1e-9, atol=1e-9)


@PLAIN
def test_a_classifiers_checkpoint_loads_without_its_class_token(case, tmp_path, monkeypatch):
    source = case.build(out_type='raw')
    torch.save(source.state_dict(), tmp_path / 'backbone.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth'))
    log = []
    monkeypatch.setattr(pretrained, 'print_log', lambda message, *_: log.append(message))
    model = case.build(with_cls_token=False, img_size=48, init_cfg=init_cfg)
    model.init_weights()
    (report,) = log
    assert '(100%)' in report
    assert f'resized: pos_embed.weight {tuple(source.pos_embed.weight.shape)} to (1, 36, ' in report
    assert report.endswith('unexpected: cls_token')
    weights, expected = model.state_dict(), source.state_dict()
    for name, value in weights.items():
        if name == 'pos_embed.weight':  # 4 x 4 positions resized to 6 x 6
            assert torch.equal(value, source.pos_embed((6, 6))[:, 1:])
        else:
            assert torch.equal(value, expected[name]), name
