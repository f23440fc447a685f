"""Label maps are moved with their images."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import TRANSFORMS, DefaultScope

from mmvitlin.ops.token_labels import token_label_targets

CROP = dict(type='RandomResizedCrop', scale=16)
PACK = dict(type='PackInputs', algorithm_keys=('token_label_map', 'token_label_box'))


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def paint(size, height, width, seed):
    """A label map of smooth scores of classes 0 to 2, and an image with them as its colours."""
    scores = np.random.RandomState(seed).uniform(0, 8, (4, 4, 3)).astype(np.float32)
    scores = cv2.resize(scores, (size, size), interpolation=cv2.INTER_LINEAR)
    image = cv2.resize(scores, (width, height), interpolation=cv2.INTER_LINEAR)
    scores = torch.from_numpy(scores).permute(2, 0, 1)
    classes = torch.arange(3.0)[:, None, None].expand_as(scores)
    return image, torch.stack((scores, classes))


def find(sample, patches):
    """Return the scores (3, patches, patches) that the label map has for each patch."""
    targets = token_label_targets(
        sample.token_label_map[None], sample.token_label_box[None], 4, patches, 0.0
    )[0, :, 2:]
    return (targets[:3].log() - targets[3].log()).view(3, patches, patches)  # class 3 scores 0


PIPELINES = {
    'crop': [CROP],
    'crop and flip': [CROP, dict(type='mmvitlin.TokenLabelFlip', prob=0.5)],
    'flip and crop': [dict(type='mmvitlin.TokenLabelFlip', prob=0.5), CROP],
    'all flips and two crops': [
        dict(type='RandomCrop', crop_size=(60, 70)),
        dict(
            type='mmvitlin.TokenLabelFlip',
            prob=[0.3, 0.3, 0.3],
            direction=['horizontal', 'vertical', 'diagonal'],
        ),
        dict(type='EfficientNetRandomCrop', scale=112),
        dict(type='mmvitlin.TokenLabelFlip', prob=0.5),
    ],
}


@pytest.mark.parametrize('name', PIPELINES)
@pytest.mark.parametrize(('height', 'width'), [(90, 90), (80, 160), (171, 75)])
def test_a_painted_label_map_is_found_again(name, height, width):
    steps = [
        step
        if step['type'].startswith('mmvitlin')
        else dict(
            type='mmvitlin.TokenLabelCrop',
            crop=step | (dict(scale=112) if step is CROP else {}),
        )
        for step in PIPELINES[name]
    ]
    pipeline = [TRANSFORMS.build(step) for step in [*steps, PACK]]
    errors, unmoved = [], []
    for seed in range(25):
        np.random.seed(seed)
        image, label_map = paint(18, height, width, seed)
        results = dict(
            img=image, token_label_map=label_map, token_label_box=torch.tensor([0.0, 0, 1, 1])
        )
        for step in pipeline:
            results = step(results)
        shown = torch.nn.functional.adaptive_avg_pool2d(results['inputs'], 7)
        sample = results['data_samples']
        errors.append((find(sample, 7) - shown).abs().max().item())
        sample.set_field(label_map, 'token_label_map')
        sample.set_field(torch.tensor([0.0, 0, 1, 1]), 'token_label_box')
        unmoved.append((find(sample, 7) - shown).abs().max().item())
    assert max(errors) < 0.6, errors  # of scores from 0 to 8
    assert np.median(unmoved) > 2


ROTATE = dict(type='Rotate', angle=35.0, prob=1.0, pad_val=0)
SHEAR = dict(type='Shear', magnitude=0.4, prob=1.0, pad_val=0)
TRANSLATE = dict(type='Translate', magnitude=0.3, prob=1.0, pad_val=0)
MOVES = {
    'rotate': ROTATE,
    'rotate about a place': ROTATE | dict(center=(20, 50), scale=0.8),
    'shear': SHEAR,
    'shear vertically': SHEAR | dict(direction='vertical'),
    'translate': TRANSLATE,
    'translate vertically': TRANSLATE | dict(direction='vertical'),
    'RandAugment': dict(
        type='RandAugment',
        policies=[
            dict(type='Rotate', magnitude_range=(10, 30)),
            dict(type='Shear', magnitude_range=(0.1, 0.3), direction='vertical'),
            dict(type='Translate', magnitude_range=(0.1, 0.3)),
        ],
        num_policies=2,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=0),
    ),
    'AutoAugment': dict(type='AutoAugment', policies=[[ROTATE, SHEAR], [TRANSLATE]]),
}


@pytest.mark.parametrize('name', MOVES)
@pytest.mark.parametrize('cut_first', [False, True])
def test_a_painted_label_map_follows_rotations_shears_and_shifts(name, cut_first):
    """Black has score 0, as what comes from outside of the image; a map is finer than the moves."""
    crop = dict(
        type='mmvitlin.TokenLabelCrop', crop=CROP | dict(scale=112, crop_ratio_range=(0.4, 1))
    )
    steps = [
        dict(type='mmvitlin.TokenLabelFlip', prob=0.5),
        dict(type='mmvitlin.TokenLabelAugment', augment=MOVES[name]),
    ]
    steps.insert(0 if cut_first else 2, crop)
    pipeline = [TRANSFORMS.build(step) for step in [*steps, PACK]]
    errors, unmoved = [], []
    for seed in range(12):
        np.random.seed(seed)
        image, label_map = paint(64, 90, 160, seed)
        results = dict(
            img=image, token_label_map=label_map, token_label_box=torch.tensor([0.0, 0, 1, 1])
        )
        for step in pipeline:
            results = step(results)
        shown = torch.nn.functional.adaptive_avg_pool2d(results['inputs'], 7)
        sample = results['data_samples']
        errors.append((find(sample, 7) - shown).abs().mean().item())
        sample.set_field(label_map, 'token_label_map')
        unmoved.append((find(sample, 7) - shown).abs().mean().item())
    assert np.mean(errors) < 0.15, errors  # of scores from 0 to 8
    assert np.mean(unmoved) > 0.8


def test_what_does_not_move_pixels_leaves_the_label_map():
    image, label_map = paint(18, 60, 90, 0)
    results = dict(img=image.astype(np.uint8), token_label_map=label_map)
    results['token_label_box'] = torch.tensor([0.0, 0, 1, 1])
    augment = dict(type='Rotate', angle=30.0, prob=0.0)
    for step in (augment, dict(type='Invert', prob=1.0)):
        step = TRANSFORMS.build(dict(type='mmvitlin.TokenLabelAugment', augment=step))
        results = step(results)
    assert torch.equal(results['token_label_map'], label_map)
    assert np.array_equal(results['img'], 255 - image.astype(np.uint8))


def test_the_image_is_the_one_that_the_hosts_transforms_give():
    image, label_map = paint(18, 60, 90, 0)
    for steps in (
        [CROP, dict(type='RandomFlip', prob=0.5, direction='horizontal'), MOVES['RandAugment']],
        [
            dict(type='mmvitlin.TokenLabelCrop', crop=CROP),
            dict(type='mmvitlin.TokenLabelFlip', prob=0.5),
            dict(type='mmvitlin.TokenLabelAugment', augment=MOVES['RandAugment']),
        ],
    ):
        np.random.seed(1)
        outs = []
        for _ in range(10):
            results = dict(img=image)
            if steps[0] is not CROP:
                results |= dict(
                    token_label_map=label_map, token_label_box=torch.tensor([0.0, 0, 1, 1])
                )
            for step in steps:
                results = TRANSFORMS.build(step)(results)
            outs.append(results['img'])
        if steps[0] is CROP:
            expected = outs
    assert all(np.array_equal(a, b) for a, b in zip(outs, expected))


def test_images_without_a_label_map_pass():
    results = dict(img=paint(18, 60, 90, 0)[0])
    for step in (
        dict(type='mmvitlin.TokenLabelCrop', crop=CROP),
        dict(type='mmvitlin.TokenLabelFlip', prob=1.0),
        dict(type='mmvitlin.TokenLabelAugment', augment=ROTATE),
    ):
        results = TRANSFORMS.build(step)(results)
    assert results['img'].shape == (16, 16, 3)
    assert 'token_label_box' not in results


def test_crops_that_cannot_be_followed_are_refused():
    with pytest.raises(ValueError, match=r'CenterCrop has no rand_crop_params.*RandomResizedCrop'):
        TRANSFORMS.build(
            dict(type='mmvitlin.TokenLabelCrop', crop=dict(type='CenterCrop', crop_size=8))
        )
    with pytest.raises(ValueError, match='RandomCrop with padding shows more than the image'):
        TRANSFORMS.build(
            dict(
                type='mmvitlin.TokenLabelCrop',
                crop=dict(type='RandomCrop', crop_size=8, padding=2),
            )
        )
