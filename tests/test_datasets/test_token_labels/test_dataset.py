"""Label maps come with their images, and missing or damaged files are named."""

import functools
import logging
import pickle
import shutil

import pytest
import torch
from digit_files import pack_flat, write_folders
from label_files import draw_label_map, write_label_maps
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from tiny_run import ROOT

from mmvitlin.checkpoints.safe_load import READS_LEGACY
from mmvitlin.datasets import Digits, TokenLabelDataset, TokenLabelError
from mmvitlin.datasets.token_labels import dataset as dataset_module
from mmvitlin.datasets.token_labels.files import label_names, read_label_map, write_label_map
from mmvitlin.ops.token_labels import token_label_targets

COUNT = 30
METAINFO = dict(classes=tuple('0123456789'))
CROP = dict(type='RandomResizedCrop', scale=16)
PACK = dict(type='PackInputs', algorithm_keys=('token_label_map', 'token_label_box'))


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@functools.cache
def digits():
    return Digits('train', indices=COUNT)


@pytest.fixture
def labels(tmp_path):
    """A folder of label maps for the first digits, and its files."""
    return tmp_path / 'labels', write_label_maps(tmp_path / 'labels', digits())


def build(root, dataset=None, **options):
    dataset = dataset or digits()
    cfg = dict(type='mmvitlin.TokenLabelDataset', dataset=dataset, label_root=str(root))
    return DATASETS.build(cfg | options)


@pytest.fixture
def said(monkeypatch):
    """Return the logged warnings."""
    texts = []

    def log(text, logger, level):
        assert level == logging.WARNING
        texts.append(text)

    monkeypatch.setattr(dataset_module, 'print_log', log)
    return texts


# Pairs


def test_every_image_has_its_own_label_map(labels):
    dataset = build(labels[0], pipeline=[dict(type='Resize', scale=16), PACK])
    assert len(dataset) == COUNT
    assert dataset.metainfo['classes'] == METAINFO['classes']
    for number in (0, 7, COUNT - 1):
        sample = dataset[number]['data_samples']
        assert torch.equal(sample.token_label_map, draw_label_map(number))
        assert sample.token_label_box.tolist() == [0, 0, 1, 1]
        assert sample.gt_label.item() == digits()[number]['gt_label']
    assert dataset.get_gt_labels().tolist() == [dataset.get_cat_ids(i)[0] for i in range(COUNT)]


@pytest.mark.parametrize('source', ['ImageNet', 'CustomDataset', 'mmvitlin.ImageNetTar'])
def test_label_maps_lie_in_the_folders_of_their_images(source, tmp_path):
    """One folder of label maps serves images in folders and in a tar."""
    folders = write_folders(tmp_path, 'train', COUNT)
    root = tmp_path / 'labels'
    for number, image in enumerate(sorted(folders.rglob('[0-9]*.*'))):
        scores, classes = draw_label_map(number)
        path = root / image.relative_to(folders).with_suffix('.pt')
        write_label_map(path, scores, classes, 10)
    images = dict(type=source, data_root=str(tmp_path), metainfo=METAINFO)
    if source == 'CustomDataset':
        images |= dict(data_prefix='train')
    else:
        images |= dict(split='train')
    if 'Tar' in source:
        pack_flat(folders, tmp_path / 'train.tar', name='train')
        shutil.rmtree(folders)
    load = [dict(type='LoadImageFromFile'), PACK]
    dataset = build(root, images, pipeline=load)
    assert len(dataset) == COUNT
    seen = set()
    for number in range(COUNT):
        info = dataset.get_data_info(number)
        assert info['img_path'].endswith(
            info['token_label'].removesuffix('.pt') + info['img_path'][-4:]
        )
        scores, classes = dataset[number]['data_samples'].token_label_map
        seen.add(scores.sum().item())
        expected = read_label_map(str(root), info['token_label'])
        assert torch.equal(torch.stack((scores, classes)), expected)
    assert len(seen) == COUNT


def test_subsets_and_samplers_keep_the_pairs(labels):
    dataset = build(labels[0], indices=[5, 3], pipeline=[PACK])
    found = [dataset[i]['data_samples'].token_label_map for i in range(2)]
    assert torch.equal(torch.stack(found), torch.stack([draw_label_map(5), draw_label_map(3)]))
    part = dict(type='mmvitlin.Digits', split='train', indices=[9])
    sample = build(labels[0], part, pipeline=[PACK])[0]['data_samples']
    assert torch.equal(sample.token_label_map, draw_label_map(9))


def test_workers_give_batches_of_both(labels):
    pipeline = [
        dict(type='mmvitlin.TokenLabelCrop', crop=CROP),
        dict(type='mmvitlin.TokenLabelFlip', prob=0.5),
        PACK,
    ]
    loader = Runner.build_dataloader(
        dict(
            dataset=build(labels[0], pipeline=pipeline),
            batch_size=8,
            num_workers=2,
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
        ),
        seed=0,
    )
    for batch in loader:
        maps = torch.stack([sample.token_label_map for sample in batch['data_samples']])
        boxes = torch.stack([sample.token_label_box for sample in batch['data_samples']])
        targets = token_label_targets(maps, boxes, 10, 4)
        assert targets.shape == (len(batch['inputs']), 10, 18)


# Missing and damaged files


def test_missing_files_are_counted_and_named(labels, said):
    root, paths = labels
    for path in paths[4:6]:
        path.unlink()
    with pytest.raises(TokenLabelError, match=r'2 of 30 label maps are missing: .*generate_token'):
        build(root)
    dataset = build(root, missing='image_label', pipeline=[PACK])
    (warning,) = said
    for path in paths[4:6]:
        assert str(path.relative_to(root)) in warning
    assert '2 of 30 label maps are missing' in warning
    for number in (4, 5):
        sample = dataset[number]['data_samples']
        targets = token_label_targets(
            sample.token_label_map[None], sample.token_label_box[None], 10, 3, 0.0
        )
        assert (targets[0, sample.gt_label] > 0.9999).all()
    assert torch.equal(dataset[6]['data_samples'].token_label_map, draw_label_map(6))


def test_many_missing_files_are_named_in_part(labels):
    for path in labels[1][:25]:
        path.unlink()
    with pytest.raises(TokenLabelError, match=r'25 of 30 .* and 15 more'):
        build(labels[0])
    for path in labels[1][25:]:
        path.unlink()
    for missing in ('error', 'image_label'):
        with pytest.raises(TokenLabelError, match=r'has none of the 30 label maps, such as 0/001'):
            build(labels[0], missing=missing)
    with pytest.raises(TokenLabelError, match=r'there is no folder .*elsewhere: check label_root'):
        build(labels[0] / 'elsewhere')


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b'')


def saved(content):
    return lambda path: torch.save(content, path)


class Code:
    def __reduce__(self):
        return print, ('run',)


whole = torch.stack((torch.zeros(5, 18, 18), torch.arange(5.0)[:, None, None].expand(5, 18, 18)))
nan, above, twice, between = (whole.clone() for _ in range(4))
nan[0, 0, 0, 0] = torch.nan
above[1, 0, 0, 0] = 10
twice[1, 0, 3, 3] = 4
between[1, 0, 0, 0] = 6.5
DAMAGES = {
    'truncated': (truncate, 'is not a whole label map'),
    'empty': (empty, 'is not a whole label map'),
    'code': (
        lambda path: path.write_bytes(pickle.dumps(Code(), protocol=2)),
        'could run code' if READS_LEGACY else r'is of the format before torch 1\.6',
    ),
    'no tensor': (saved(dict(labels=1)), 'it holds a dict, expected a tensor'),
    'another shape': (saved(torch.zeros(5, 18, 18)), r'\(5, 18, 18\), expected \(2, K, H, W\)'),
    'another size': (saved(whole[..., :9]), r'\(2, 5, 18, 9\), and that of the others'),
    'not finite': (saved(nan), 'not finite'),
    'other classes': (saved(above), 'run from 0 to 10, expected from 0 to 9'),
    'a class twice': (saved(twice), 'a class twice in one place'),
    'sparse': (saved(whole.to_sparse()), 'a sparse tensor'),
    'without values': (saved(whole.to('meta')), 'a meta tensor, which has no values'),
    'quantised': (saved(torch.quantize_per_tensor(whole, 1.0, 0, torch.qint8)), 'a quantised'),
    'complex': (saved(whole.to(torch.complex64)), 'holds torch.complex64 numbers'),
    'no whole number': (saved(between), 'not whole numbers'),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_file_is_named(damage, labels, said, capsys):
    root, paths = labels
    spoil, reason = DAMAGES[damage]
    spoil(paths[3])
    name = str(paths[3].relative_to(root))
    dataset = build(root, pipeline=[PACK])
    assert torch.equal(dataset[2]['data_samples'].token_label_map, draw_label_map(2))
    with pytest.raises(TokenLabelError, match=f"{name}.*{reason}.*missing='image_label'"):
        dataset[3]
    with pytest.raises(TokenLabelError, match=f'1 of 30 label maps are damaged: .*{name}'):
        build(root, check_files=True)
    assert said == []
    dataset = build(root, missing='image_label', pipeline=[PACK])
    for _ in range(2):
        sample = dataset[3]['data_samples']
        assert (sample.token_label_map[1, 0] == sample.gt_label).all()
    (warning,) = said
    assert name in warning
    assert 'damaged files in this process: 1' in warning
    assert 'run\n' not in capsys.readouterr().out


def test_a_damaged_first_file_is_named_at_the_start(labels, said):
    root, paths = labels
    truncate(paths[0])
    truncate(paths[7])
    with pytest.raises(TokenLabelError, match=r'0/001\.pt is not a whole.*check_files=True'):
        build(root)
    with pytest.raises(TokenLabelError, match=r'2 of 30 label maps are damaged: .*0/001\.pt'):
        build(root, check_files=True)
    dataset = build(root, missing='image_label')
    assert dataset.map_shape == (5, 18, 18)


def test_damaged_files_that_were_checked_are_named_once(labels, said):
    root, paths = labels
    for path in paths[2:4]:
        truncate(path)
    dataset = build(root, missing='image_label', check_files=True, pipeline=[PACK])
    for number in range(2, 4):
        dataset[number]
    (warning,) = said
    assert '2 of 30 label maps are damaged' in warning


@pytest.mark.parametrize('missing', ['error', 'image_label'])
def test_label_maps_of_other_classes_are_refused_with_which(missing, labels):
    root, paths = labels
    for path in paths:
        torch.save(whole + 990, path)
    with pytest.raises(TokenLabelError, match='run from 990 to 994, expected from 0 to 9'):
        build(root, missing=missing)


def test_published_files_are_read(tmp_path):
    """Half precision, saved as they are, also from a view of a larger tensor."""
    for number in range(2):
        label_map = draw_label_map(number, 1000).half()
        torch.save(torch.stack((label_map, label_map))[number], tmp_path / f'{number}.pt')
        read = read_label_map(str(tmp_path), f'{number}.pt', 1000, (5, 18, 18))
        assert read.dtype == torch.float32
        assert torch.equal(read, label_map.float())


def test_files_are_half_precision_while_that_holds_every_class(tmp_path):
    for classes, dtype in ((2048, torch.float16), (21841, torch.float32)):
        scores, order = torch.zeros(1, 2, 2), torch.full((1, 2, 2), classes - 1)
        write_label_map(tmp_path / 'a.pt', scores, order, classes)
        assert torch.load(tmp_path / 'a.pt').dtype == dtype
        assert read_label_map(str(tmp_path), 'a.pt')[1].eq(classes - 1).all()
    assert [path.name for path in tmp_path.iterdir()] == ['a.pt']


# Misuse


def test_misuse_is_refused_with_what_was_given(labels):
    root = labels[0]
    with pytest.raises(ValueError, match="'error' or 'image_label', got 'skip'"):
        build(root, missing='skip')
    images = dict(type='mmvitlin.Digits', split='train', pipeline=[PACK])
    with pytest.raises(ValueError, match='Digits has a pipeline: move it to TokenLabelDataset'):
        build(root, images)
    twice = dict(type='RepeatDataset', times=2, dataset=digits())
    with pytest.raises(ValueError, match='RepeatDataset wraps data sets: put TokenLabelDataset in'):
        build(root, twice)
    with pytest.raises(TypeError, match='unexpected'):
        build(root, misspelt=1)


@pytest.mark.parametrize(
    ('transform', 'instead'),
    [
        (dict(type='RandomFlip', prob=0.5), 'use mmvitlin.TokenLabelFlip'),
        (dict(type='RandomResizedCrop', scale=8), 'use mmvitlin.TokenLabelCrop around it'),
        (dict(type='CenterCrop', crop_size=8), 'use mmvitlin.TokenLabelCrop around a random'),
    ],
    ids=['flip', 'crop', 'center'],
)
def test_pipelines_that_part_images_from_label_maps_are_refused(transform, instead, tmp_path):
    """Before any file is looked for."""
    with pytest.raises(ValueError, match=f'{transform["type"]} moves the image .*: {instead}'):
        build(tmp_path / 'nothing', pipeline=[transform, PACK])


@pytest.mark.parametrize('keys', [(), ('token_label_map',)], ids=['both', 'box'])
def test_pipelines_that_drop_label_maps_are_refused(keys, labels):
    dataset = build(labels[0], pipeline=[dict(type='PackInputs', algorithm_keys=keys)])
    with pytest.raises(ValueError, match=r"drops the label maps: .*'token_label_map'"):
        dataset[0]


def test_samples_that_have_no_name_or_share_one_are_refused():
    digits = Digits('train', indices=2)
    digits.get_data_info = lambda index: dict(gt_label=0)
    with pytest.raises(TokenLabelError, match='neither img_path nor sample_name'):
        label_names(digits)
    digits.get_data_info = lambda index: dict(img_path=f'/x/a/b.{"jpg" if index else "png"}')
    with pytest.raises(TokenLabelError, match=r'0 and 1 of Digits would share .* a/b\.pt'):
        label_names(digits)


def test_digits_have_names_of_their_own_in_both_splits():
    names = [*label_names(Digits('train')), *label_names(Digits('val'))]
    assert len(set(names)) == 1797
    assert names[0] == '0/001.pt'


def test_lazy_datasets_read_nothing_until_asked(tmp_path):
    dataset = build(tmp_path / 'nothing', lazy_init=True)
    assert isinstance(dataset, TokenLabelDataset)
    with pytest.raises(TokenLabelError, match='there is no folder'):
        dataset.full_init()


# The pipelines of our configs


@pytest.mark.parametrize(
    ('config', 'size'), [('imagenet_224_token-labels', 224), ('digits_token-labels', 32)]
)
def test_the_pipelines_of_our_configs_give_what_a_token_label_head_needs(config, size, tmp_path):
    """That of ImageNet on images in folders, RandAugment and random erasing included."""
    cfg = Config.fromfile(ROOT / f'configs/_base_/datasets/{config}.py')
    settings = cfg.train_dataloader.dataset
    assert settings.type == 'mmvitlin.TokenLabelDataset'
    if settings.dataset.type == 'ImageNet':
        folders = write_folders(tmp_path, 'train', COUNT)
        settings.dataset |= dict(data_root=str(folders.parent), metainfo=METAINFO)
    settings.label_root = str(tmp_path / 'labels')
    images = DATASETS.build(settings.dataset)
    write_label_maps(tmp_path / 'labels', images)
    dataset = DATASETS.build(settings)
    boxes, same = [], 0
    for number in range(20):
        packed = dataset[number]
        assert packed['inputs'].shape == (3, size, size)
        sample = packed['data_samples']
        classes = sample.token_label_map[1].sort(0).values
        assert (classes.diff(dim=0) > 0).all()
        expected = draw_label_map(number)
        same += torch.equal(sample.token_label_map, expected)
        same += torch.equal(sample.token_label_map.flip(-1), expected)
        boxes.append(sample.token_label_box)
    assert same == 20 if size == 32 else 2 <= same <= 18  # some were turned, sheared or shifted
    left, top, width, height = torch.stack(boxes).unbind(1)
    assert (torch.stack((left, top)) >= 0).all()
    assert (torch.stack((left + width, top + height)) <= 1 + 1e-6).all()
    assert (width * height).std() > 0.05
