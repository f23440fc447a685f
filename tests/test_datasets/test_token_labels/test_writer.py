"""Files do not depend on stops of the writer, and never mix two runs."""

import pytest
import torch
from digit_files import write_folders
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from tiny_run import tiny_config

from mmvitlin.datasets.token_labels.files import label_names
from mmvitlin.datasets.token_labels.writer import (
    build_whole_images,
    check_classes,
    check_settings,
    show_whole_images,
    write_label_maps,
)
from mmvitlin.errors import ConfigError

COUNT, SHAPE = 10, (2, 3, 3)
RESIZE, PACK = dict(type='Resize', scale=4), dict(type='PackInputs')


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.fixture
def images():
    digits = dict(type='mmvitlin.Digits', split='train', indices=COUNT, pipeline=[PACK])
    return DATASETS.build(digits)


def label(batch):
    """Label images with the classes 3 and 5, and scores that tell images apart."""
    means = torch.stack([image.float().mean() for image in batch['inputs']])
    scores = means.view(-1, 1, 1, 1) - torch.arange(18.0).view(2, 3, 3)
    return scores, torch.tensor([3.0, 5.0]).view(1, 2, 1, 1).expand_as(scores)


def write(out, images, label=label):
    return write_label_maps(out, images, label_names(images), label, SHAPE, 10, 4, workers=0)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob('*.pt')}


# Images


def test_a_pipeline_that_tests_on_a_part_shows_the_whole():
    load = dict(type='LoadImageFromFile')
    edge = dict(type='ResizeEdge', scale=256, backend='pillow', interpolation='bicubic')
    resize = dict(type='Resize', scale=(32, 24), backend='pillow', interpolation='bicubic')
    crop = dict(type='CenterCrop', crop_size=9)
    assert show_whole_images([load, edge, crop, PACK], (24, 32)) == [load, resize, PACK]
    resize = dict(type='Resize', scale=(32, 24))
    assert show_whole_images([load, PACK], (24, 32)) == [load, resize, PACK]
    with pytest.raises(ConfigError, match='torchvision/CenterCrop in the test pipeline'):
        show_whole_images([load, dict(type='torchvision/CenterCrop', size=9), PACK], (24, 32))


def test_images_are_those_of_training_with_the_pipeline_of_tests(tmp_path):
    write_folders(tmp_path, 'train', COUNT)
    images = dict(
        type='CustomDataset',
        data_root=str(tmp_path),
        data_prefix='train',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='ResizeEdge', scale=40, edge='short', interpolation='bicubic'),
            dict(type='CenterCrop', crop_size=32),
            PACK,
        ],
    )
    cfg = Config(
        dict(
            train_dataloader=dict(dataset=dict(type='RepeatDataset', times=2, dataset=images)),
            test_dataloader=dict(dataset=images | dict(data_prefix='val')),
        )
    )
    found, size, pipeline = build_whole_images(cfg)
    assert (len(found), size) == (COUNT, (32, 32))
    assert [step['type'] for step in pipeline] == ['LoadImageFromFile', 'Resize', 'PackInputs']
    found, size, _ = build_whole_images(cfg, 48)
    assert found[0]['inputs'].shape == (3, 48, 48)
    assert size == (48, 48)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(train_dataloader=None), 'the config has no train_dataloader'),
        (
            dict(train_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=[]))),
            'the training set is a ConcatDataset of several',
        ),
        (
            dict(
                test_dataloader=dict(
                    dataset=dict(pipeline=[RESIZE, dict(type='Pad', size=(9, 9)), PACK])
                )
            ),
            r'the test pipeline makes images of \(9, 9\), expected \(4, 4\)',
        ),
    ],
)
def test_data_sets_that_cannot_be_labelled_are_refused(changes, message):
    cfg = Config({**tiny_config(''), **changes})
    with pytest.raises(ConfigError, match=message):
        build_whole_images(cfg, 4)


def test_the_teacher_must_know_the_classes_of_the_images(images):
    check_classes(images, 10, 10)
    with pytest.raises(ConfigError, match='topk is 11, and the teacher has 10 classes'):
        check_classes(images, 10, 11)
    with pytest.raises(ConfigError, match='the teacher has 9 classes, and the data set has 10'):
        check_classes(images, 9, 1)


# Files


def test_a_run_that_was_stopped_goes_on_to_the_same_files(images, tmp_path, capsys):
    assert write(tmp_path / 'whole', images) == COUNT
    whole = contents(tmp_path / 'whole')
    assert len(whole) == COUNT

    batches = []

    def stop_at_the_second(batch):
        batches.append(len(batch['inputs']))
        if len(batches) == 2:
            raise KeyboardInterrupt
        return label(batch)

    out = tmp_path / 'stopped'
    with pytest.raises(KeyboardInterrupt):
        write(out, images, stop_at_the_second)
    assert len(contents(out)) == 4
    capsys.readouterr()
    assert write(out, images) == COUNT - 4
    assert 'Checking the label maps' in capsys.readouterr().out
    assert contents(out) == whole
    assert write(out, images, None) == 0  # no image is left to label


def test_damaged_files_are_named_and_written_again(images, tmp_path, capsys):
    write(tmp_path, images)
    whole, names = contents(tmp_path), label_names(images)
    cut, kept = tmp_path / names[3], tmp_path / names[2]
    cut.write_bytes(cut.read_bytes()[:-200])
    (tmp_path / names[4]).write_bytes(b'')
    (tmp_path / names[5]).unlink()
    before = kept.stat().st_mtime_ns
    assert write(tmp_path, images) == 3
    named = ', '.join(sorted(names[3:5]))
    said = capsys.readouterr().out
    assert f'2 damaged label maps are written again: {named}' in said
    assert contents(tmp_path) == whole
    assert kept.stat().st_mtime_ns == before


def test_label_maps_of_other_settings_do_not_mix(images, tmp_path):
    check_settings(tmp_path, dict(size=3, input_size=(8, 8)), config='a.py')
    write(tmp_path, images)
    check_settings(tmp_path, dict(size=3, input_size=(8, 8)), config='moved.py')
    with pytest.raises(ConfigError, match=r'another run \(size 3, not 4\): write to another'):
        check_settings(tmp_path, dict(size=4, input_size=(8, 8)))
    (tmp_path / 'settings.json').write_text('{')
    with pytest.raises(ConfigError, match=r'settings\.json cannot be read'):
        check_settings(tmp_path, dict(size=3))
    (tmp_path / 'settings.json').unlink()
    with pytest.raises(ConfigError, match=r'holds label maps, and no settings\.json'):
        check_settings(tmp_path, dict(size=3))
    assert len(contents(tmp_path)) == COUNT
