"""A damaged file gives its original content or a clear error, never other values.

Nine kinds of damage, half of them at the ends of a file. What carries no checksum is counted.
"""

import hashlib
import io
import random
import tarfile
from collections import Counter

import numpy as np
import pytest
import torch
from llama_files import FEEDFORWARD, WIDTH, block_of, llama_weights
from mmengine.fileio import get
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from mmvitlin.checkpoints.head_rows import read_class_index
from mmvitlin.checkpoints.llama import part_shapes, read_llama_blocks, write_llama_blocks
from mmvitlin.checkpoints.safe_load import load_from_file, save_safetensors
from mmvitlin.datasets import ImageNetTar
from mmvitlin.datasets.token_labels.files import read_label_map, write_label_map

DAMAGES = ('cut', 'bit', 'bytes', 'zeros', 'doubled', 'deleted', 'appended', 'empty', 'random')


def damage(content, kind, draw):
    """Return `content` with one damage of a kind, at a place that `draw` gives."""
    size = len(content)
    at = draw.randrange(size) if draw.random() < 0.5 else draw.choice((0, -1)) * draw.randrange(99)
    at %= size
    length = draw.choice((1, 2, 16, 100, 512, 3000))
    changed = bytearray(content)
    if kind == 'cut':
        return content[:at]
    if kind == 'bit':
        changed[at] ^= 1 << draw.randrange(8)
    elif kind == 'bytes':
        changed[at : at + length] = draw.randbytes(len(changed[at : at + length]))
    elif kind == 'zeros':
        at -= at % 512 if draw.random() < 0.5 else 0
        changed[at : at + length] = bytes(len(changed[at : at + length]))
    elif kind == 'doubled':
        changed[at:at] = content[at : at + length]
    elif kind == 'deleted':
        del changed[at : at + length]
    elif kind == 'appended':
        changed += draw.randbytes(length)
    elif kind == 'empty':
        return b''
    else:
        return draw.randbytes(size)
    return bytes(changed)


def fingerprint(value):
    """Describe nested data in a way that shows every change."""
    if isinstance(value, torch.Tensor):
        content = value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        return value.dtype, tuple(value.shape), hashlib.sha256(content).hexdigest()
    if isinstance(value, HistoryBuffer):
        return tuple(array.tobytes() for array in value.data), value.max_length
    if isinstance(value, np.ndarray):
        return value.tobytes(), value.shape
    if isinstance(value, dict):
        return {key: fingerprint(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [fingerprint(item) for item in value]
    return type(value), value


def checkpoint(path):
    """A checkpoint such as MMEngine's own hook writes."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    log = {'train/loss': HistoryBuffer([1.0, 0.5], [1, 1])}
    meta = dict(epoch=3, iter=70, seed=1, time='now')
    content = dict(
        meta=meta,
        state_dict=model.state_dict(),
        optimizer=optimizer.state_dict(),
        message_hub=dict(log_scalars=log, runtime_info=dict(loss=np.float64(0.5))),
    )
    torch.save(content, path)
    return lambda: load_from_file(path)


def label_map(path):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 18, 18, generator=generator)
    order = torch.rand(10, 18, 18, generator=generator).argsort(0)[:5]
    write_label_map(path, scores, order, 10)
    return lambda: read_label_map(str(path.parent), path.name, 10)


def tar(path):
    """A tar of class folders; its contents have no checksums, names and sizes have one."""
    draw = random.Random(1)
    with tarfile.open(path, 'w', format=tarfile.GNU_FORMAT) as archive:
        for number in range(12):
            member = tarfile.TarInfo(f'n{number % 3}/{number}.jpg')
            member.size = 700 + 100 * number
            archive.addfile(member, io.BytesIO(draw.randbytes(member.size)))

    def load():
        path.with_name(f'{path.name}.index.npz').unlink(missing_ok=True)
        dataset = ImageNetTar(
            str(path.parent), tar=path.name, metainfo=dict(classes=('a', 'b', 'c'))
        )
        infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        return {i['sample_name']: (i['gt_label'], len(get(i['img_path']))) for i in infos}

    return load


def tensors(path, save):
    generator = torch.Generator().manual_seed(0)
    weights = {
        f'layers.{n}.weight': torch.randn(4, 5, generator=generator).half() for n in range(9)
    }
    save(weights, path)
    return lambda: load_from_file(path)


def class_index(path, checked):
    path.write_text(''.join(f'{21840 - number}\n' for number in range(1000)))
    if checked:
        noted = path.with_name(f'{path.name}.sha256')
        noted.write_text(f'{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n')
    return lambda: read_class_index(path, 21841)


def llama(path, extracted):
    weights = llama_weights(layers=1)
    if extracted:
        write_llama_blocks(path, {0: block_of(weights, 0)}, source='test')
    else:
        torch.save(weights, path)
    return lambda: read_llama_blocks(path, part_shapes(WIDTH, FEEDFORWARD), 1, torch.float16)


# Kind -> the file, what writes it and returns what loads it, how many mutations, and whether
# checksums cover all that is loaded.
KINDS = {
    '.pth': ('model.pth', checkpoint, 2000, True),
    'label map': ('map.pt', label_map, 500, True),
    'tar': ('train.tar', tar, 500, False),
    '.safetensors of ours': ('ours.safetensors', lambda p: tensors(p, save_safetensors), 500, True),
    '.safetensors': ('other.safetensors', lambda p: tensors(p, save_file), 500, False),
    'class index, checksum': ('index.txt', lambda p: class_index(p, True), 300, True),
    'class index': ('index.txt', lambda p: class_index(p, False), 300, False),
    'LLaMA extract': ('block.safetensors', lambda p: llama(p, True), 150, True),
    'LLaMA .pth': ('consolidated.00.pth', lambda p: llama(p, False), 150, True),
}


@pytest.mark.parametrize('kind', KINDS)
def test_damage_is_named(kind, tmp_path, capsys):
    name, write, count, checked = KINDS[kind]
    path, draw = tmp_path / name, random.Random(kind)
    load = write(path)
    content, expected = path.read_bytes(), fingerprint(load())
    outcomes, wrong = Counter(same=0, named=0, silent=0, traceback=0), []
    for number in range(count):
        how = DAMAGES[number % len(DAMAGES)]
        damaged = damage(content, how, draw)
        path.write_bytes(damaged)
        try:
            outcome = 'same' if fingerprint(load()) == expected else 'silent'
        except ValueError as error:  # CheckpointError, TokenLabelError, TarError
            clear = str(path.parent) in str(error) and '\n' not in str(error)
            outcome = 'named' if clear else 'traceback'
            reason = str(error)
        except Exception as error:
            outcome, reason = 'traceback', repr(error)
        outcomes[outcome] += 1
        if outcome == 'traceback':
            wrong.append(f'{how}: {reason}')
        elif outcome == 'silent' and checked:
            wrong.append(f'{how}: silent')
    with capsys.disabled():
        print(
            f'\nmutated {kind}: {count}, same {outcomes["same"]}, clear error {outcomes["named"]}, '
            f'silently other {outcomes["silent"]}, traceback {outcomes["traceback"]}'
        )
    assert not wrong
    assert outcomes['named'] > count / 3
