"""Small checkpoints of LLaMA in every layout, holding the same weights."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from mmvitlin.checkpoints.llama import PARTS, part_shapes

HEADS, WIDTH, FEEDFORWARD, LAYERS = 4, 64, 176, 4
SHAPES = part_shapes(WIDTH, FEEDFORWARD)
LLAMA = dict(embed_dims=WIDTH, num_heads=HEADS, feedforward_channels=FEEDFORWARD)


def llama_weights(
    layers: int = LAYERS, shapes: dict = SHAPES, dtype: torch.dtype = torch.float16
) -> dict[str, Tensor]:
    """All blocks by Meta's names, and an embedding as a whole LLaMA has one."""
    generator = torch.Generator().manual_seed(1)
    weights = {'tok_embeddings.weight': torch.zeros(8, 8, dtype=dtype)}
    for layer in range(layers):
        for part, shape in shapes.items():
            noise = torch.randn(shape, generator=generator)
            value = 1 + 0.1 * noise if len(shape) == 1 else noise * shape[1] ** -0.5
            weights[f'layers.{layer}.{part}'] = value.to(dtype)
    return weights


def block_of(weights: dict[str, Tensor], layer: int) -> dict[str, Tensor]:
    return {part: weights[f'layers.{layer}.{part}'] for part in PARTS}


def to_hugging_face(weights: dict[str, Tensor], heads: int = HEADS) -> dict[str, Tensor]:
    """The same weights in the Hugging Face layout: other names, permuted rows of q and k."""
    renamed = {}
    for name, value in weights.items():
        if not name.startswith('layers.'):
            renamed['model.embed_tokens.weight'] = value
            continue
        _, layer, part = name.split('.', 2)
        if part in ('attention.wq.weight', 'attention.wk.weight'):
            value = value.view(heads, -1, 2, value.shape[1]).transpose(1, 2).reshape(value.shape)
        renamed[f'model.layers.{layer}.{PARTS[part].hugging_face}'] = value.contiguous()
    return renamed


def _meta(folder: Path, weights: dict) -> Path:
    torch.save(weights, folder / 'consolidated.00.pth')
    return folder / 'consolidated.00.pth'


def _meta_shards(folder: Path, weights: dict) -> Path:
    for index in range(2):
        shard = {}
        for name, value in weights.items():
            part = PARTS.get(name.split('.', 2)[-1])
            split = part and part.split
            shard[name] = value if split is None else value.chunk(2, split)[index].clone()
        torch.save(shard, folder / f'consolidated.0{index}.pth')
    return folder / 'consolidated.00.pth'


def _shards(folder: Path, weights: dict, stem: str, suffix: str, save) -> Path:
    """Two files with an index; a layer of the middle lies in both."""
    names, where = list(weights), {}
    for index, some in enumerate((names[: len(names) // 2], names[len(names) // 2 :])):
        file = f'{stem}-0000{index + 1}-of-00002.{suffix}'
        save({name: weights[name] for name in some}, folder / file)
        where |= dict.fromkeys(some, file)
    path = folder / f'{stem}.{suffix}.index.json'
    path.write_text(json.dumps({'metadata': {}, 'weight_map': where}))
    return path


def _safetensors(folder: Path, weights: dict) -> Path:
    save_file(to_hugging_face(weights), folder / 'model.safetensors')
    return folder / 'model.safetensors'


def _bin(folder: Path, weights: dict) -> Path:
    torch.save(to_hugging_face(weights), folder / 'pytorch_model.bin')
    return folder / 'pytorch_model.bin'


def _safetensors_shards(folder: Path, weights: dict) -> Path:
    return _shards(folder, to_hugging_face(weights), 'model', 'safetensors', save_file)


def _bin_shards(folder: Path, weights: dict) -> Path:
    return _shards(folder, to_hugging_face(weights), 'pytorch_model', 'bin', torch.save)


# Layout -> what writes it into a folder and returns the file to name.
LAYOUTS = {
    'consolidated.00.pth': _meta,
    'consolidated.00.pth and 01': _meta_shards,
    'model.safetensors': _safetensors,
    'model.safetensors.index.json': _safetensors_shards,
    'pytorch_model.bin': _bin,
    'pytorch_model.bin.index.json': _bin_shards,
}
