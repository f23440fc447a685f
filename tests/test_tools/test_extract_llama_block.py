"""tools/extract_llama_block.py writes the layers of a LLaMA, whole or not at all."""

import re

import pytest
import torch
from llama_files import LAYOUTS, SHAPES, block_of, llama_weights

from mmvitlin.checkpoints.llama import read_llama_blocks

WEIGHTS = llama_weights()


@pytest.fixture
def source(tmp_path):
    return LAYOUTS['consolidated.00.pth'](tmp_path, WEIGHTS)


@pytest.fixture
def extract(run_tool, source, tmp_path):
    def run(*arguments, dst='block.safetensors'):
        run_tool('extract_llama_block.py', source, tmp_path / dst, *arguments)
        return tmp_path / dst

    return run


def test_the_last_layer_is_taken_as_it_is(extract, capsys):
    (block,) = read_llama_blocks(extract(), SHAPES, 1, torch.float16)
    assert all(torch.equal(block[part], v) for part, v in block_of(WEIGHTS, 3).items())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == '[1/9] layers.3.attention.wq.weight'
    assert lines[8].startswith('[9/9] ')
    assert re.search(r'block\.safetensors: layer 3 of .*consolidated\.00\.pth, 0 MB', lines[9])


def test_layers_and_dtype_are_those_asked_for(extract):
    path = extract('--layers', 2, 0, '--dtype', 'bfloat16')
    blocks = read_llama_blocks(path, SHAPES, 2, torch.bfloat16)
    for block, layer in zip(blocks, (0, 2)):
        for part, value in block_of(WEIGHTS, layer).items():
            assert torch.equal(block[part], value.bfloat16())


def test_a_layer_that_is_not_there_is_refused_in_one_line(extract, tmp_path):
    with pytest.raises(SystemExit) as end:
        extract('--layers', 3, 4)
    assert re.search(r'^error: .* has no layer 4; it has \[0, 1, 2, 3\]$', end.value.code)
    assert not (tmp_path / 'block.safetensors').exists()


def test_a_file_that_is_there_is_kept_unless_forced(extract, tmp_path, capsys):
    (tmp_path / 'block.safetensors').write_text('precious')
    with pytest.raises(SystemExit):
        extract()
    assert 'is there already; --force overwrites it' in capsys.readouterr().err
    assert (tmp_path / 'block.safetensors').read_text() == 'precious'
    assert extract('--force').stat().st_size > 1000


def test_another_kind_of_file_is_refused(extract, capsys):
    with pytest.raises(SystemExit):
        extract(dst='block.pth')
    assert 'must end in .safetensors, got' in capsys.readouterr().err
