"""tools/convert_checkpoint.py yolos makes mmdetection's detectors of the original's checkpoints."""

import argparse
import re

import pytest
import torch
from config_reading import load
from goldens import draw_weight, load_golden, relative_error
from test_models.test_detectors.test_yolos import build_detector, predict

from mmvitlin.engine.cost import build_on_meta
from mmvitlin.models import YOLOSViT

SYSTEM = 'yolos'
GOLDEN = load_golden('yolos_mid')
ARGS = argparse.Namespace(init_pe_size=[64, 96], mid_pe_size=[48, 80], device='cuda')
CONTENT = dict(model=GOLDEN.weights, epoch=3, args=ARGS)
SIZES = ('--img-size', 64, 96, '--mid-img-size', 48, 80)


@pytest.mark.parametrize(
    ('content', 'options'),
    [(CONTENT, ()), (dict(model=GOLDEN.weights), SIZES), (GOLDEN.weights, SIZES)],
)
def test_a_converted_checkpoint_gives_the_originals_logits(content, options, convert, capsys):
    converted = convert(content, *options)
    meta = converted['meta']
    assert (meta['img_size'], meta['mid_img_size']) == ((64, 96), (48, 80))
    model = build_detector(GOLDEN)
    for parameter in model.parameters():
        parameter.data.zero_()
    model.load_state_dict(converted['state_dict'], strict=True)
    with torch.no_grad():
        logits, boxes = predict(model, GOLDEN.images)
    assert relative_error(logits, GOLDEN.outputs['pred_logits']) < 1e-5
    assert relative_error(boxes, GOLDEN.outputs['pred_boxes']) < 1e-5
    assert f'{len(GOLDEN.weights)} tensors of yolos, arch' in capsys.readouterr().out


def test_a_checkpoint_of_ours_stays_as_it_is(convert):
    once = convert(CONTENT)
    twice = convert(once, *SIZES, dst='again.pth')
    assert once['state_dict'].keys() == twice['state_dict'].keys()


def test_cocos_ids_become_its_classes_in_order(convert):
    """Rows 0, 12, 26, ... are of no category; 'no object' stays the last."""
    rows = torch.arange(92.0)
    head = {
        'class_embed.layers.2.weight': rows[:, None].expand(-1, 48),
        'class_embed.layers.2.bias': rows,
    }
    converted = convert(dict(CONTENT, model=GOLDEN.weights | head))
    rows = converted['state_dict']['bbox_head.cls_branch.4.bias'].int().tolist()
    assert converted['meta']['num_classes'] == 80
    assert len(rows) == 81 and rows[-1] == 91
    assert rows[:13] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14] and rows[79] == 90
    weight = converted['state_dict']['bbox_head.cls_branch.4.weight']
    assert weight[:, 0].int().tolist() == rows


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (dict(model=GOLDEN.weights), r'pos_embed is of 24 patches, .*--img-size H W'),
        (
            dict(CONTENT, args=argparse.Namespace(init_pe_size=[64, 96])),
            r'mid_pos_embed is of 15 patches, .*--mid-img-size H W',
        ),
        (
            dict(CONTENT, args=argparse.Namespace(init_pe_size=[64, 80])),
            r'--img-size 64 80 is 4 x 5 patches of 16 pixels, and pos_embed is of 24',
        ),
        (
            dict(CONTENT, model=GOLDEN.weights | {'neck.weight': torch.zeros(1)}),
            r'1 of \d+ names are not those of the original YOLOS, such as neck\.weight',
        ),
        (
            dict(CONTENT, model=GOLDEN.weights | {'bbox_embed.layers.2.bias': torch.zeros(5)}),
            r'is not a checkpoint of yolos: .*1 mismatched, such as bbox_head\.reg_branch\.4\.bias',
        ),
    ],
)
def test_what_is_no_checkpoint_of_the_original_is_refused(content, message, refuses_in_one_line):
    assert refuses_in_one_line(content, message)


@pytest.mark.parametrize(
    ('system', 'option'),
    [
        ('yolos', ('--arch', 'tiny')),
        ('yolos', ('--class-index', 'rows.txt')),
        ('deit', ('--img-size', 64, 64)),
    ],
)
def test_options_of_other_systems_are_refused(system, option, convert, capsys):
    with pytest.raises(SystemExit):
        convert(CONTENT, *option, system=system)
    assert re.search(f'{system} (takes|has) no', capsys.readouterr().err)


@pytest.mark.parametrize(
    ('size', 'images'),
    [
        ('tiny_8xb2-300e', dict(init_pe_size=(800, 1333))),
        ('small_8xb1-150e', dict(init_pe_size=(512, 864), mid_pe_size=(512, 864))),
        ('base_8xb1-150e', dict(init_pe_size=(800, 1344), mid_pe_size=(800, 1344))),
    ],
)
def test_checkpoints_fit_the_detectors_of_the_configs(size, images, convert):
    cfg = load(f'configs/yolos/yolos-{size}_coco.py')
    model = build_on_meta(cfg)
    weights = {name: torch.zeros(()).expand(v.shape) for name, v in model.state_dict().items()}
    meta = convert(dict(model=weights, args=argparse.Namespace(**images)))['meta']
    assert meta['num_classes'] == 80
    assert meta['img_size'] == tuple(cfg.model.backbone.img_size)


@pytest.mark.parametrize('num_prefix_tokens', [1, 2])
def test_the_detector_starts_from_a_converted_classifier(num_prefix_tokens, convert, tmp_path):
    """With a distillation token, the class token takes its position."""
    golden = load_golden('deit_toe')
    weights = dict(golden.weights)
    if num_prefix_tokens == 2:
        weights |= {
            'dist_token': draw_weight('dist_token', (1, 1, 48), 1),
            'pos_embed': draw_weight('pos_embed', (1, 38, 48), 1),
            'head_dist.weight': draw_weight('head_dist.weight', (10, 48), 1),
            'head_dist.bias': draw_weight('head_dist.bias', (10,), 1),
        }
    convert(weights, system='deit', dst='classifier.pth')
    model = YOLOSViT(
        dict(
            type='mmpretrain.VisionTransformer',
            arch=dict(embed_dims=48, num_layers=4, num_heads=3, feedforward_channels=192),
            patch_size=16,
        ),
        img_size=(64, 128),
        num_det_tokens=7,
        init_cfg=dict(
            type='Pretrained', checkpoint=str(tmp_path / 'classifier.pth'), prefix='backbone.'
        ),
    )
    found = model.pos_embed[:, -7:].clone()
    model.init_weights()
    assert torch.equal(model.cls_token, weights['cls_token'].float())
    assert torch.equal(model.layers[3].ffn.layers[1].bias, weights['blocks.3.mlp.fc2.bias'].float())
    assert torch.equal(model.ln1.weight, weights['norm.weight'].float())
    position = weights['pos_embed'][:, num_prefix_tokens - 1].float()
    assert torch.equal(model.pos_embed[:, 0], position)
    assert torch.equal(model.pos_embed[:, -7:], found)
