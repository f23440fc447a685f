"""Any config of configs/ at reduced size, and a batch to train it on."""

import torch
from config_reading import load
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

SIDE = 64  # pixels of an image
WIDTH = 16  # of each head of a plain transformer, and of a stage that was the narrowest
TINY_LLAMA = dict(embed_dims=32, num_heads=2, feedforward_channels=64, checkpoint='random')
TINY_TEACHER = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, base_channels=4, stem_channels=4),
    neck=dict(type='GlobalAveragePooling'),
)
TWO_VIEWS, MASKED = ('MoCoV3', 'SimCLR', 'BYOL'), ('MAE', 'SimMIM')
HEADS = ('head', 'decode_head', 'auxiliary_head')


def reduce(path: str, folder) -> Config:
    """Return a config with a narrow, shallow backbone for small images.

    A checkpoint that it needs is written to `folder`.
    """
    cfg = load(path)
    model = cfg.model
    widths = _reduce_backbone(model.backbone)
    neck = model.get('neck') or {}
    if model.backbone.type == 'mmvitlin.YOLOSViT':
        model.bbox_head.embed_dims = widths[model.bbox_head.embed_dims]
    parts = [neck] if 'in_channels' in neck else []
    if 'embed_dim' in neck:
        neck.embed_dim = widths[neck.embed_dim]
    if not parts or neck.type == 'mmvitlin.SideLayers':
        parts += [model[name] for name in HEADS if 'in_channels' in model.get(name, {})]
    for part in parts:
        part.in_channels = _narrowed(part.in_channels, widths)
    _reduce_heads(model)
    _reduce_pre_training(model)
    if 'teacher' in model:
        classes = model.head.num_classes
        head = dict(type='LinearClsHead', num_classes=classes, in_channels=32)
        teacher = dict(TINY_TEACHER, head=head)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            torch.save(dict(state_dict=MODELS.build(teacher).state_dict()), folder / 'teacher.pth')
        model.teacher = dict(model=teacher, checkpoint=str(folder / 'teacher.pth'))
    preprocessor = model.get('data_preprocessor') or cfg.get('data_preprocessor')
    if 'size' in preprocessor:  # of crops
        preprocessor.size = (SIDE, SIDE)
    model.data_preprocessor = preprocessor
    for hook in cfg.get('custom_hooks') or []:
        if 'input_size' in hook:
            hook.input_size = (48, 48, 48, 56, SIDE)
    return cfg


def _reduce_heads(model) -> None:
    """Make the heads of detectors and segmentors narrow, with few proposals."""
    if 'roi_head' in model:
        model.roi_head.bbox_head.fc_out_channels = WIDTH
        model.roi_head.mask_head.num_convs = 1
        model.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=20)
        model.train_cfg.rcnn.sampler.num = 8
    if 'stacked_convs' in model.get('bbox_head', {}):
        model.bbox_head.stacked_convs = 1
    for name in ('decode_head', 'auxiliary_head'):
        if name in model:
            model[name].channels = WIDTH


def _reduce_pre_training(model) -> None:
    """Make decoders and MLPs of self-supervised models narrow."""
    neck = model.get('neck') or {}
    if neck.get('type') == 'MAEPretrainDecoder':
        side = SIDE // model.backbone.get('patch_size', 16)
        neck.update(num_patches=side**2, decoder_embed_dim=32, decoder_depth=1)
        neck.decoder_num_heads = 2
    for mlp in (neck, model.get('head', {}).get('predictor', {})):
        if 'hid_channels' in mlp:
            mlp.hid_channels = WIDTH


def _narrowed(width, widths: dict):
    return (
        [widths.get(w, w) for w in width] if isinstance(width, list) else widths.get(width, width)
    )


def _reduce_backbone(backbone) -> dict:
    """Reduce a backbone's settings; return its new widths by the old ones."""
    if 'init_cfg' in backbone:
        backbone.init_cfg = None  # reads no checkpoint
    if 'img_size' in backbone:
        backbone.img_size = SIDE
    if backbone.get('mid_img_size'):
        backbone.mid_img_size = SIDE
    if 'vit' in backbone:
        return _reduce_backbone(backbone.vit)
    if 'llama' in backbone:
        backbone.llama = TINY_LLAMA
    if backbone.type == 'ResNet':
        backbone.update(base_channels=8, stem_channels=8)
        return {2048: 256}
    with MODELS.switch_scope_and_registry('mmpretrain') as registry:
        cls = registry.get(backbone.type)
    arch = backbone.get('arch', 'tiny')
    zoo = getattr(cls, 'arch_zoo', None) or cls.arch_settings
    arch = dict(zoo[arch] if isinstance(arch, str) else arch)
    if 'num_layers' in arch:
        old, heads = arch['embed_dims'], arch['num_heads']
        indices = backbone.get('out_indices')
        count = max(2, len(indices) if indices else 0)
        if indices:
            backbone.out_indices = tuple(range(count))
        new = dict(embed_dims=WIDTH * heads, num_layers=count, feedforward_channels=WIDTH)
        backbone.arch = dict(arch, **new)
        return {old: WIDTH * heads}
    if 'channels' in arch:  # ConvNeXt
        old, new = arch['channels'], [8, 16, 24, 32]
        backbone.arch = dict(depths=[1] * 4, channels=new)
    elif isinstance(arch['embed_dims'], int):  # Swin doubles its width
        old = [arch['embed_dims'] * 2**i for i in range(4)]
        new = [16 * 2**i for i in range(4)]
        backbone.arch = dict(embed_dims=16, depths=[2, 1, 1, 1], num_heads=[1, 2, 4, 8])
    else:  # L2ViT; a stage has a local and a global block
        old, new = arch['embed_dims'], (8, 16, 24, 32)
        backbone.arch = dict(embed_dims=new, depths=(2, 1, 2, 1), num_heads=(1, 2, 3, 4))
    return dict(zip(old, new))


def fake_batch(cfg: Config) -> dict:
    """Two images with the labels of a config's task, as its data loader would give them."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape, top=256):
        return torch.randint(0, top, shape, generator=generator)

    model = cfg.model.type
    if model in TWO_VIEWS or model in MASKED:
        images = draw(2, 3, SIDE, SIDE).byte()
        views = [images, draw(2, 3, SIDE, SIDE).byte()]
        masks = draw(2, SIDE // 4, SIDE // 4, top=2)
        samples = [DataSample(mask=mask) for mask in masks]
        return dict(inputs=views if model in TWO_VIEWS else images, data_samples=samples)
    makers = {'mmpretrain': _label, 'mmdet': _boxes, 'mmseg': _map, 'mmpose': _heatmaps}
    make = makers[cfg.default_scope]
    images = [draw(3, SIDE, SIDE).byte() for _ in range(2)]
    return dict(inputs=images, data_samples=[make(cfg, draw) for _ in range(2)])


def _label(cfg, draw):
    sample = DataSample().set_gt_label(draw(1, top=cfg.model.head.num_classes))
    if cfg.model.head.type == 'mmvitlin.TokenLabelHead':
        classes = draw(5, 6, 6, top=cfg.model.head.num_classes).float()
        sample.set_field(torch.stack([torch.ones(5, 6, 6), classes]), 'token_label_map')
        sample.set_field(torch.tensor([0.0, 0.0, 1.0, 1.0]), 'token_label_box')
    return sample


def _boxes(cfg, draw):
    masks = torch.zeros(1, SIDE, SIDE, dtype=torch.uint8)
    masks[:, 10:50, 8:40] = 1
    instances = InstanceData(
        bboxes=torch.tensor([[8.0, 10.0, 40.0, 50.0]]),
        labels=draw(1, top=10),
        masks=BitmapMasks(masks.numpy(), SIDE, SIDE),
    )
    shape = dict.fromkeys(
        ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), (SIDE, SIDE)
    )
    return DetDataSample(metainfo=shape | dict(scale_factor=(1, 1)), gt_instances=instances)


def _heatmaps(cfg, draw):
    from mmpose.structures import PoseDataSample

    count, side = cfg.model.head.out_channels, cfg.model.head.decoder.heatmap_size[0]
    weights = InstanceData(keypoint_weights=torch.ones(1, count))
    heatmaps = PixelData(heatmaps=draw(count, side, side) / 255)
    return PoseDataSample(gt_fields=heatmaps, gt_instance_labels=weights)


def _map(cfg, draw):
    labels = draw(1, SIDE, SIDE, top=cfg.model.decode_head.num_classes)
    shape = dict(img_shape=(SIDE, SIDE), ori_shape=(SIDE, SIDE))
    return SegDataSample(metainfo=shape, gt_sem_seg=PixelData(data=labels))
