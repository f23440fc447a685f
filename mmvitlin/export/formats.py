"""Formats of programs: conversion, writing and reading of ONNX, torch.export and TorchScript.

The file of a program contains its description (`parts.describe`): under the key 'mmvitlin' of an
ONNX model's metadata, and as the extra file 'mmvitlin.json' of the other two.
"""

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from mmvitlin.checkpoints.atomic_write import atomic_write
from mmvitlin.errors import ConfigError
from mmvitlin.export.parts import Program

FREE = {None: (), 'batch': (0,), 'size': (0, 2, 3)}  # --dynamic -> dimensions that stay free
METADATA = 'mmvitlin'
EXTRA_FILE = f'{METADATA}.json'
COLORS = re.compile(r'\x1b\[[0-9;]*m')  # of torch.onnx's messages, for terminals
AXES = {0: 'batch', 2: 'height', 3: 'width'}


def to_torch_export(module: nn.Module, images: Tensor, dynamic: str | None) -> Any:
    """Export a module with torch.export, with free dimensions of the images.

    Args:
        module: images (B, C, H, W) -> a tuple of tensors, in evaluation mode.
        images: an example; free dimensions need different sizes above 1.
        dynamic: a key of `FREE`.

    Raises:
        ConfigError: torch cannot export the module, or fixes a dimension that must stay free.
    """
    if not hasattr(torch.export, 'Dim') or not hasattr(torch.export.Dim, 'DYNAMIC'):
        raise ConfigError(f'exporting needs torch 2.6 or newer, and this is {torch.__version__}')
    shapes = (dict.fromkeys(FREE[dynamic], torch.export.Dim.DYNAMIC),)
    try:
        with torch.no_grad():
            return torch.export.export(module, (images,), dynamic_shapes=shapes)
    except Exception as error:  # the model's own and torch's, of any kind
        raise ConfigError(_not_exported('torch.export', dynamic, error)) from error


def to_torchscript(module: nn.Module, images: Tensor, dynamic: str | None) -> Any:
    """Trace a module with torch.jit.trace; free dimensions are those that its ops leave free.

    Raises:
        ConfigError: torch cannot trace the module.
    """
    try:
        with torch.no_grad(), _without_warnings():
            return torch.jit.trace(module, images, check_trace=False)
    except Exception as error:
        raise ConfigError(_not_exported('torch.jit.trace', dynamic, error)) from error


def to_onnx(module: nn.Module, images: Tensor, dynamic: str | None) -> Any:
    """Convert a module to an ONNX model by torch.export, with inputs 'images' and outputs 'out0'...

    Raises:
        ConfigError: onnx or onnxscript is missing, or an op of the module has no ONNX form.
    """
    _imported('onnxscript')
    onnx = _imported('onnx')
    program = to_torch_export(module, images, dynamic)
    with torch.no_grad():
        outs = [f'out{index}' for index in range(len(module(images)))]
    try:
        with _without_warnings():
            converted = torch.onnx.export(
                program, (), dynamo=True, input_names=['images'], output_names=outs, verbose=False
            )
    except Exception as error:
        raise ConfigError(_not_exported('torch.onnx', dynamic, error)) from error
    model = converted.model_proto
    for node in model.graph.node:  # the lines of Python that a node comes from
        del node.metadata_props[:]
        node.doc_string = ''
    for axis in FREE[dynamic]:
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = AXES[axis]
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    return model


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence warnings of deprecation, of comparisons of sizes, and of ops that no model has."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(disabled)


def _not_exported(way: str, dynamic: str | None, error: Exception) -> str:
    asked = 'a fixed shape' if dynamic is None else f'--dynamic {dynamic}'
    return f'{way} cannot export this model with {asked}: {_reason(error)}'


def _reason(error: Exception) -> str:
    """Return the kind of an error and the first line of its message."""
    lines = [line.strip() for line in COLORS.sub('', str(error)).splitlines() if line.strip()]
    return f'{type(error).__name__}: {next(iter(lines), "")}'


def _write_onnx(model: Any, path: Path, description: Mapping[str, Any]) -> None:
    _imported('onnx.helper').set_model_props(model, {METADATA: json.dumps(description)})
    _imported('onnx').save(model, path)


def _write_torch_export(program: Any, path: Path, description: Mapping[str, Any]) -> None:
    try:
        with path.open('wb') as file:  # since torch.export checks the suffix of a path
            torch.export.save(program, file, extra_files={EXTRA_FILE: json.dumps(description)})
    except OSError:
        raise
    except Exception as error:  # torch's own, of any kind
        raise ConfigError(
            f'torch.export cannot write this program, {_reason(error)}; take --dynamic batch, or '
            'another --format'
        ) from error


def _write_torchscript(program: Any, path: Path, description: Mapping[str, Any]) -> None:
    torch.jit.save(program, str(path), _extra_files={EXTRA_FILE: json.dumps(description)})


def _read_onnx(path: Path) -> Program:
    """Run an ONNX model with onnxruntime, on the CPU and with the threads of torch."""
    onnxruntime = _imported('onnxruntime')
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])

    def run(images: Tensor) -> tuple[Tensor, ...]:
        outs = session.run(None, {'images': images.numpy()})
        return tuple(torch.from_numpy(out) for out in outs)

    return run


def _read_torch_export(path: Path) -> Program:
    with path.open('rb') as file, _without_warnings():  # of buffers that are read-only
        return torch.export.load(file).module()


def _read_torchscript(path: Path) -> Program:
    return torch.jit.load(str(path), map_location='cpu')


@dataclass(frozen=True)
class Format:
    """A format of programs.

    Attributes:
        suffix: of its files.
        convert: (module, example images, dynamic) -> program.
        save: writes a program and its description to a path.
        read: path -> a callable, images -> tensors.
    """

    suffix: str
    convert: Callable[[nn.Module, Tensor, str | None], Any]
    save: Callable[[Any, Path, Mapping[str, Any]], None]
    read: Callable[[Path], Program]

    def write(self, program: Any, path: Path, description: Mapping[str, Any]) -> None:
        """Write a program and its description, whole or not at all."""
        with atomic_write(path) as partial:
            self.save(program, partial, description)


FORMATS = {
    'onnx': Format('.onnx', to_onnx, _write_onnx, _read_onnx),
    'torch-export': Format('.pt2', to_torch_export, _write_torch_export, _read_torch_export),
    'torchscript': Format('.pt', to_torchscript, _write_torchscript, _read_torchscript),
}


def quantise_onnx(path: Path, to: Path) -> None:
    """Quantise the matrix products with weights of an ONNX model to int8, dynamically.

    Activations are quantised for each call, by their range; convolutions and products of
    activations stay in float32.
    """
    quantisation = _imported('onnxruntime.quantization')
    with atomic_write(to) as partial, _without_warnings():
        quantisation.quantize_dynamic(
            path,
            partial,
            op_types_to_quantize=['MatMul', 'Gemm'],
            per_channel=True,
            weight_type=quantisation.QuantType.QInt8,
            extra_options={'DefaultTensorType': 1, 'MatMulConstBOnly': True},
        )


def _imported(name: str) -> ModuleType:
    """Import a package of the extra `export`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f'ONNX needs {name.partition(".")[0]}, which does not import ({error}); '
            'pip install onnx onnxscript onnxruntime, or mmvitlin with its extra [export]'
        ) from error
