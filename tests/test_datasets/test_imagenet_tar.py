"""ImageNetTar returns the samples of mmpretrain's ImageNet, and errors name damaged files."""

import hashlib
import io
import json
import math
import os
import re
import shutil
import tarfile

import numpy as np
import pytest
from digit_files import PACKINGS, pack_classes, pack_flat, write_folders
from fresh_python import start_python
from mmengine.fileio import get
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner

from mmvitlin.datasets import ImageNetTar, tar_index
from mmvitlin.datasets.tar_backend import TarError

METAINFO = dict(classes=tuple('0123456789'))
COUNT = 60  # digits on disk


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp('folders')
    return write_folders(root, 'train', COUNT)


@pytest.fixture
def tar(folders, tmp_path):
    pack_flat(folders, tmp_path / 'train.tar')
    return tmp_path / 'train.tar'


def build(root, type='mmvitlin.ImageNetTar', **options):
    cfg = dict(type=type, data_root=str(root), split='train', metainfo=METAINFO)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return DATASETS.build(cfg | options)


def samples_of(dataset):
    """(bytes, label, name of the file) of each sample."""
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [(get(i['img_path']), i['gt_label'], i['img_path'].split('/')[-1]) for i in infos]


@pytest.fixture(scope='module')
def expected(folders):
    return samples_of(build(folders.parent, 'ImageNet'))


# The same as the folders


@pytest.mark.parametrize('packing', PACKINGS)
def test_samples_order_and_labels_are_those_of_the_folders(packing, folders, expected, tmp_path):
    PACKINGS[packing](folders, tmp_path / 'train.tar')
    dataset = build(tmp_path)
    assert len(dataset) == COUNT
    assert samples_of(dataset) == expected
    assert dataset.metainfo['classes'] == METAINFO['classes']
    assert [dataset.get_cat_ids(index) for index in range(3)] == [[0]] * 3
    assert list(tmp_path.iterdir()) != [tmp_path / 'train.tar'], 'no index was kept'


def test_the_classes_are_imagenets_by_default(tmp_path):
    dataset = build(tmp_path, metainfo=None, lazy_init=True)
    reference = build(tmp_path, 'ImageNet', metainfo=None, lazy_init=True)
    assert dataset.metainfo['classes'] == reference.metainfo['classes']
    assert len(dataset.metainfo['classes']) == 1000


def test_an_annotation_file_labels_images_without_folders(folders, tmp_path):
    """As the official tar to validate on, with mmpretrain's meta/val.txt."""
    (tmp_path / 'val').mkdir()
    (tmp_path / 'meta').mkdir()
    lines = []
    for number, path in enumerate(sorted(folders.rglob('0*.png'))):
        shutil.copy(path, tmp_path / 'val')
        lines.append(f'{path.name} {number * 7 % 10}\n')
    (tmp_path / 'meta/val.txt').write_text(''.join(reversed(lines)))
    pack_flat(tmp_path / 'val', tmp_path / 'val.tar')
    ours, theirs = build(tmp_path, split='val'), build(tmp_path, 'ImageNet', split='val')
    assert samples_of(ours) == samples_of(theirs)
    (tmp_path / 'labels.txt').write_text(lines[0])
    assert len(build(tmp_path, split='val', ann_file='labels.txt')) == 1


def test_names_of_any_length_and_language_are_found(tmp_path):
    name = 'n00/' + 'ä' * 90 + '/' + 'b' * 120 + '.png'
    with tarfile.open(tmp_path / 'train.tar', 'w', format=tarfile.GNU_FORMAT) as archive:
        member = tarfile.TarInfo(name)
        member.size = 5
        archive.addfile(member, io.BytesIO(b'image'))
    for _ in range(2):  # from the tar, from the index
        dataset = build(tmp_path, metainfo=dict(classes=('one',)))
        assert [sample[:2] for sample in samples_of(dataset)] == [(b'image', 0)]
        assert dataset.get_data_info(0)['img_path'].endswith(f'/{name}')


def test_indices_choose_samples_and_another_tar_may_be_named(tar, expected):
    tar.rename(tar.with_name('other.tar'))
    assert samples_of(build(tar.parent, tar='other.tar', indices=[5, 3])) == [
        expected[5],
        expected[3],
    ]


# Workers and processes


def batches(root, type, rank):
    """Digests of the batches that one of two processes sees, with two workers, images flipped."""
    dataset = dict(
        type=type,
        data_root=root,
        split='train',
        metainfo=METAINFO,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ],
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        loader = Runner.build_dataloader(
            dict(
                dataset=DATASETS.build(dataset),
                batch_size=4,
                num_workers=2,
                sampler=dict(type='DefaultSampler', shuffle=True, seed=3),
                collate_fn=dict(type='default_collate'),
            ),
            seed=0,
        )
    sampler = loader.sampler
    sampler.rank, sampler.world_size = rank, 2
    sampler.num_samples = len(loader.dataset) // 2
    return [
        (
            hashlib.sha256(batch['inputs'].numpy().tobytes()).hexdigest(),
            [int(sample.gt_label) for sample in batch['data_samples']],
        )
        for batch in loader
    ]


@pytest.mark.slow
def test_two_processes_of_two_workers_see_the_batches_of_the_folders(folders, tar):
    roots = {'mmvitlin.ImageNetTar': str(tar.parent), 'ImageNet': str(folders.parent)}
    code = f"""
import json
from test_datasets.test_imagenet_tar import batches

print(json.dumps({{type: batches(root, type, RANK) for type, root in {roots}.items()}}))
"""
    running = [
        start_python(code.replace('RANK', str(rank)))
        for rank in (0, 1)  # both index at the same time
    ]
    outputs = [process.finish() for process in running]
    seen = [json.loads(output.splitlines()[-1]) for output in outputs]
    for of_rank in seen:
        assert of_rank['mmvitlin.ImageNetTar'] == of_rank['ImageNet']
        assert len(of_rank['ImageNet']) == math.ceil(COUNT / 2 / 4)
    assert seen[0] != seen[1]


@pytest.mark.slow
def test_one_process_indexes_and_the_others_wait(tar):
    code = (
        'from pathlib import Path; from mmvitlin.datasets.tar_index import read_tar_index; '
        f'print(len(read_tar_index(Path({str(tar)!r})).names))'
    )
    running = [start_python(code) for _ in range(3)]
    outputs = [process.finish() for process in running]
    assert sum('Indexing' in output for output in outputs) == 1
    assert len({output.splitlines()[-1] for output in outputs}) == 1
    assert sorted(path.name for path in tar.parent.iterdir()) == [
        'train.tar',
        'train.tar.index.npz',
    ]


# The index


@pytest.fixture
def scans(monkeypatch):
    """Counts how often a tar is read through."""
    calls, scan = [], tar_index._scan

    def counting(file, tar):
        calls.append(tar)
        return scan(file, tar)

    monkeypatch.setattr(tar_index, '_scan', counting)
    return calls


def test_a_tar_is_indexed_once_and_again_when_it_changes(scans, tar, expected, capsys):
    for _ in range(2):
        assert samples_of(build(tar.parent)) == expected
    assert len(scans) == 1
    assert capsys.readouterr().out.count('Indexing') == 1
    os.utime(tar, ns=(1, 1))
    assert samples_of(build(tar.parent)) == expected
    assert len(scans) == 2


@pytest.mark.parametrize('damage', [b'', b'PK\x03\x04', b'something else'])
def test_a_damaged_index_is_made_anew(damage, scans, tar, expected):
    build(tar.parent)
    index = tar.with_name('train.tar.index.npz')
    whole = index.read_bytes()
    for content in (damage, whole[: len(whole) // 2]):
        index.write_bytes(content)
        assert samples_of(build(tar.parent)) == expected
    assert len(scans) == 3


def test_an_index_that_cannot_be_kept_is_said_and_done_without(scans, tar, expected, monkeypatch):
    said = []
    monkeypatch.setattr(tar_index, 'print_log', lambda text, *rest, **more: said.append(text))

    def read_only(path, sync):
        raise PermissionError(13, 'Permission denied')

    with monkeypatch.context() as patch:
        patch.setattr(tar_index, 'atomic_write', read_only)
        for _ in range(2):
            assert samples_of(build(tar.parent)) == expected
    assert len(scans) == 2
    assert 'cannot be kept' in said[0]
    assert 'index_dir' in said[0]
    elsewhere = tar.parent / 'elsewhere'
    for _ in range(2):
        assert samples_of(build(tar.parent, index_dir=str(elsewhere))) == expected
    assert len(scans) == 3
    (kept,) = elsewhere.iterdir()
    assert re.fullmatch(r'train\.tar\.[0-9a-f]{16}\.index\.npz', kept.name)


def test_tars_of_one_name_keep_indices_of_their_own_in_a_folder(scans, tar, expected, tmp_path):
    other = tmp_path / 'other'
    other.mkdir()
    shutil.copy2(tar, other)  # of the same size and time
    for _ in range(2):
        for root in (tar.parent, other):
            dataset = build(root, index_dir=str(tmp_path / 'indices'))
            assert f'{root}/train.tar?' in dataset.get_data_info(0)['img_path']
    assert len(scans) == 2


def test_a_tar_that_took_the_place_of_another_is_read_anew(tar, folders, expected):
    assert samples_of(build(tar.parent)) == expected
    replaced = tar.with_name('new.tar')
    pack_flat(folders, replaced)
    with replaced.open('r+b') as file:  # the same places, other bytes
        content = bytearray(file.read())
        for member in members_of(replaced):
            content[member.offset_data : member.offset_data + member.size] = bytes(member.size)
        file.seek(0)
        file.write(content)
    replaced.replace(tar)
    assert not any(any(content) for content, *_ in samples_of(build(tar.parent)))


def test_a_line_that_is_repeated_is_a_sample_each_time(folders, tmp_path):
    pack_flat(folders, tmp_path / 'train.tar')
    name = build(tmp_path).get_data_info(0)['img_path'].split('/', 3)[-1].rpartition('+')[2]
    name = name.split('/', 1)[1]
    (tmp_path / 'lines.txt').write_text(f'{name} 3\n{name} 3\n')
    dataset = build(tmp_path, ann_file='lines.txt')
    assert len(dataset) == 2
    assert dataset.get_gt_labels().tolist() == [3, 3]


# Damage and misuse


def test_a_compressed_tar_is_refused_with_what_to_do(tar):
    with tarfile.open(tar, 'w:gz') as archive:
        archive.add(__file__, 'a/x.png')
    with pytest.raises(TarError, match=r'is compressed.*decompress it'):
        build(tar.parent)


def test_a_member_that_is_stored_sparsely_is_refused(tar):
    with tarfile.open(tar, 'w') as archive:
        member = tarfile.TarInfo('a/x.png')
        member.pax_headers = {'GNU.sparse.map': '0,1', 'GNU.sparse.size': '1'}
        member.size = 1
        archive.addfile(member, io.BytesIO(b'1'))
    with pytest.raises(TarError, match=r'a/x\.png in .* is stored sparsely'):
        build(tar.parent)


def cut(tar, at):
    tar.write_bytes(tar.read_bytes()[:at])


def members_of(tar):
    named = dict(fileobj=tar) if isinstance(tar, io.BytesIO) else dict(name=tar)
    with tarfile.open(**named) as archive:
        return [member for member in archive.getmembers() if member.isreg()]


@pytest.mark.parametrize('packing', ['flat', 'a tar a class'])
def test_a_tar_cut_off_in_a_member_is_refused_by_its_name(packing, folders, tmp_path):
    tar = tmp_path / 'train.tar'
    PACKINGS[packing](folders, tar)
    member = members_of(tar)[4]
    cut(tar, member.offset_data + 30)
    with pytest.raises(TarError, match=rf'train\.tar was cut off in .*{member.name[-8:]}'):
        build(tmp_path)
    assert list(tmp_path.iterdir()) == [tar]


@pytest.mark.parametrize('shift', [0, 100], ids=['between members', 'in a header'])
def test_a_tar_cut_off_after_a_member_is_refused_by_its_name(shift, tar):
    before, member = members_of(tar)[3:5]
    cut(tar, member.offset + shift)
    with pytest.raises(TarError, match=rf'was cut off after .*{before.name[-8:]}'):
        build(tar.parent)


def test_a_tar_of_a_class_cut_off_within_the_whole_is_refused(folders, tmp_path):
    """The outer tar is whole, and says nothing."""
    pack_classes(folders, tmp_path / 'whole.tar')
    with (
        tarfile.open(tmp_path / 'whole.tar') as whole,
        tarfile.open(tmp_path / 'train.tar', 'w') as archive,
    ):
        for member in whole.getmembers():
            content = whole.extractfile(member).read()
            if member.name == 'n05.tar':
                content = content[: members_of(io.BytesIO(content))[-1].offset_data + 5]
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(TarError, match=r'was cut off in n05/\d{4}\.png'):
        build(tmp_path)


def test_a_tar_that_shrinks_under_a_running_training_is_named_with_the_member(tar):
    dataset = build(tar.parent)
    last = max(
        (dataset.get_data_info(i)['img_path'] for i in range(COUNT)),
        key=lambda path: int(path.partition('?')[2].partition('+')[0]),
    )
    cut(tar, members_of(tar)[-1].offset_data + 10)
    with pytest.raises(TarError, match=rf'it ends \d+ bytes before .*{last[-8:]} does'):
        get(last)


def test_what_is_no_tar_is_refused(tmp_path):
    (tmp_path / 'train.tar').write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(TarError, match=r'train\.tar was cut off after its beginning'):
        build(tmp_path)


def test_links_are_refused_with_what_to_do(tmp_path):
    with tarfile.open(tmp_path / 'train.tar', 'w') as archive:
        member = tarfile.TarInfo('n00/link.png')
        member.type, member.linkname = tarfile.SYMTYPE, 'elsewhere.png'
        archive.addfile(member)
    with pytest.raises(TarError, match=r'n00/link\.png .* --dereference'):
        build(tmp_path)


def test_misuse_is_refused_with_what_was_given(folders, tar, tmp_path):
    with pytest.raises(ValueError, match="'train' and 'val', got 'test'"):
        build(tmp_path, split='test')
    with pytest.raises(FileNotFoundError, match=r'there is no .*val\.tar: check data_root'):
        build(tmp_path, split='val')
    with pytest.raises(TarError, match='10 class folders or tars, and metainfo has 1000'):
        build(tmp_path, metainfo=None)
    (tmp_path / 'labels.txt').write_text('n00/0000.png zero\n')
    with pytest.raises(TarError, match=r"labels\.txt, line 1: expected 'NAME LABEL'"):
        build(tmp_path, ann_file='labels.txt')
    pack_flat(folders / 'n03', tmp_path / 'val.tar')
    with pytest.raises(TarError, match=r'images outside of class folders, such as \d{4}\.'):
        build(tmp_path, split='val')
    with pytest.raises(ValueError, match=r'expected tar://TAR\?OFFSET\+SIZE/MEMBER'):
        get('tar://somewhere')


def test_a_spelling_mistake_is_a_type_error():
    with pytest.raises(TypeError, match='splitt'):
        ImageNetTar(splitt='train')


# Damage that a tar does not say by itself


def named(name, content=b'x'):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, io.BytesIO(content)


def pack(path, *members):
    with tarfile.open(path, 'w') as archive:
        for member, content in members:
            archive.addfile(member, content)


def test_a_zeroed_header_does_not_end_the_tar(tar):
    """A block of zeros is an archive's end mark; what follows it must be zeros as well."""
    with tarfile.open(tar) as archive:
        places = [member.offset for member in archive if member.isfile()]
    content = bytearray(tar.read_bytes())
    content[places[40] : places[40] + 512] = bytes(512)
    tar.write_bytes(content)
    unread = len(content.rstrip(b'\0')) - places[40] - 512
    with pytest.raises(TarError, match='bytes that were not read after it') as error:
        build(tar.parent)
    said = int(re.search(r'and (\d+) bytes', str(error.value))[1])
    assert unread <= said < len(content) - places[40]


def test_a_zeroed_header_in_an_inner_tar_is_named(folders, tmp_path):
    pack_classes(folders, tmp_path / 'train.tar')
    with tarfile.open(tmp_path / 'train.tar') as archive:
        inner = next(member for member in archive if member.name.endswith('3.tar'))
        with tarfile.open(fileobj=archive.extractfile(inner)) as images:
            offset = inner.offset_data + [member.offset for member in images][-2]
    content = bytearray((tmp_path / 'train.tar').read_bytes())
    content[offset : offset + 512] = bytes(512)
    (tmp_path / 'train.tar').write_bytes(content)
    with pytest.raises(TarError, match=r'an end mark after n03/.*bytes that were not read'):
        build(tmp_path)


def test_what_follows_the_end_of_a_tar_is_named(tar):
    tar.write_bytes(tar.read_bytes() + b'and more' + bytes(504))
    with pytest.raises(TarError, match='512 bytes that were not read'):
        build(tar.parent)


def test_zeros_may_follow_the_end_of_a_tar(tar):
    tar.write_bytes(tar.read_bytes() + bytes(2**21))
    assert len(build(tar.parent)) == COUNT


def test_absolute_names_are_refused(tmp_path):
    pack(tmp_path / 'train.tar', named('/etc/x.jpg'))
    with pytest.raises(TarError, match=r"'/etc/x\.jpg' in .*train\.tar is an absolute name"):
        build(tmp_path)


def test_odd_names_are_read_from_their_own_place(tmp_path):
    names = ['a/new\nline.jpg', 'a/x?2+3/y.jpg', 'a/%41.jpg']
    pack(tmp_path / 'train.tar', *(named(name, name.encode()) for name in names))
    dataset = build(tmp_path, metainfo=dict(classes=('a',)))
    infos = [dataset.get_data_info(index) for index in range(3)]
    assert {get(i['img_path']).decode() for i in infos} == set(names)


def test_an_empty_image_is_named(tmp_path):
    pack(tmp_path / 'train.tar', named('a/b.jpg', b''))
    with pytest.raises(TarError, match=r'a/b\.jpg in .*train\.tar is empty'):
        build(tmp_path, metainfo=dict(classes=('a',)))


def test_a_negative_size_is_damage(tmp_path):
    member, _ = named('a/b.jpg', b'')
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b'\xff' + (2**88 - 1024).to_bytes(11, 'big')
    checksum = sum(header[:148]) + sum(header[156:]) + 8 * 32
    header[148:156] = b'%06o\0 ' % checksum
    (tmp_path / 'train.tar').write_bytes(header + bytes(1024))
    with pytest.raises(TarError, match=r'train\.tar'):
        build(tmp_path, metainfo=dict(classes=('a',)))


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'a.jpg 7\n', 'line 1: label 7 is out of range, metainfo has 1'),
        (b'\xff\xfe', 'is not a text'),
    ],
)
def test_a_wrong_annotation_file_is_named(tmp_path, content, message):
    pack(tmp_path / 'train.tar', named('a.jpg'))
    (tmp_path / 'labels.txt').write_bytes(content)
    with pytest.raises(TarError, match=rf'labels\.txt.*{message}'):
        build(tmp_path, metainfo=dict(classes=('a',)), ann_file='labels.txt')
