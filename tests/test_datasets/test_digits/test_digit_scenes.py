"""DigitScenes paints the same scenes everywhere, with truth that the hosts' metrics agree to."""

import hashlib
from itertools import combinations
from multiprocessing import get_context

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmcv import imread
from mmdet.evaluation import CocoMetric
from mmengine.registry import DATASETS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from mmseg.evaluation import IoUMetric
from numpy.random import RandomState
from pycocotools import mask as coco_mask

from mmvitlin.datasets import Digits, DigitScenes
from mmvitlin.datasets.digits import digit_scenes, scene_cache
from mmvitlin.datasets.digits.digit_scenes import decode_run_lengths, run_lengths
from mmvitlin.datasets.digits.scene_painting import (
    DIGIT_SIZE,
    MAX_OVERLAP,
    NUM_DIGITS,
    PAINTING,
    enlarge,
    find_place,
)

# By PAINTING: where these change it must count up, or caches would keep the scenes of before.
DIGESTS = {1: {'train': '47d82cf3bf788d31', 'val': 'ced8a34f1c39bf57'}}


def decoded(instance):
    return decode_run_lengths(instance['mask'])


@pytest.mark.parametrize('compressed', [False, True])
def test_decoding_undoes_run_lengths(compressed):
    noise = RandomState(0).rand(13, 7) > 0.5
    for mask in (noise, ~noise, np.zeros_like(noise), np.ones_like(noise)):
        code = coco_mask.encode(np.asfortranarray(mask)) if compressed else run_lengths(mask)
        assert np.array_equal(decode_run_lengths(code), mask)


def assert_same_scenes(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs):
        assert np.array_equal(one['img'], other['img'])
        assert one.get('instances') == other.get('instances')
        assert np.array_equal(one.get('gt_seg_map'), other.get('gt_seg_map'))


@pytest.mark.parametrize('split', ['train', 'val'])
def test_the_scenes_never_change(split):
    digest = hashlib.sha256()
    for scene in DigitScenes(split, 'segmentation', 16):
        digest.update(scene['img'].tobytes() + scene['gt_seg_map'].tobytes())
    assert digest.hexdigest()[:16] == DIGESTS[PAINTING][split]


@pytest.mark.parametrize(('split', 'label'), [('train', 3), ('val', 8)])
def test_a_split_shows_digits_of_its_own_only(split, label, monkeypatch):
    def only_this_label_in_this_split(asked):
        digits = list(Digits(asked))
        return [digit for digit in digits if asked != split or digit['gt_label'] == label]

    monkeypatch.setattr(digit_scenes, 'Digits', only_this_label_in_this_split)
    scenes = DigitScenes(split, 'detection', 8)
    assert {each['bbox_label'] for scene in scenes for each in scene['instances']} == {label}


def test_boxes_enclose_masks_and_masks_do_not_overlap():
    for scene in DigitScenes('train', 'detection', 50):
        masks = [decoded(instance) for instance in scene['instances']]
        assert max(np.sum(masks, axis=0).ravel()) == 1
        for instance, mask in zip(scene['instances'], masks):
            rows, columns = np.nonzero(mask)
            left, top, right, bottom = instance['bbox']
            assert (left, top) == (columns.min(), rows.min())
            assert (right, bottom) == (columns.max() + 1, rows.max() + 1)


def test_both_tasks_tell_of_the_same_scenes():
    detection, segmentation = (
        DigitScenes('val', task, 20) for task in ('detection', 'segmentation')
    )
    for boxes, maps in zip(detection, segmentation):
        assert np.array_equal(boxes['img'], maps['img'])
        expected = np.zeros_like(maps['gt_seg_map'])
        for instance in boxes['instances']:
            expected[decoded(instance)] = 1 + instance['bbox_label']
        assert np.array_equal(maps['gt_seg_map'], expected)
    assert detection.metainfo['classes'] == segmentation.metainfo['classes'][1:]
    for scenes, classes in ((detection, 10), (segmentation, 11)):
        assert len(scenes.metainfo['classes']) == len(set(scenes.metainfo['palette'])) == classes
        assert scenes.METAINFO['classes'] == scenes.metainfo['classes']


def test_scenes_hold_varied_digits_that_stand_out():
    counts, labels, sides = set(), set(), []
    for scene in DigitScenes('train', 'detection', 100):
        counts.add(len(scene['instances']))
        background = ~np.any([decoded(instance) for instance in scene['instances']], axis=0)
        for instance in scene['instances']:
            left, top, right, bottom = instance['bbox']
            labels.add(instance['bbox_label'])
            sides.append(bottom - top)
            around = np.s_[max(top - 4, 0) : bottom + 4, max(left - 4, 0) : right + 4]
            grey = scene['img'][around].mean(axis=-1)
            ink, canvas = grey[decoded(instance)[around]], grey[background[around]]
            assert abs(np.median(ink) - np.median(canvas)) > 20
    assert len(counts) >= 3
    assert max(counts) <= NUM_DIGITS[1]
    assert labels == set(range(10))
    assert min(sides) < 25
    assert max(sides) > 45


def test_places_hardly_overlap():
    random = RandomState(0)
    taken = []
    for _ in range(200):
        place = find_place(random, 512, taken)
        taken += [place] if place else []
    assert len(taken) > 10
    for one, other in combinations(taken, 2):
        width, height = (
            min(one[i] + one[2], other[i] + other[2]) - max(one[i], other[i]) for i in (0, 1)
        )
        assert max(width, 0) * max(height, 0) <= min(one[2], other[2]) ** 2 / MAX_OVERLAP
        assert all(place[0] + place[2] <= 512 >= place[1] + place[2] for place in (one, other))


@pytest.mark.parametrize(('cells', 'size'), [(2, 128), (10, 28), (10, 64), (48, 160), (48, 40)])
def test_enlarging_is_bilinear_interpolation(cells, size):
    grid = RandomState(0).randint(0, 256, (cells, cells, 3), dtype=np.int32)
    expected = F.interpolate(
        torch.from_numpy(grid).permute(2, 0, 1)[None].double(),
        size=(size, size),
        mode='bilinear',
        align_corners=False,
    )
    error = enlarge(grid, size) - expected[0].permute(1, 2, 0).numpy()
    assert error.min() > -1
    assert error.max() < 1e-9


def test_fewer_scenes_are_the_first_of_more():
    assert_same_scenes(
        list(DigitScenes('train', 'detection', 3)), list(DigitScenes('train', 'detection', 9))[:3]
    )


def test_scenes_follow_seed_split_and_size():
    first = DigitScenes('train', 'segmentation', 2)
    for settings in (dict(split='val'), dict(seed=1), dict(image_size=160)):
        settings = {'split': 'train', **settings}
        other = DigitScenes(task='segmentation', num_scenes=2, **settings)
        assert not np.array_equal(other[0]['img'], first[0]['img'])
        assert other[0]['img_path'] != first[0]['img_path']
    assert not np.array_equal(first[0]['img'], first[1]['img'])
    scene = other[1]
    assert scene['img'].shape == (160, 160, 3)
    assert scene['gt_seg_map'].shape == scene['img_shape'] == scene['ori_shape'] == (160, 160)


@pytest.mark.parametrize('task', ['detection', 'segmentation'])
def test_a_cached_scene_is_the_one_made_on_the_fly(task, tmp_path, monkeypatch):
    painted = list(DigitScenes('val', task, 4))
    cached = DigitScenes('val', task, 4, cache_dir=tmp_path)
    assert_same_scenes(list(cached), painted)
    for scene in cached:
        assert np.array_equal(imread(scene['img_path']), scene['img'])
    monkeypatch.setattr(digit_scenes, 'paint_scene', None)  # painting again would fail
    assert_same_scenes(list(cached), painted)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def exchange_for_another_scene(path):
    path.write_bytes(path.with_name(path.name.replace('000000', '000001')).read_bytes())


def change_the_type(path):
    path.write_text('no image')


@pytest.mark.parametrize('damage', [cut, exchange_for_another_scene, change_the_type])
@pytest.mark.parametrize('name', ['000000.png', '000000_instances.png'])
def test_damaged_files_are_made_anew(damage, name, tmp_path):
    cached = DigitScenes('val', 'segmentation', 2, cache_dir=tmp_path)
    painted = list(cached)
    path = cached.folder / name
    whole = path.read_bytes()
    damage(path)
    assert_same_scenes(list(cached), painted)
    assert path.read_bytes() == whole


def test_files_of_an_earlier_painting_are_made_anew(tmp_path, monkeypatch):
    cached = DigitScenes('val', 'segmentation', 1, cache_dir=tmp_path)
    before = (cached.folder, cached[0])[0] / '000000.png'
    outdated = before.read_bytes()
    monkeypatch.setattr(scene_cache, 'PAINTING', scene_cache.PAINTING + 1)
    assert cached[0] is not None
    assert before.read_bytes() != outdated


def read_all(cache_dir):
    return [
        scene['img'].tobytes() for scene in DigitScenes('val', 'detection', 8, 128, 0, cache_dir)
    ]


@pytest.mark.slow
def test_processes_share_a_cache(tmp_path):
    with get_context('fork').Pool(4) as pool:
        read = pool.map(read_all, [tmp_path] * 4)
    painted = [scene['img'].tobytes() for scene in DigitScenes('val', 'detection', 8)]
    assert read == [painted] * 4
    assert len(list(tmp_path.rglob('*.png'))) == len(list(tmp_path.rglob('*.*'))) == 16


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(split='test'), r"split must be one of \('train', 'val'\), got 'test'"),
        (dict(task='pose'), r"task must be one of \('detection', 'segmentation'\), got 'pose'"),
        (dict(num_scenes=0), 'num_scenes must be at least 1, got 0'),
        (dict(image_size=32), f'image_size must be at least {DIGIT_SIZE[1]}.*got 32'),
    ],
)
def test_what_is_wrong_with_an_argument_is_said(settings, message):
    with pytest.raises(ValueError, match=message):
        DigitScenes(**{'split': 'val', 'task': 'detection', 'num_scenes': 1, **settings})


def scenes_of_a_host(scope, task, pipeline):
    settings = dict(type='mmvitlin.DigitScenes', split='val', task=task, num_scenes=6)
    with DefaultScope.overwrite_default_scope(scope):
        return DATASETS.build(dict(settings, pipeline=pipeline))


def test_mmdet_finds_the_truth_perfect():
    truth = scenes_of_a_host(
        'mmdet',
        'detection',
        [
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'ori_shape', 'instances')),
        ],
    )
    metric = CocoMetric(metric=['bbox', 'segm'])
    metric.dataset_meta = truth.metainfo
    for scene in truth:
        sample = scene['data_samples']
        instances = sample.gt_instances
        sample.pred_instances = InstanceData(
            bboxes=instances.bboxes.tensor,
            labels=instances.labels,
            scores=torch.ones(len(instances)),
            masks=instances.masks.to_tensor(torch.uint8, 'cpu'),
        )
        metric.process({}, [sample.to_dict()])
    scores = metric.evaluate(len(truth))
    assert scores['coco/bbox_mAP'] == scores['coco/segm_mAP'] == 1


def test_mmseg_finds_the_truth_perfect():
    truth = scenes_of_a_host('mmseg', 'segmentation', [dict(type='PackSegInputs')])
    metric = IoUMetric()
    metric.dataset_meta = truth.metainfo
    for scene in truth:
        sample = scene['data_samples']
        sample.pred_sem_seg = PixelData(data=sample.gt_sem_seg.data)
        metric.process({}, [sample.to_dict()])
    assert metric.evaluate(len(truth))['mIoU'] == 100


@pytest.mark.parametrize('task', ['detection', 'segmentation'])
def test_the_hosts_transforms_move_image_and_truth_together(task):
    scope, load, pack = {
        'detection': ('mmdet', [dict(type='LoadAnnotations', with_mask=True)], 'PackDetInputs'),
        'segmentation': ('mmseg', [], 'PackSegInputs'),
    }[task]
    flip = dict(type='RandomFlip', prob=1.0)
    resize = dict(type='Resize', scale=(256, 256), keep_ratio=True)
    plain = scenes_of_a_host(scope, task, [*load, dict(type=pack)])
    moved = scenes_of_a_host(scope, task, [*load, resize, flip, dict(type=pack)])

    def truth_of(scene):
        sample = scene['data_samples']
        if task == 'segmentation':
            return sample.gt_sem_seg.data[0]
        return sample.gt_instances.masks.to_tensor(torch.uint8, 'cpu').amax(0)

    for before, after in zip(plain, moved):
        assert after['inputs'].shape == (3, 256, 256)
        expected = truth_of(before).flip(-1).repeat_interleave(2, 0).repeat_interleave(2, 1)
        assert (truth_of(after) == expected).float().mean() > 0.97
        assert after['data_samples'].flip
