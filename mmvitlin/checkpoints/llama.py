"""Reading single blocks of LLaMA without loading the whole model.

A file of 13 GB is mapped, not loaded. The tensors of a block are mapped, checked and copied piece
by piece, and each piece is released after its copy. Reading a block therefore takes no more memory
than the block, however large the file is.

Names are Meta's, 'layers.31.attention.wq.weight'. The Hugging Face layout has others, and permutes
the rows of q and k within each head for its rotary positions, q and k alike: where no rotary
positions are used, the products of q and k are the same, and the rows are left as they are.
"""

import hashlib
import json
import logging
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.logging import print_log
from torch import Tensor

from mmvitlin.checkpoints.atomic_write import atomic_write
from mmvitlin.checkpoints.safe_load import (
    check_tensor,
    import_safetensors,
    load_from_file,
    save_safetensors,
)
from mmvitlin.errors import CheckpointError

PIECE_BYTES = 2**22  # of a file that are mapped at once


class Part(NamedTuple):
    """A tensor of a block."""

    hugging_face: str  # its name in the Hugging Face layout
    shape: tuple[str, ...]  # of 'C' and 'F', the widths of tokens and feed-forward layers
    split: int | None  # dimension split between Meta's shards; None if each has all


PARTS = {
    'attention.wq.weight': Part('self_attn.q_proj.weight', ('C', 'C'), 0),
    'attention.wk.weight': Part('self_attn.k_proj.weight', ('C', 'C'), 0),
    'attention.wv.weight': Part('self_attn.v_proj.weight', ('C', 'C'), 0),
    'attention.wo.weight': Part('self_attn.o_proj.weight', ('C', 'C'), 1),
    'feed_forward.w1.weight': Part('mlp.gate_proj.weight', ('F', 'C'), 0),
    'feed_forward.w2.weight': Part('mlp.down_proj.weight', ('C', 'F'), 1),
    'feed_forward.w3.weight': Part('mlp.up_proj.weight', ('F', 'C'), 0),
    'attention_norm.weight': Part('input_layernorm.weight', ('C',), None),
    'ffn_norm.weight': Part('post_attention_layernorm.weight', ('C',), None),
}
FROM_HUGGING_FACE = {part.hugging_face: name for name, part in PARTS.items()}

# Files that a folder may have, in order of preference.
LAYOUTS = (
    'model.safetensors.index.json',
    'model.safetensors',
    'pytorch_model.bin.index.json',
    'pytorch_model.bin',
    'consolidated.00.pth',
)
HOW_TO_GET = (
    'The weights of LLaMA-7B come from Meta, on request and under its own licence; take its '
    "consolidated.00.pth, a model in the Hugging Face layout (file or folder), or the one block's "
    'file that tools/extract_llama_block.py makes of either'
)


def part_shapes(embed_dims: int, feedforward_channels: int) -> dict[str, tuple[int, ...]]:
    """Names of a block's tensors -> their shapes."""
    widths = {'C': embed_dims, 'F': feedforward_channels}
    return {name: tuple(widths[key] for key in part.shape) for name, part in PARTS.items()}


def read_llama_blocks(
    checkpoint: str | Path,
    shapes: Mapping[str, tuple[int, ...]],
    num_blocks: int,
    dtype: torch.dtype,
) -> list[dict[str, Tensor]]:
    """Read the last blocks of a checkpoint of LLaMA.

    Args:
        checkpoint: Meta's consolidated.00.pth (those beside it are its other shards), a
            .safetensors or .bin file or the .index.json of several in the Hugging Face layout, a
            folder with one of these, or a file of tools/extract_llama_block.py.
        shapes: as `part_shapes` returns them.
        num_blocks: number of blocks, which are the last ones of the checkpoint.
        dtype: of the result.

    Returns:
        For each block, in the order of the layers, names as in `PARTS` -> tensors in memory.

    Raises:
        CheckpointError: the file does not exist, is none of these or is cut off, or has fewer
            blocks; or a tensor, which the message names, is missing, mismatched, not finite in
            `dtype`, or differs from its checksum.
        ImportError: a .safetensors file, and safetensors is not installed.
    """
    llama = LLaMACheckpoint(checkpoint)
    if len(llama.layers) < num_blocks:
        raise CheckpointError(
            f'{checkpoint} has {len(llama.layers)} blocks of LLaMA, and {num_blocks} were asked '
            'for: lower num_blocks, or extract more --layers'
        )
    layers = llama.layers[-num_blocks:]
    blocks = [llama.read(layer, shapes, dtype) for layer in layers]
    numbers = ', '.join(map(str, layers))
    print_log(f'LLaMA: layer {numbers} read from {checkpoint}', 'current', logging.INFO)
    return blocks


def random_llama_blocks(
    shapes: Mapping[str, tuple[int, ...]], num_blocks: int, dtype: torch.dtype
) -> list[dict[str, Tensor]]:
    """Draw random blocks that keep the scale of their input; every call draws the same ones.

    The generator is local and has a fixed seed, so that all processes and resumed runs agree.
    """
    generator = torch.Generator().manual_seed(0)
    blocks = []
    for _ in range(num_blocks):
        drawn = {
            name: torch.ones(shape, device='cpu')
            if len(shape) == 1
            else torch.empty(shape, device='cpu').normal_(0, shape[1] ** -0.5, generator=generator)
            for name, shape in shapes.items()
        }
        blocks.append({name: value.to(dtype) for name, value in drawn.items()})
    return blocks


class LLaMACheckpoint:
    """Places of the blocks in a checkpoint of LLaMA; opening it reads names only.

    Args:
        checkpoint: as for `read_llama_blocks`.

    Attributes:
        layers: the numbers of its blocks, ascending.

    Raises:
        CheckpointError: as `read_llama_blocks`.
    """

    def __init__(self, checkpoint: str | Path):
        self.path = Path(checkpoint).expanduser()
        self._where: dict[tuple[int, str], list[tuple[Path, str]]] = {}
        self._sums: dict[str, str] = {}
        files = list(_find_files(self.path))
        for file, names in files:
            for name in names:
                found = re.fullmatch(r'(?:model\.)?layers\.(\d+)\.(.+)', name)
                if found:
                    part = FROM_HUGGING_FACE.get(found[2], found[2])
                    self._where.setdefault((int(found[1]), part), []).append((file, name))
            if len(files) == 1 and file.suffix == '.safetensors':
                self._sums = _read_sums(file)
        self.layers = sorted({layer for layer, part in self._where if part in PARTS})
        if not self.layers:
            raise CheckpointError(
                f'{self.path} has no block of LLaMA: no tensor is called layers.N.attention.wq'
                f'.weight or model.layers.N.self_attn.q_proj.weight. {HOW_TO_GET}'
            )

    def read(
        self,
        layer: int,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        dtype: torch.dtype | None = None,
        report: Callable[[str], None] = lambda name: None,
    ) -> dict[str, Tensor]:
        """Read one block.

        Args:
            layer: its number, one of `layers`.
            shapes: expected shapes; None for those of a LLaMA of the checkpoint's width.
            dtype: of the result; None for that in the checkpoint.
            report: called with the name of each tensor before it is read.

        Returns:
            Names as in `PARTS` -> tensors in memory.

        Raises:
            CheckpointError: as `read_llama_blocks`.
        """
        if layer not in self.layers:
            raise CheckpointError(f'{self.path} has no layer {layer}; it has {self.layers}')
        missing = [part for part in PARTS if (layer, part) not in self._where]
        if missing:
            raise CheckpointError(
                f'{self.path} lacks {", ".join(missing)} of layer {layer}: name the folder or the '
                'index, where the model lies in several files'
            )
        if shapes is None:
            (width,) = self._whole_shape(layer, 'attention_norm.weight')
            shapes = part_shapes(width, self._whole_shape(layer, 'feed_forward.w1.weight')[0])
        block = {}
        for part in PARTS:
            report(f'layers.{layer}.{part}')
            block[part] = self._read_part(layer, part, shapes[part], dtype)
        return block

    def _shards(self, layer: int, part: str) -> list[tuple[Path, str]]:
        """Return the files of a tensor; a tensor that is not split is whole in each shard."""
        places = self._where[layer, part]
        return places if PARTS[part].split is not None else places[:1]

    def _whole_shape(self, layer: int, part: str) -> tuple[int, ...]:
        """Return the shape of a tensor after its shards are concatenated."""
        split = PARTS[part].split
        shapes = [_describe(*place)[0] for place in self._shards(layer, part)]
        ndim = 1 if part.endswith('norm.weight') else 2
        if any(len(shape) != ndim for shape in shapes):
            raise CheckpointError(
                f'layers.{layer}.{part} in {self.path} has the shape {shapes[0]}, and {ndim} '
                'dimensions were expected: the file is of another model, or damaged'
            )
        whole = list(shapes[0])
        if split is not None:
            whole[split] = sum(shape[split] for shape in shapes)
        return tuple(whole)

    def _read_part(
        self, layer: int, part: str, shape: tuple[int, ...], dtype: torch.dtype | None
    ) -> Tensor:
        """Concatenate a tensor from its shards; only Meta's larger models have several."""
        places, split = self._shards(layer, part), PARTS[part].split
        shards = [_describe(*place) for place in places]
        whole = self._whole_shape(layer, part)
        label = f'layers.{layer}.{part}'
        if whole != shape:
            raise CheckpointError(
                f'{label} in {self.path} is {whole}, and {shape} was expected: llama= of the '
                'backbone must give the embed_dims and feedforward_channels of this LLaMA, and all '
                'consolidated.*.pth of a model must lie side by side'
            )
        result = torch.empty(whole, dtype=dtype or shards[0][1], device='cpu')
        ends = [0]
        for size, _ in shards:
            ends.append(ends[-1] + size[split or 0])
        digest = hashlib.sha256()
        for place, (start, end) in zip(places, pairwise(ends)):
            _copy(*place, result.narrow(split or 0, start, end - start), digest)
        if label in self._sums and digest.hexdigest() != self._sums[label]:
            raise CheckpointError(
                f'{label} in {self.path} does not match its checksum: the file was damaged; '
                'copy or extract it again'
            )
        return result


def write_llama_blocks(path: Path, blocks: Mapping[int, Mapping[str, Tensor]], source: str) -> None:
    """Write blocks to a safetensors file that `read_llama_blocks` takes and checks.

    Args:
        path: the file; it appears under its name when it is whole.
        blocks: numbers of layers -> blocks as `LLaMACheckpoint.read` returns them.
        source: origin of the blocks, for the file's metadata.
    """
    tensors = {
        f'layers.{layer}.{part}': value
        for layer, block in blocks.items()
        for part, value in block.items()
    }
    dtypes = sorted({str(value.dtype).removeprefix('torch.') for value in tensors.values()})
    metadata = {
        'layers': ', '.join(map(str, blocks)),
        'dtype': ', '.join(dtypes),
        'source': source,
        'sha256': json.dumps({name: _checksum(value) for name, value in tensors.items()}),
    }
    with atomic_write(path) as partial:
        save_safetensors(tensors, partial, metadata)
        partial.chmod(0o644)  # safetensors writes for the owner alone


def _checksum(tensor: Tensor) -> str:
    return hashlib.sha256(_bytes(tensor)).hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    """Return a contiguous tensor's bytes in memory; numpy has no bfloat16."""
    return tensor.view(-1).view(torch.uint8).numpy().data


def _find_files(path: Path) -> Iterable[tuple[Path, list[str]]]:
    """List the files of a checkpoint and the names of the tensors in each."""
    if path.is_dir():
        found = [path / name for name in LAYOUTS if (path / name).is_file()]
        if not found:
            raise CheckpointError(
                f'{path} is a folder without {", ".join(LAYOUTS[:-1])} or {LAYOUTS[-1]}. '
                f'{HOW_TO_GET}'
            )
        path = found[0]
    if not path.is_file():
        raise CheckpointError(f'there is no file of LLaMA at {path}. {HOW_TO_GET}')
    if path.suffix == '.json':
        return _read_index(path)
    if re.fullmatch(r'consolidated\.\d\d\.pth', path.name):
        files = sorted(path.parent.glob('consolidated.[0-9][0-9].pth'))
    else:
        files = [path]
    return [(file, _names(file)) for file in files]


def _read_index(path: Path) -> list[tuple[Path, list[str]]]:
    """List the files in the index of a sharded model."""
    try:
        files: dict[Path, list[str]] = {}
        for name, file in json.loads(path.read_text())['weight_map'].items():
            files.setdefault(path.parent / file, []).append(name)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f'{path} is not the index of a model, names -> files under weight_map ({error!r})'
        ) from error
    return list(files.items())


def _names(path: Path) -> list[str]:
    if path.suffix == '.safetensors':
        with _open_safetensors(path) as file:
            return list(file.keys())
    return [name for name, value in _map(path).items() if isinstance(value, Tensor)]


def _read_sums(path: Path) -> dict[str, str]:
    """Read the checksums that `write_llama_blocks` wrote; none in a file of another origin."""
    with _open_safetensors(path) as file:
        text = (file.metadata() or {}).get('sha256', '')
    try:
        sums = json.loads(text)
    except ValueError:
        return {}
    return sums if isinstance(sums, dict) else {}


def _tensor(path: Path, name: str) -> Tensor:
    """Return a tensor whose bytes are in the file, mapped for as long as the tensor lives."""
    try:
        if path.suffix == '.safetensors':
            with _open_safetensors(path) as file:
                return file.get_tensor(name)
        return _map(path)[name]
    except KeyError:
        raise CheckpointError(f'{path} has no {name}, though its index says so') from None


def _describe(path: Path, name: str) -> tuple[tuple[int, ...], torch.dtype]:
    tensor = _tensor(path, name)
    return tuple(tensor.shape), tensor.dtype


def _copy(path: Path, name: str, target: Tensor, digest: 'hashlib._Hash') -> None:
    """Copy a tensor of a file into `target`, a piece at a time, and its bytes into `digest`."""
    shape, dtype = _describe(path, name)
    if shape != tuple(target.shape):
        raise CheckpointError(f'{name} in {path} is {shape}, and {tuple(target.shape)} elsewhere')
    if not dtype.is_floating_point:
        raise CheckpointError(f'{name} in {path} holds {dtype} numbers, expected floating point')
    if path.suffix != '.safetensors':
        check_tensor(path, name)
    rows = max(1, PIECE_BYTES // (dtype.itemsize * prod(shape[1:])))
    for start in range(0, shape[0], rows):
        piece = _tensor(path, name)[start : start + rows].contiguous()
        target[start : start + rows] = piece
        digest.update(_bytes(piece))
        if not target[start : start + rows].isfinite().all():
            reason = f'in {target.dtype}, ' if piece.isfinite().all() else ''
            raise CheckpointError(
                f'{name} in {path} holds numbers that are {reason}not finite: '
                + ('take another dtype' if reason else 'the file is damaged; copy it again')
            )


def _map(path: Path) -> Mapping[str, Tensor]:
    """Load a file of torch.save with its tensors mapped."""
    if not path.is_file():
        raise CheckpointError(f'{path} is missing beside its index; copy it there')
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f'{path} is not a whole file of torch.save: it was cut off, or is of the format before '
            'torch 1.6, which cannot be read in part; copy it again, or load and save it anew'
        )
    loaded = load_from_file(path, mmap=True)
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f'{path} holds a {type(loaded).__name__}, and names -> tensors were expected'
        )
    return loaded


def _open_safetensors(path: Path):
    if not path.is_file():
        raise CheckpointError(f'{path} is missing beside its index; copy it there')
    try:
        return import_safetensors().safe_open(path, 'pt')
    except import_safetensors().SafetensorError as error:
        raise CheckpointError(
            f'{path} is not a whole safetensors file ({error}); copy or extract it again'
        ) from error
