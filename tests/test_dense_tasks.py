"""Every backbone detects and segments, with every head, in batches of images of mixed sizes.

To add a backbone, add a row to `BACKBONES`.
"""

from math import ceil

import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from tiny_run import ROOT
from torch.nn import functional as F

pytestmark = pytest.mark.slow

WIDTHS = (8, 16, 24, 32)
PATCH, WIDTH = 16, 16
TINY_VIT = dict(embed_dims=WIDTH, num_layers=4, num_heads=2, feedforward_channels=16)
PLAIN = dict(arch=TINY_VIT, img_size=64, patch_size=PATCH, out_type='featmap')
LLAMA = dict(embed_dims=16, num_heads=2, feedforward_channels=16, checkpoint='random')
BACKBONES = {
    'L2ViT': dict(
        type='mmvitlin.L2ViT',
        arch=dict(embed_dims=WIDTHS, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4)),
    ),
    'LION-D': dict(type='mmvitlin.LION', mask_type='Decay', order='S', pos_emb=True, **PLAIN),
    'LION-S': dict(
        type='mmvitlin.LION', mask_type='Selective', order='S', with_cls_token=False, **PLAIN
    ),
    'ViTLLaMA': dict(type='mmvitlin.ViTLLaMA', llama=LLAMA, **PLAIN),
    'LVViT': dict(
        type='mmvitlin.LVViT', **PLAIN | dict(arch=TINY_VIT | dict(skip_lam=2.0, stem_channels=8))
    ),
    'DeiT': dict(type='mmpretrain.VisionTransformer', **PLAIN),
}
SIZES = ((100, 151), (257, 383))
CHANNELS = 8  # of the necks and of the heads
BASES = {
    'Mask R-CNN': 'configs/_base_/models/mask-rcnn.py',
    'RetinaNet': 'configs/_base_/models/retinanet_l2vit_fpn.py',
    'UPerNet': 'configs/_base_/models/upernet.py',
    'FCN': 'configs/_base_/models/upernet.py',
    'YOLOS': 'configs/_base_/models/yolos.py',
}
SCOPES = {
    'Mask R-CNN': 'mmdet',
    'RetinaNet': 'mmdet',
    'UPerNet': 'mmseg',
    'FCN': 'mmseg',
    'YOLOS': 'mmdet',
}
WITH_DETECTION_TOKENS = ('DeiT', 'LVViT')  # those whose layers go by no place among the patches
# What makes the heads of our base files small.
NARROW = {
    'Mask R-CNN': {
        'rpn_head.in_channels': CHANNELS,
        'rpn_head.feat_channels': CHANNELS,
        'roi_head.bbox_roi_extractor.out_channels': CHANNELS,
        'roi_head.bbox_head.in_channels': CHANNELS,
        'roi_head.bbox_head.fc_out_channels': 16,
        'roi_head.mask_roi_extractor.out_channels': CHANNELS,
        'roi_head.mask_head.in_channels': CHANNELS,
        'roi_head.mask_head.conv_out_channels': CHANNELS,
        'train_cfg.rpn_proposal.max_per_img': 20,
        'test_cfg.rpn.max_per_img': 20,
        'test_cfg.rcnn.score_thr': 0.0,
        'test_cfg.rcnn.max_per_img': 5,
    },
    'RetinaNet': {
        'bbox_head.in_channels': CHANNELS,
        'bbox_head.feat_channels': CHANNELS,
        'bbox_head.stacked_convs': 1,
        'test_cfg.nms_pre': 50,
        'test_cfg.score_thr': 0.0,
        'test_cfg.max_per_img': 5,
    },
    'UPerNet': {
        'data_preprocessor.test_cfg': dict(size_divisor=PATCH),
        'decode_head.in_channels': [CHANNELS] * 4,
        'decode_head.channels': CHANNELS,
        'decode_head.norm_cfg': dict(type='BN'),
        'auxiliary_head': None,
    },
    'FCN': {
        'data_preprocessor.test_cfg': dict(size_divisor=PATCH),
        'decode_head': dict(
            _delete_=True,
            type='FCNHead',
            in_index=-1,
            channels=CHANNELS,
            num_convs=1,
            num_classes=150,
            norm_cfg=dict(type='BN'),
            align_corners=False,
            loss_decode=dict(type='CrossEntropyLoss'),
        ),
        'auxiliary_head': None,
    },
    'YOLOS': {
        'backbone.img_size': 64,
        'backbone.mid_img_size': 64,
        'backbone.num_det_tokens': 5,
        'bbox_head.embed_dims': WIDTH,
    },
}


def backbone_of(name, task):
    """Settings of a backbone: the outputs that a task reads."""
    cfg = dict(BACKBONES[name])
    if name == 'L2ViT' and task != 'FCN':
        cfg['out_indices'] = (1, 2, 3) if task == 'RetinaNet' else (0, 1, 2, 3)
    elif name != 'L2ViT' and task == 'UPerNet':
        cfg['out_indices'] = (0, 1, 2, 3)
    return cfg


def neck_of(name, task):
    """An FPN for a hierarchy of maps, the pyramid for plain ones; heads of FCN take them as is."""
    scales = (2, 1, 0.5) if task == 'RetinaNet' else (4, 2, 1, 0.5)
    num_outs = 4 if task == 'UPerNet' else 5
    if task == 'FCN':
        return None
    if name == 'L2ViT':
        in_channels = list(WIDTHS[-len(scales) :])
        type_ = 'mmdet.FPN' if SCOPES[task] == 'mmdet' else 'mmseg.FPN'
        return dict(type=type_, in_channels=in_channels, out_channels=CHANNELS, num_outs=num_outs)
    return dict(
        type='mmvitlin.SimpleFeaturePyramid',
        in_channels=WIDTH,
        out_channels=CHANNELS,
        scale_factors=scales,
        num_outs=num_outs,
    )


def build(name, task, **options):
    cfg = Config.fromfile(ROOT / BASES[task])
    if task == 'YOLOS':
        cfg.model.backbone.vit = ConfigDict(backbone_of(name, task))
    else:
        cfg.model.backbone = ConfigDict(backbone_of(name, task))
        cfg.model.neck = neck_of(name, task)
    settings = NARROW[task] | options
    cfg.merge_from_dict({f'model.{key}': value for key, value in settings.items()})
    if task == 'FCN':
        cfg.model.decode_head.in_channels = WIDTHS[-1] if name == 'L2ViT' else WIDTH
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(SCOPES[task]):
        model = MODELS.build(cfg.model)
        model.init_weights()
    return model


def batch(task, sizes=SIZES):
    """Images of the given sizes with something in each, as a host's data loader hands them on."""
    if SCOPES[task] == 'mmdet':
        shapes = [(3, *size) for size in sizes]
        data = demo_mm_inputs(
            len(sizes), image_shapes=shapes, num_items=[3] * len(sizes), with_mask=True
        )
        for sample, size in zip(data['data_samples'], sizes):
            sample.set_metainfo(dict(ori_shape=size, scale_factor=(1.0, 1.0)))
        return data
    generator = torch.Generator().manual_seed(0)
    images, samples = [], []
    for height, width in sizes:
        images.append(torch.randint(0, 256, (3, height, width), generator=generator).byte())
        labels = torch.randint(0, 150, (1, height, width), generator=generator)
        sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
        sample.set_metainfo(dict(ori_shape=(height, width), img_shape=(height, width)))
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


over_backbones = pytest.mark.parametrize('name', BACKBONES)
over_backbones_and_tasks = pytest.mark.parametrize(
    ('name', 'task'),
    [
        (name, task)
        for name in BACKBONES
        for task in BASES
        if task != 'YOLOS' or name in WITH_DETECTION_TOKENS
    ],
)


@over_backbones
@pytest.mark.parametrize('size', SIZES)
def test_maps_cover_every_pixel_of_an_image_of_any_size(name, size):
    model = MODELS.build(backbone_of(name, 'UPerNet'))
    strides = (4, 8, 16, 32) if name == 'L2ViT' else (PATCH,) * 4
    with torch.no_grad():
        outs = model(torch.randn(1, 3, *size))
    expected = [tuple(ceil(side / stride) for side in size) for stride in strides]
    assert [tuple(out.shape[2:]) for out in outs] == expected
    assert all(out.isfinite().all() for out in outs)


@over_backbones_and_tasks
def test_a_batch_of_mixed_sizes_trains_every_parameter(name, task):
    # mmsegmentation pads training images to one size, given in the config.
    size = dict(size=SIZES[1]) if SCOPES[task] == 'mmseg' else {}
    options = {f'data_preprocessor.{key}': value for key, value in size.items()}
    model = build(name, task, **options)
    model.train()
    data = model.data_preprocessor(batch(task), training=True)
    losses = model.loss(data['inputs'], data['data_samples'])
    parsed, _ = model.parse_losses(losses)
    assert parsed.isfinite()
    parsed.backward()
    for part in ('backbone', 'neck'):
        for parameter, value in getattr(model, part, torch.nn.Identity()).named_parameters():
            if 'cls_token' in parameter or not value.requires_grad:
                continue  # what is read of the class token ends in the last attention
            assert value.grad is not None, f'{part}.{parameter}'
            assert value.grad.isfinite().all(), f'{part}.{parameter}'


@over_backbones_and_tasks
def test_a_batch_of_mixed_sizes_is_predicted_at_the_sizes_of_its_images(name, task):
    model = build(name, task)
    model.eval()
    if SCOPES[task] == 'mmdet':
        data = model.data_preprocessor(batch(task), training=False)
        with torch.no_grad():
            found = model.predict(data['inputs'], data['data_samples'], rescale=False)
        for sample, (height, width) in zip(found, SIZES, strict=True):
            boxes = sample.pred_instances.bboxes
            assert len(boxes)
            assert (boxes >= 0).all()
            assert (boxes <= boxes.new_tensor([width, height] * 2)).all()
            if task == 'Mask R-CNN':
                assert sample.pred_instances.masks.shape == (len(boxes), height, width)
        return
    for size in SIZES:  # mmsegmentation tests images of one size at a time
        data = model.data_preprocessor(batch(task, [size]), training=False)
        with torch.no_grad():
            (sample,) = model.predict(data['inputs'], data['data_samples'])
        assert sample.pred_sem_seg.data.shape == (1, *size)
        assert sample.seg_logits.data.isfinite().all()


@pytest.mark.parametrize('name', [name for name in BACKBONES if name != 'L2ViT'])
def test_what_is_padded_to_whole_patches_is_cropped_from_the_prediction(name):
    """Logits are those of the padded image, cropped, and not resized to another scale."""
    height, width = 50, 75
    padding = (0, -width % PATCH, 0, -height % PATCH)
    model = build(name, 'UPerNet')
    model.eval()
    data = model.data_preprocessor(batch('UPerNet', [(height, width)]), training=False)
    (image,) = data['inputs']
    assert image.shape[1:] == (height + padding[3], width + padding[1])
    with torch.no_grad():
        (sample,) = model.predict(data['inputs'], data['data_samples'])
        (logits,) = model.decode_head(model.extract_feat(data['inputs']))
        logits = F.interpolate(logits[None], image.shape[1:], mode='bilinear')
    cropped = logits[0, :, :height, :width]
    torch.testing.assert_close(sample.seg_logits.data, cropped)
