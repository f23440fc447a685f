"""Single blocks of LLaMA are read from every layout and checked, without the other weights."""

import json
import re
import sys

import pytest
import torch
from fresh_python import run_python
from goldens import relative_error
from llama_files import (
    HEADS,
    LAYERS,
    LAYOUTS,
    SHAPES,
    WIDTH,
    block_of,
    llama_weights,
)
from safetensors.torch import save_file

from mmvitlin.checkpoints import llama as llama_module
from mmvitlin.checkpoints.llama import (
    PARTS,
    LLaMACheckpoint,
    part_shapes,
    random_llama_blocks,
    read_llama_blocks,
    write_llama_blocks,
)
from mmvitlin.errors import CheckpointError
from mmvitlin.ops.llama_block import llama_block

WEIGHTS = llama_weights()


def read(path, shapes=SHAPES, num_blocks=1, dtype=torch.float32):
    return read_llama_blocks(path, shapes, num_blocks, dtype)


@pytest.fixture
def extracted(tmp_path):
    path = tmp_path / 'block.safetensors'
    write_llama_blocks(path, {3: block_of(WEIGHTS, 3)}, source='test')
    return path


def test_a_folder_with_one_file_is_held_to_its_checksums(extracted, tmp_path):
    folder = tmp_path / 'folder'
    folder.mkdir()
    content = bytearray(extracted.read_bytes())
    content[-3] ^= 1
    (folder / 'model.safetensors').write_bytes(content)
    with pytest.raises(CheckpointError, match='checksum'):
        read(folder)


@pytest.mark.parametrize('text', ['abc', '[]'])
def test_metadata_of_another_origin_is_no_checksum(text, tmp_path):
    weights = {k: v.contiguous() for k, v in block_of(WEIGHTS, 3).items()}
    named = {f'layers.3.{part}': value for part, value in weights.items()}
    save_file(named, tmp_path / 'other.safetensors', {'sha256': text})
    assert read(tmp_path / 'other.safetensors')


def test_a_shard_without_the_others_is_refused_though_no_shape_was_asked_for(tmp_path):
    shapes = part_shapes(WIDTH, 32)
    half = {
        f'layers.0.{part}': torch.ones(
            [n // 2 if i == PARTS[part].split else n for i, n in enumerate(shapes[part])]
        )
        for part in PARTS
    }
    torch.save(half, tmp_path / 'consolidated.00.pth')
    with pytest.raises(CheckpointError, match=r'must lie side by side'):
        LLaMACheckpoint(tmp_path / 'consolidated.00.pth').read(0)


def test_a_weight_of_other_dimensions_is_named(tmp_path):
    weights = {f'layers.0.{part}': torch.ones(()) for part in PARTS}
    torch.save(weights, tmp_path / 'consolidated.00.pth')
    with pytest.raises(CheckpointError, match=r'has the shape \(\), and 1 dimensions'):
        LLaMACheckpoint(tmp_path / 'consolidated.00.pth').read(0)


# What is read


@pytest.mark.parametrize('named', ['file', 'folder'])
@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_layout_gives_the_last_blocks(layout, named, tmp_path):
    path = LAYOUTS[layout](tmp_path, WEIGHTS)
    blocks = read(path if named == 'file' else tmp_path, num_blocks=2, dtype=torch.float64)
    x = torch.randn(2, 5, WIDTH, dtype=torch.float64)
    assert len(blocks) == 2
    for block, layer in zip(blocks, (LAYERS - 2, LAYERS - 1)):
        theirs = {name: value.double() for name, value in block_of(WEIGHTS, layer).items()}
        expected = llama_block(x, theirs, HEADS)
        assert relative_error(llama_block(x, block, HEADS), expected) < 1e-12
        same = {name for name in PARTS if torch.equal(block[name], theirs[name])}
        permuted = {'attention.wq.weight', 'attention.wk.weight'}
        assert same == (set(PARTS) if 'consolidated' in layout else set(PARTS) - permuted)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_blocks_come_in_the_dtype_that_is_asked_for(dtype, extracted):
    (block,) = read(extracted, dtype=dtype)
    for name, value in block.items():
        assert torch.equal(value, WEIGHTS[f'layers.3.{name}'].to(dtype)), name


def test_pieces_of_a_tensor_make_the_tensor(tmp_path, monkeypatch):
    monkeypatch.setattr(llama_module, 'PIECE_BYTES', 5 * WIDTH * 2)  # five rows of float16
    LAYOUTS['consolidated.00.pth and 01'](tmp_path, WEIGHTS)
    (block,) = read(tmp_path)
    for name, value in block.items():
        assert torch.equal(value, WEIGHTS[f'layers.3.{name}'].float()), name


def test_blocks_lie_in_memory_of_their_own(extracted):
    (block,) = read(extracted, dtype=torch.float16)
    extracted.write_bytes(b'')  # what was mapped would now be a crash
    assert all(torch.equal(value, WEIGHTS[f'layers.3.{name}']) for name, value in block.items())


def test_other_layers_are_never_read(tmp_path):
    broken = {
        name: value if name.startswith('layers.3.') else torch.full_like(value, torch.nan)
        for name, value in WEIGHTS.items()
    }
    torch.save(broken, tmp_path / 'consolidated.00.pth')
    assert read(tmp_path)
    with pytest.raises(CheckpointError, match=r'layers\.2\.attention\.wq\.weight .* not finite'):
        read(tmp_path, num_blocks=2)


MEASURE = """
    import re, torch
    from pathlib import Path
    import safetensors
    from mmvitlin.checkpoints.llama import part_shapes, read_llama_blocks

    def peak():
        status = Path('/proc/self/status').read_text()
        return int(re.search(r'VmHWM:\\s*(\\d+) kB', status)[1]) * 1024

    Path('/proc/self/clear_refs').write_text('5')  # the peak begins anew
    before = peak()
    (block,) = read_llama_blocks({path!r}, part_shapes({width}, {feedforward}), 1, torch.{dtype})
    print((peak() - before - sum(value.nbytes for value in block.values())) / 1e6)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc')
@pytest.mark.parametrize('layout', ['consolidated.00.pth', 'model.safetensors'])
@pytest.mark.parametrize('dtype', ['float16', 'float32'])
def test_reading_takes_little_more_memory_than_the_block(layout, dtype, tmp_path):
    """A fixed amount more: the block has 26 MB in float16, and nine others lie around it."""
    width, feedforward = 1024, 2816
    one = {name: torch.zeros(s).half() for name, s in part_shapes(width, feedforward).items()}
    weights = {f'layers.{i}.{part}': v.clone() for i in range(10) for part, v in one.items()}
    path = LAYOUTS[layout](tmp_path, weights)
    sizes = dict(width=width, feedforward=feedforward, dtype=dtype)
    megabytes = run_python(MEASURE.format(path=str(path), **sizes))
    assert float(megabytes.splitlines()[-1]) < 80  # 20 to 42 were seen; the others have 230


def test_random_blocks_are_the_same_ones_always_and_keep_the_scale():
    torch.manual_seed(1)
    first = random_llama_blocks(SHAPES, 2, torch.float32)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    second = random_llama_blocks(SHAPES, 2, torch.float32)
    for one, other in zip(first, second):
        assert all(torch.equal(one[name], other[name]) for name in PARTS)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    name = 'attention.wq.weight'
    assert not torch.equal(first[0][name], first[1][name])
    x = torch.randn(2, 9, WIDTH)
    assert 0.5 < (llama_block(x, first[0], HEADS) - x).std() < 2


# The extracted file


def test_an_extracted_file_says_what_it_holds(extracted):
    from safetensors import safe_open

    with safe_open(extracted, 'pt') as file:
        metadata = file.metadata()
        assert sorted(file.keys()) == sorted(f'layers.3.{part}' for part in PARTS)
    assert (metadata['layers'], metadata['dtype'], metadata['source']) == ('3', 'float16', 'test')
    assert set(json.loads(metadata['sha256'])) == {f'layers.3.{part}' for part in PARTS}
    assert LLaMACheckpoint(extracted).layers == [3]


def test_a_damaged_byte_is_found_by_the_checksum(extracted):
    content = bytearray(extracted.read_bytes())
    content[-1] ^= 1
    extracted.write_bytes(content)
    with pytest.raises(CheckpointError, match=r'layers\.3\.\S+ .* does not match its checksum'):
        read(extracted)


@pytest.mark.parametrize('wrap', [lambda value: value, torch.nn.Parameter], ids=['', 'parameter'])
def test_a_damaged_byte_of_metas_file_is_found_by_the_archives_checksum(wrap, tmp_path):
    path = tmp_path / 'consolidated.00.pth'
    torch.save({name: wrap(value) for name, value in WEIGHTS.items()}, path)
    content = bytearray(path.read_bytes())
    start = content.index(WEIGHTS['layers.3.feed_forward.w2.weight'].numpy().tobytes())
    content[start + 50] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r'consolidated\.00\.pth .*does not match its checksum'
    ):
        read(path)
    assert LLaMACheckpoint(path).read(2)  # the others are whole


def test_numbers_that_are_no_floating_point_are_refused(tmp_path):
    weights = {name: value.view(torch.int16) for name, value in WEIGHTS.items()}
    torch.save(weights, tmp_path / 'consolidated.00.pth')
    refused(tmp_path / 'consolidated.00.pth', 'holds torch.int16 numbers, expected floating')


def test_a_write_that_fails_leaves_the_old_file(extracted, monkeypatch):
    before = extracted.read_bytes()

    def full_disk(descriptor):
        raise OSError('no space left')

    monkeypatch.setattr('os.fsync', full_disk)
    with pytest.raises(OSError, match='no space left'):
        write_llama_blocks(extracted, {0: block_of(WEIGHTS, 0)}, source='new')
    assert extracted.read_bytes() == before
    assert list(extracted.parent.iterdir()) == [extracted]


# What is refused


def refused(path, message, **options):
    with pytest.raises(CheckpointError, match=message) as error:
        read(path, **options)
    assert str(path) in str(error.value)


def test_nothing_there_says_how_to_get_it(tmp_path):
    refused(tmp_path / 'llama.pth', r'there is no file of LLaMA.* come from Meta')
    refused(tmp_path, r'is a folder without .* or consolidated\.00\.pth.*extract_llama_block')


def test_another_model_is_refused(tmp_path):
    save_file({'blocks.0.weight': torch.zeros(2)}, tmp_path / 'vit.safetensors')
    refused(tmp_path / 'vit.safetensors', r'has no block of LLaMA')
    torch.save([1, 2], tmp_path / 'list.pth')
    refused(tmp_path / 'list.pth', 'holds a list')


def test_too_few_blocks_are_refused(extracted):
    refused(extracted, '1 blocks of LLaMA, and 2 were asked for', num_blocks=2)


def test_another_width_is_refused_with_both_shapes(extracted):
    message = re.escape('is (64, 64), and (32, 32) was expected')
    refused(extracted, message, shapes=part_shapes(32, 176))


def test_a_part_that_is_missing_is_named(tmp_path):
    """As in one of several files that is given without its index."""
    path = LAYOUTS['model.safetensors.index.json'](tmp_path, WEIGHTS)
    shard = tmp_path / 'model-00001-of-00002.safetensors'
    refused(shard, r'lacks ffn_norm\.weight of layer 1: name the folder or the index')
    (tmp_path / 'model-00002-of-00002.safetensors').unlink()
    with pytest.raises(CheckpointError, match=r'00002\.safetensors is missing beside its index'):
        read(path)


@pytest.mark.parametrize('value', [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_are_refused_by_the_tensor(value, tmp_path):
    weights = {name: tensor.clone() for name, tensor in WEIGHTS.items()}
    weights['layers.3.feed_forward.w2.weight'][-1, -1] = value
    path = LAYOUTS['model.safetensors'](tmp_path, weights)
    refused(path, r'model\.layers\.3\.mlp\.down_proj\.weight .* not finite: the file is damaged')


def test_numbers_that_float16_does_not_hold_are_refused_with_what_to_do(tmp_path):
    weights = {name: tensor.float() for name, tensor in WEIGHTS.items()}
    weights['layers.3.attention_norm.weight'][0] = 1e6
    path = LAYOUTS['consolidated.00.pth'](tmp_path, weights)
    assert read(path)
    refused(path, 'not finite: take another dtype', dtype=torch.float16)


@pytest.mark.parametrize('layout', ['consolidated.00.pth', 'model.safetensors'])
def test_a_file_that_was_cut_off_is_refused(layout, tmp_path):
    path = LAYOUTS[layout](tmp_path, WEIGHTS)
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, 'is not a whole')


def test_the_old_format_of_torch_is_refused_with_what_to_do(tmp_path):
    path = tmp_path / 'consolidated.00.pth'
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    refused(path, r'before torch 1\.6, which cannot be read in part')


def test_an_index_of_another_kind_is_refused(tmp_path):
    path = tmp_path / 'model.safetensors.index.json'
    path.write_text('{"files": []}')
    refused(path, 'is not the index of a model')


def test_a_missing_package_is_named(extracted, monkeypatch):
    monkeypatch.setitem(sys.modules, 'safetensors', None)
    with pytest.raises(ImportError, match='pip install safetensors'):
        read(extracted)
