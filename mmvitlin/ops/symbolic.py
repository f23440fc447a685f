"""Symbolic sizes: in an export, in a trace, and in a torch.compile graph with dynamic shapes.

A comparison of such a size would fix it for all runs of the program.
"""

import torch

is_compiling = getattr(torch.compiler, 'is_compiling', lambda: False)  # torch < 2.3 has none
# torch < 2.7 has none
is_exporting = getattr(torch.compiler, 'is_exporting', lambda: False)


def is_fixed(*sizes: int) -> bool:
    """Return whether all sizes are plain numbers, which may be compared."""
    if not is_compiling():
        return all(type(size) is int for size in sizes)  # in a trace they are tensors
    shapes = torch.fx.experimental.symbolic_shapes
    if not hasattr(shapes, 'has_static_value'):  # an older torch: a graph per size
        return True
    return all(shapes.has_static_value(size) for size in sizes)


def is_captured() -> bool:
    """Return True while a graph is captured: by torch.compile, torch.export or torch.jit.trace."""
    return is_compiling() or torch.jit.is_tracing()
