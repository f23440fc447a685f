"""Golden cases: numbers of the original implementations, and the weights that belong to them.

A case is two files in tests/data/goldens: NAME.json says what was built (settings, names and shapes
of the weights, a seed), NAME.npz holds the outputs. Weights and inputs are not stored: numpy's
legacy generator, seeded by a weight's name and the case's seed, draws the same ones everywhere.
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent / 'data' / 'goldens'

# Last part of a weight's name -> what is made of its standard normal noise.
DRAWS = {
    'num_batches_tracked': lambda noise: np.zeros(noise.shape, dtype=np.int64),
    'running_var': lambda noise: 1.0 + 0.2 * np.tanh(noise),
    'running_mean': lambda noise: 0.1 * noise,
    'a_i': lambda noise: noise + 2.0,
    'a2_i': lambda noise: noise + 2.0,
    'temperature': lambda noise: 0.2 + 0.02 * noise,
    'pos_embed': lambda noise: 0.2 * noise,
    'cls_token': lambda noise: 0.2 * noise,
    'dist_token': lambda noise: 0.2 * noise,
}


@dataclass(frozen=True)
class Golden:
    """One case; everything is float64 but counters."""

    meta: dict  # all of NAME.json
    kwargs: dict  # the settings that the original was built with
    weights: dict[str, Tensor]  # by the original's names
    images: Tensor
    outputs: dict[str, Tensor]


def load_golden(name: str) -> Golden:
    meta = load_meta(name)
    return Golden(
        meta=meta,
        kwargs=meta['kwargs'],
        weights={k: draw_weight(k, shape, meta['seed']) for k, shape in meta['params'].items()},
        images=standard_normal(meta['input_shape'], meta['seed'] + 1),
        outputs={key: output.double() for key, output in load_outputs(name).items()},
    )


def load_meta(name: str) -> dict | list:
    """Return the content of NAME.json, for cases that are not whole models."""
    return json.loads((FOLDER / f'{name}.json').read_text())


def load_outputs(name: str) -> dict[str, Tensor]:
    """The outputs as NAME.npz holds them: floats are float32."""
    with np.load(FOLDER / f'{name}.npz') as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def draw_weight(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Draw the parameter or buffer `name`; the same name, shape and seed give the same numbers."""
    noise = standard_normal(shape, zlib.crc32(name.encode()) ^ seed).numpy()
    kind = name.rpartition('.')[-1]
    if name == 'llama.norm.weight':  # the originals never load it
        drawn = np.ones(noise.shape)
    elif kind in DRAWS:
        drawn = DRAWS[kind](noise)
    elif noise.ndim >= 2:
        drawn = noise / np.sqrt(np.prod(noise.shape[1:]))
    else:
        drawn = 0.1 * noise + (kind == 'weight')
    return torch.from_numpy(np.asarray(drawn))


def draw_weights(model: torch.nn.Module, seed: int = 0) -> None:
    """Fill `model` in place with weights large enough that every part of it shows in the output."""
    state = model.state_dict()
    model.load_state_dict({k: draw_weight(k, tuple(v.shape), seed) for k, v in state.items()})


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Max |a - b| / max |b|; infinite where shapes differ, nan where `actual` has one."""
    if actual.shape != expected.shape:
        return float('inf')
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def standard_normal(shape: tuple[int, ...], seed: int) -> Tensor:
    """Draw an input, float64."""
    return torch.from_numpy(np.asarray(np.random.RandomState(seed).standard_normal(tuple(shape))))
