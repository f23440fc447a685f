"""Capturing and restoring the state of every random generator that training uses."""

import random
from typing import Any

import numpy as np
import torch


def capture_random_state() -> dict:
    """Read the states of Python's, numpy's, torch's and, if any, this process's GPU generator."""
    state: Any = np.random.get_state()  # a tuple, since `legacy` is True
    algorithm, keys, *position = state
    return {
        'python': random.getstate(),
        'numpy': (algorithm, keys.tolist(), *position),
        'torch': torch.get_rng_state(),
        'cuda': torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_random_state(state: dict) -> None:
    """Set the generators to the state of `capture_random_state`, loaded on any device."""
    random.setstate(state['python'])
    algorithm, keys, *position = state['numpy']
    np.random.set_state((algorithm, np.array(keys, dtype=np.uint32), *position))
    torch.set_rng_state(state['torch'].cpu())
    if state['cuda'] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())
