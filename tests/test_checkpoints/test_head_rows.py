"""A class-index file is checked by the line before a head is made of it."""

import hashlib

import pytest
import torch

from mmvitlin.checkpoints.head_rows import find_duplicates, read_class_index, select_head_rows
from mmvitlin.errors import CheckpointError


@pytest.fixture
def index_file(tmp_path):
    """Write 1000 distinct indices in falling order, `changes` (by line number) among them."""

    def write(changes=(), count=1000):
        lines = {number: str(21841 - number) for number in range(1, count + 1)} | dict(changes)
        path = tmp_path / 'classes.txt'
        path.write_text(''.join(f'{line}\n' for line in lines.values()))
        return path

    return write


def test_new_classes_take_the_rows_that_the_file_names(index_file):
    rows = read_class_index(index_file(), 21841)
    state_dict = {
        'backbone.norm3.weight': torch.arange(21841.0),
        'head.fc.weight': torch.arange(21841.0)[:, None].expand(-1, 4).half(),
        'head.fc.bias': torch.arange(21841.0),
    }
    selected = select_head_rows(state_dict, rows)
    assert selected['head.fc.weight'].shape == (1000, 4)
    assert selected['head.fc.weight'].dtype == torch.float16
    assert selected['head.fc.bias'].tolist() == list(range(21840, 20840, -1))
    assert selected['backbone.norm3.weight'] is state_dict['backbone.norm3.weight']
    assert find_duplicates(rows) == {}


def test_duplicates_are_found_with_their_lines(index_file):
    rows = read_class_index(index_file({3: 7, 10: 7, 1000: 7, 4: 21835}), 21841)
    assert find_duplicates(rows) == {7: [3, 10, 1000], 21835: [4, 6]}


@pytest.mark.parametrize(
    ('changes', 'count', 'message'),
    [
        ({}, 999, r'classes\.txt has 999 lines, and 1000 were expected'),
        ({}, 1001, r'has 1001 lines'),
        ({17: 'n01440764'}, 1000, r"line 17: 'n01440764' is not an index"),
        ({17: '1.0'}, 1000, r"line 17: '1\.0' is not"),
        ({17: '-1'}, 1000, r"line 17: '-1' is not"),
        ({1000: ''}, 1000, r"line 1000: '' is not"),
        ({17: '21841'}, 1000, r'line 17: 21841 is out of range.*0 to 21840'),
    ],
)
def test_a_bad_file_is_refused_by_the_line(index_file, changes, count, message):
    with pytest.raises(CheckpointError, match=message):
        read_class_index(index_file(changes, count), 21841)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r'none\.txt cannot be read'):
        read_class_index(tmp_path / 'none.txt', 21841)


def test_a_checksum_beside_the_file_is_checked(index_file):
    path = index_file()
    noted = path.with_name('classes.txt.sha256')
    noted.write_text(f'{hashlib.sha256(path.read_bytes()).hexdigest()}  classes.txt\n')
    assert len(read_class_index(path, 21841)) == 1000
    path.write_text(path.read_text().replace('21840', '21841', 1))
    with pytest.raises(CheckpointError, match=r'classes\.txt does not match classes.txt.sha256'):
        read_class_index(path, 30000)
