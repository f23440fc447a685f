"""YOLOS: the original's outputs, and features of the detector."""

import pytest
import torch
from goldens import (
    draw_weight,
    load_golden,
    load_meta,
    load_outputs,
    relative_error,
    standard_normal,
)
from mmdet.models.utils import unpack_gt_instances
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData

from mmvitlin.checkpoints.converters.yolos import convert_yolos, read_yolos_arch
from mmvitlin.curricula import TokenExpansionHook
from mmvitlin.models.backbones.yolos import YOLOSViT, classifier_positions
from mmvitlin.models.detectors.yolos_head import YOLOSHead

CASES = ('yolos_plain', 'yolos_mid', 'yolos_toe')
TOLERANCE = 1e-5
WEIGHTS = dict(loss_cls=1, loss_bbox=5, loss_iou=2)  # of the losses, which goldens leave out
THEIRS = dict(loss_cls='loss_ce', loss_bbox='loss_bbox', loss_iou='loss_giou')


def build_detector(golden):
    """The detector of a golden case, with its weights, float64, in evaluation mode."""
    weights, settings = convert_yolos(golden.weights), golden.kwargs
    arch = read_yolos_arch(weights) | dict(num_heads=settings['num_heads'])  # which leave no trace
    backbone = dict(
        type='mmvitlin.YOLOSViT',
        vit=dict(type='mmpretrain.VisionTransformer', arch=arch, patch_size=settings['patch_size']),
        img_size=settings['init_pe_size'],
        mid_img_size=settings['mid_pe_size'],
        num_det_tokens=settings['det_token_num'],
    )
    head = dict(num_classes=settings['num_classes'], embed_dims=settings['embed_dim'])
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(
            dict(
                type='SingleStageDetector',
                backbone=backbone,
                bbox_head=dict(type='mmvitlin.YOLOSHead', **head),
            )
        ).double()
    model.load_state_dict(weights, strict=True)
    model.eval()
    return model


def inputs_of(golden):
    """Prefix of the outputs' names -> images."""
    more = golden.meta['more_inputs'].items()
    return {'': golden.images} | {f'{k}_': standard_normal(*args) for k, args in more}


def samples_of(targets, images):
    """Targets relative to images, as mmdetection has them."""
    height, width = images.shape[2:]
    samples = []
    for target in targets:
        boxes = torch.tensor(target['boxes'], dtype=torch.float64).reshape(-1, 4)
        boxes = bbox_cxcywh_to_xyxy(boxes) * boxes.new_tensor([width, height] * 2)
        labels = torch.tensor(target['labels'], dtype=torch.long)
        sample = DetDataSample(metainfo=dict(img_shape=(height, width)))
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        samples.append(sample)
    return samples


def predict(model, images):
    (logits,), (boxes,) = model.bbox_head(model.backbone(images))
    return logits, boxes


def check_predictions(model, images, golden, prefix):
    with torch.no_grad():
        logits, boxes = predict(model, images)
    for name, output in (('pred_logits', logits), ('pred_boxes', boxes)):
        assert relative_error(output, golden.outputs[prefix + name]) < TOLERANCE, prefix + name


def check_losses(model, targets, golden, prefix):
    """The losses, their gradients and the matches of the images of a case."""
    images, head = golden.images, model.bbox_head
    samples = samples_of(targets, images)
    model.zero_grad()
    losses = model.loss(images, samples)
    total = sum(losses.values())
    total.backward()
    found = {THEIRS[name]: loss / WEIGHTS[name] for name, loss in losses.items()}
    found['loss'] = total
    norms = [p.grad.norm() for p in model.parameters()]
    found['grad_norm'] = torch.stack(norms).norm()
    for name in ('det_token', 'pos_embed', 'mid_pos_embed'):
        if hasattr(model.backbone, name):
            found[f'grad_{name}_norm'] = getattr(model.backbone, name).grad.norm()
    for name, value in found.items():
        assert relative_error(value.detach(), golden.outputs[prefix + name]) < TOLERANCE, name

    with torch.no_grad():
        logits, boxes = predict(model, images)
    instances, _, metas = unpack_gt_instances(samples)
    pairs = set()
    for image, (gt, meta) in enumerate(zip(instances, metas)):
        height, width = meta['img_shape']
        pixels = bbox_cxcywh_to_xyxy(boxes[image]) * boxes.new_tensor([width, height] * 2)
        predicted = InstanceData(scores=logits[image], bboxes=pixels)
        targets_of = head.assigner.assign(predicted, gt, meta).gt_inds - 1
        pairs |= {(image, t, int(targets_of[t])) for t in targets_of.ge(0).nonzero()[:, 0].tolist()}
    names = (f'{prefix}matched_{name}' for name in ('image', 'token', 'target'))
    assert pairs == set(zip(*(golden.outputs[name].long().tolist() for name in names)))


@pytest.mark.parametrize('name', CASES)
def test_logits_and_boxes_are_the_originals_at_every_size(name):
    golden = load_golden(name)
    model = build_detector(golden)
    for prefix, images in inputs_of(golden).items():
        check_predictions(model, images, golden, prefix)


def test_a_padded_batch_gives_the_originals_numbers():
    golden = load_golden('yolos_plain')
    ((shape, seed),) = golden.meta['padded']
    small = standard_normal(shape, seed)
    images = torch.zeros(2, *golden.images.shape[1:], dtype=torch.float64)
    images[0] = golden.images[0]
    images[1, :, : shape[1], : shape[2]] = small
    check_predictions(build_detector(golden), images, golden, 'padded_')


@pytest.mark.parametrize('name', CASES)
def test_losses_gradients_and_matches_are_the_originals(name):
    golden = load_golden(name)
    check_losses(build_detector(golden), golden.meta['targets'], golden, '')


def test_an_image_without_objects_gives_the_originals_losses():
    golden = load_golden('yolos_plain')
    check_losses(build_detector(golden), golden.meta['empty_targets'], golden, 'empty_')


def test_float32_gives_the_originals_numbers():
    golden = load_golden('yolos_plain')
    model = build_detector(golden).float()
    check_predictions(model, golden.images.float(), golden, '')


# Token expansion


@pytest.mark.parametrize('stage', [1, 2, 3])
@pytest.mark.parametrize('name', ['yolos_mid', 'yolos_toe'])
def test_training_on_part_of_the_patches_gives_the_originals_numbers(name, stage):
    golden = load_golden(name)
    model = build_detector(golden)
    settings = dict(golden.meta['toe'])
    epoch = settings.pop('epochs')[stage - 1]
    hook = TokenExpansionHook(**settings)
    hook.attach(model)
    hook.set_epoch(epoch)
    model.train()
    entered, kept = [], []
    model.backbone.layers[1].register_forward_pre_hook(lambda _, x: entered.append(x[0].shape[1]))
    step = model.backbone.before_layers[1]
    shorten = step.shorten

    def spy(tokens):
        tokens, index = shorten(tokens)
        kept.append(index)
        return tokens, index

    model.backbone.before_layers[1] = type('Spy', (), dict(shorten=staticmethod(spy)))()
    num_det_tokens = golden.kwargs['det_token_num']
    for prefix, images in inputs_of(golden).items():
        prefix = f'{prefix}stage{stage}_'
        check_predictions(model, images, golden, prefix)
        assert entered[-1] == golden.outputs[f'{prefix}num_tokens']
        expected = golden.outputs.get(f'{prefix}index')
        if expected is None:
            assert kept[-1] is None
            continue
        prefix_tokens = torch.arange(1 + num_det_tokens).expand(len(images), -1)
        assert torch.equal(kept[-1][:, : 1 + num_det_tokens], prefix_tokens)
        assert torch.equal(
            kept[-1][:, 1 + num_det_tokens :] - num_det_tokens, expected.long()[:, 1:]
        )
    check_losses(model, golden.meta['targets'], golden, f'stage{stage}_')


def test_evaluation_sees_all_patches():
    golden = load_golden('yolos_toe')
    model = build_detector(golden)
    hook = TokenExpansionHook(expansion_step=(0, 1, 2))
    hook.attach(model)
    hook.set_epoch(0)
    check_predictions(model, golden.images, golden, '')


@pytest.mark.parametrize(('stage', 'num_tokens'), [(0, 1829), (1, 965), (2, 1397), (3, 1829)])
def test_training_at_the_originals_size_has_its_numbers_of_tokens(stage, num_tokens):
    """512 x 864 is 1728 patches, with 100 detection tokens and a class token."""
    arch = dict(embed_dims=2, num_layers=2, num_heads=1, feedforward_channels=2)
    vit = dict(type='mmpretrain.VisionTransformer', arch=arch)
    model = YOLOSViT(vit, img_size=(512, 864), mid_img_size=(512, 864))
    hook = TokenExpansionHook(expansion_step=(5, 50, 100))
    hook.attach(model)
    hook.set_epoch((0, 5, 50, 100)[stage])
    model.train()
    entered = []
    model.layers[1].register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0].shape[1]))
    model(torch.zeros(1, 3, 512, 864))
    assert entered[-1] == num_tokens


# From an ImageNet checkpoint


@pytest.mark.parametrize('kind', ['plain', 'distilled'])
def test_positions_of_a_classifier_become_the_originals(kind):
    meta, outputs = load_meta('yolos_from_deit'), load_outputs('yolos_from_deit')
    settings = meta['kwargs']
    name = f'{kind}.pos_embed'
    weight = draw_weight(name, meta['params'][name], meta['seed'])
    rows, columns = (side // settings['patch_size'] for side in settings['init_pe_size'])
    found = classifier_positions(weight, (rows, columns))
    assert relative_error(found, outputs[f'{kind}_pos_embed'].double()) < TOLERANCE
    assert found.shape[1] + settings['det_token_num'] == outputs[f'{kind}_length']


# The head


def test_no_object_counts_as_much_as_it_is_given_weight():
    golden = load_golden('yolos_plain')
    model = build_detector(golden)
    samples = samples_of(golden.meta['targets'], golden.images)
    light = model.loss(golden.images, samples)['loss_cls']
    head = YOLOSHead(num_classes=5, embed_dims=48, no_object_weight=1.0).double()
    head.load_state_dict(model.bbox_head.state_dict())
    heavy = head.loss(model.backbone(golden.images), samples)['loss_cls']
    assert abs(light - heavy) > 0.01


def test_an_image_gets_as_many_boxes_as_there_are_detection_tokens_or_fewer_by_choice():
    golden = load_golden('yolos_plain')
    model = build_detector(golden)
    samples = samples_of(golden.meta['targets'], golden.images)
    for sample in samples:
        sample.set_metainfo(dict(scale_factor=(0.5, 0.25)))
    with torch.no_grad():
        found = model.predict(golden.images, samples)
        logits, boxes = predict(model, golden.images)
    for sample, scores in zip(found, logits.softmax(-1)[..., :-1].amax(-1)):
        assert torch.equal(sample.pred_instances.scores, scores.sort(descending=True).values)
        highest = boxes.new_tensor([96 / 0.5, 64 / 0.25] * 2)
        assert (sample.pred_instances.bboxes <= highest).all()
    model.bbox_head.test_cfg = dict(max_per_img=3)
    with torch.no_grad():
        assert all(len(s.pred_instances) == 3 for s in model.predict(golden.images, samples))
