"""Inspection of own data finds classes, counts, sizes and broken files."""

import json
import re
import shutil

import numpy as np
import own_data
import pytest
from PIL import Image

from mmvitlin.datasets.own_data import inspect_coco, inspect_folders, inspect_masks
from mmvitlin.datasets.own_data.colors import distinct_colors
from mmvitlin.errors import ConfigError


def listed(data, split, name='own'):
    return data.new_files[f'{name}_{split}.txt'].splitlines()


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    return own_data.write_class_folders(tmp_path_factory.mktemp('folders') / 'digits')


@pytest.fixture
def coco(tmp_path):
    return own_data.write_coco(tmp_path / 'scenes', 10)


@pytest.fixture
def masks(tmp_path):
    return own_data.write_masks(tmp_path / 'scenes', 10)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_fifth_of_each_class_is_held_out_by_a_seed(folders):
    data = inspect_folders(folders, 'own')
    assert (data.train, data.val) == (160, 40)
    assert data.classes == tuple(f'digit{k}' for k in range(5))
    assert set(data.counts['train'].values()) == {32}
    assert set(data.counts['val'].values()) == {8}
    assert set(data.sizes) == {(8, 8)}
    train, val = listed(data, 'train'), listed(data, 'val')
    assert not set(train) & set(val)
    assert listed(inspect_folders(folders, 'own'), 'val') == val
    assert listed(inspect_folders(folders, 'own', seed=1), 'val') != val


def test_every_line_of_a_list_is_a_file_and_its_label(folders):
    data = inspect_folders(folders, 'own')
    for line in listed(data, 'train') + listed(data, 'val'):
        path, label = line.rsplit(' ', 1)
        assert (folders / path).is_file()
        assert path.startswith(f'digit{label}/')


def test_train_and_val_folders_are_taken_as_they_are(folders, tmp_path):
    shutil.copytree(folders, tmp_path / 'train')
    for label in range(4):
        shutil.copytree(folders / f'digit{label}', tmp_path / 'valid' / f'digit{label}')
    data = inspect_folders(tmp_path, 'own')
    assert (data.train, data.val) == (200, 160)
    assert any('digit4: not in the val split' in note for note in data.notes)
    (tmp_path / 'valid' / 'moon').mkdir()
    with pytest.raises(ConfigError, match='lacks: moon'):
        inspect_folders(tmp_path, 'own')


def test_broken_files_are_named_and_left_out(folders, tmp_path):
    root = shutil.copytree(folders, tmp_path / 'digits')
    (root / 'digit0' / 'text.png').write_text('no image')
    whole = (root / 'digit1' / '1_001.png').read_bytes()
    (root / 'digit1' / '1_001.png').write_bytes(whole[: len(whole) // 2])
    (root / 'digit1' / 'notes.txt').write_text('not an image and not meant as one')
    data = inspect_folders(root, 'own')
    assert sorted(data.broken) == [
        str(root / 'digit0/text.png'),
        str(root / 'digit1/1_001.png'),
    ]
    assert all(path in data.describe() for path in data.broken)
    assert data.train + data.val == 199


def test_a_class_of_one_image_trains_and_is_noted(folders, tmp_path):
    root = shutil.copytree(folders, tmp_path / 'digits')
    for path in sorted((root / 'digit2').iterdir())[1:]:
        path.unlink()
    data = inspect_folders(root, 'own')
    assert data.counts['train']['digit2'] == 1
    assert any('digit2: not in the val split' in note for note in data.notes)
    assert any('the largest class has 32 and the smallest 1' in note for note in data.notes)


def test_images_of_one_name_are_noted(folders, tmp_path):
    for split in ('train', 'val'):
        for label in range(2):
            (tmp_path / split / str(label)).mkdir(parents=True)
            image = folders / 'digit0' / '0_001.png'
            shutil.copy(image, tmp_path / split / str(label) / 'same.png')
    assert any('same.png: several images' in note for note in inspect_folders(tmp_path, 'x').notes)
    assert not any('several images' in note for note in inspect_folders(folders, 'x').notes)


def test_images_without_class_folders_are_refused(folders):
    with pytest.raises(ConfigError, match='one folder per class'):
        inspect_folders(folders / 'digit0', 'own')
    with pytest.raises(ConfigError, match='there is no folder'):
        inspect_folders(folders / 'nowhere', 'own')


def test_one_coco_file_becomes_two(coco):
    data = inspect_coco(coco, 'own')
    assert (data.train, data.val) == (8, 2)
    assert data.details == dict(with_mask=True)
    assert set(data.classes) <= set('0123456789')
    parts = [json.loads(data.new_files[f'own_{split}.json']) for split in ('train', 'val')]
    ids = [{image['id'] for image in part['images']} for part in parts]
    assert len(ids[0] | ids[1]) == 10 and not ids[0] & ids[1]
    for part, images in zip(parts, ids):
        assert {a['image_id'] for a in part['annotations']} <= images
        assert all(a['area'] > 0 for a in part['annotations'])


def test_two_whole_coco_files_are_used_where_they_lie(coco):
    edit(coco, lambda content: [a.update(area=1, iscrowd=0) for a in content['annotations']])
    data = inspect_coco(coco, 'own', val=coco)
    assert data.files == dict(train=coco, val=coco)
    assert data.new_files == {}


def test_what_pycocotools_reads_is_completed(coco):
    data = inspect_coco(coco, 'own', val=coco)
    objects = json.loads(data.new_files['own_train.json'])['annotations']
    assert all(a['area'] == a['bbox'][2] * a['bbox'][3] and a['iscrowd'] == 0 for a in objects)


def test_missing_images_and_objects_without_area_are_left_out(coco):
    (coco.parent / 'images/003.png').unlink()
    edit(coco, lambda content: content['annotations'][0].update(bbox=[5, 5, 0, 9]))
    edit(coco, lambda content: content['categories'].append(dict(id=7, name='unicorn')))
    data = inspect_coco(coco, 'own')
    assert [path.rpartition('/')[2] for path in data.broken] == ['003.png']
    assert data.train + data.val == 9
    assert any('objects of train have no area' in note for note in data.notes)
    assert 'unicorn' not in data.classes
    assert any('unicorn' in note for note in data.notes)


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda content: content.pop('categories'), 'lacks categories'),
        (lambda content: content['images'][0].pop('width'), 'an entry of images lacks width'),
        (lambda content: content['annotations'].clear(), 'no object'),
        (lambda content: [c.update(name='x') for c in content['categories']], 'called x'),
    ],
)
def test_a_file_that_is_not_cocos_is_refused(coco, change, message):
    edit(coco, change)
    with pytest.raises(ConfigError, match=message):
        inspect_coco(coco, 'own')


def test_images_elsewhere_are_asked_for(coco, tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ConfigError, match='--images FOLDER'):
        inspect_coco(coco, 'own', images=tmp_path / 'empty')


def test_masks_are_paired_with_images(masks):
    path = sorted(masks[1].iterdir())[0]
    labels = np.array(Image.open(path))
    labels[:5] = 255  # ignored
    Image.fromarray(labels).save(path)
    data = inspect_masks(masks[0], 'own', masks[1], own_data.CLASSES)
    assert (data.train, data.val) == (8, 2)
    assert data.classes == own_data.CLASSES
    assert data.counts['train']['background'] == len(listed(data, 'train')) == 8
    pixels = np.zeros(len(data.classes), int)
    for stem in listed(data, 'train'):
        labels = np.array(Image.open(masks[1] / f'{stem}.png'))
        pixels += np.bincount(labels[labels != 255], minlength=len(pixels))
    assert data.details == dict(
        img_suffix='.png', seg_map_suffix='.png', masks=masks[1], pixels=tuple(pixels)
    )


def test_many_colors_differ_and_a_longer_list_begins_with_the_shorter():
    colors = distinct_colors(256)
    assert len(set(colors)) == 256
    assert colors[0] == (0, 0, 0)
    assert distinct_colors(11) == colors[:11]


def test_split_folders_of_masks_are_taken_as_they_are(masks, tmp_path):
    for split, names in (('train', range(7)), ('val', range(7, 10))):
        for folder in masks:
            (tmp_path / 'split' / folder.name / split).mkdir(parents=True)
            for name in names:
                target = tmp_path / 'split' / folder.name / split
                shutil.copy(folder / f'{name:03}.png', target / f'{name:03}.png')
    root = tmp_path / 'split'
    data = inspect_masks(root / 'images', 'own', root / 'masks')
    assert (data.train, data.val) == (7, 3)
    assert listed(data, 'val') == ['val/007', 'val/008', 'val/009']
    assert data.classes[0] == 'class 0'


def test_masks_that_are_no_labels_are_named(masks):
    rgb = Image.open(masks[1] / '000.png').convert('RGB')
    rgb.save(masks[1] / '000.png')
    (masks[1] / '001.png').unlink()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(masks[1] / '002.png')
    data = inspect_masks(masks[0], 'own', masks[1])
    reasons = {path.rpartition('/')[2]: reason for path, reason in data.broken.items()}
    assert re.match('it is a picture in RGB', reasons['000.png'])
    assert re.match('there is no mask', reasons['001.png'])
    assert re.match(r'it has \(4, 4\) pixels', reasons['002.png'])
    assert data.train + data.val == 7


def test_masks_of_0_and_255_are_refused(masks):
    for path in masks[1].iterdir():
        labels = np.array(Image.open(path))
        Image.fromarray(np.where(labels > 0, 255, 0).astype(np.uint8)).save(path)
    with pytest.raises(ConfigError, match='Masks of 0 and 255 have to be written as 0 and 1'):
        inspect_masks(masks[0], 'own', masks[1])


def test_too_few_names_of_classes_are_refused(masks):
    with pytest.raises(ConfigError, match='labels up to 10, and 2 classes'):
        inspect_masks(masks[0], 'own', masks[1], ['road', 'car'])
