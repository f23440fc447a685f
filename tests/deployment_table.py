"""Print how each backbone leaves the package: exports, traces, graphs, adapters, shards.

python tests/deployment_table.py [--rows TEXT] [--columns TEXT ...]

The backbones are tiny ones of tests/test_models/test_backbones/cases.py. A cell is the largest
difference from the model in evaluation mode over the largest value of an output, at batches and
sizes other than the exported ones, with the seconds that the conversion took; or what the column's
name says. A cell that fails has a line below the table that says why.
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent))
from goldens import relative_error
from test_models.test_backbones.cases import L2VIT, LION, LVVIT, VIT_LLAMA, BackboneCase

from mmvitlin.export.formats import FORMATS, quantise_onnx

SIZES = ((64, 64), (77, 93), (96, 64), (49, 47), (128, 120))
BATCHES = (2, 3)
TWO_LAYERS = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=32)
FOUR_STAGES = dict(embed_dims=(8, 16, 24, 32), depths=(2, 1, 1, 1), num_heads=(1, 2, 2, 4))

ROWS: dict[str, tuple[BackboneCase, dict]] = {
    'L2ViT': (L2VIT, dict(arch=FOUR_STAGES)),
    **{
        f'LION {mask}, order {order}, {format}': (
            LION,
            dict(arch=TWO_LAYERS, mask_type=mask, order=order, format=format),
        )
        for mask, order, format in (
            ('Lit', 'Normal', 'Attention'),
            ('Decay', 'S', 'Attention'),
            ('Decay', 'Normal', 'auto'),
            ('Selective', 'S', 'Chunk'),
        )
    },
    'LV-ViT': (LVVIT, {}),
    'ViT-LLaMA': (VIT_LLAMA, {}),
}


class Failure(Exception):
    """A cell that fails, with the line that says why."""


class Row:
    """A backbone with what the columns need of it."""

    def __init__(self, case: BackboneCase, changes: dict):
        self.case, self.changes = case, changes

    def build(self) -> nn.Module:
        model = self.case.build(**self.changes)
        model.eval()
        return model

    def images(self, height: int = 64, width: int = 64, batch: int = 2) -> Tensor:
        return self.case.images(height, width, batch)


def converted(name: str, dynamic: str) -> Callable[[Row], str]:
    """Make the column of a format of programs with a free batch, or batch and size."""

    def cell(row: Row) -> str:
        form, model = FORMATS[name], row.build()
        start = time.perf_counter()
        program = form.convert(
            model, row.images(*((96, 109) if dynamic == 'size' else ())), dynamic
        )
        seconds = time.perf_counter() - start
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f'program{form.suffix}')
            form.write(program, path, {})
            run = form.read(path)
            sizes = SIZES if dynamic == 'size' else SIZES[:1]
            shapes = [(*size, batch) for size in sizes for batch in (1, 2, 5)]
            return f'{worst(run, model, row, shapes)} {seconds:.0f} s'

    return cell


def worst(run: Callable, model: nn.Module, row: Row, shapes: list[tuple[int, int, int]]) -> str:
    errors = []
    with torch.no_grad():
        for shape in shapes:
            images = row.images(*shape)
            outs, expected = run(images), model(images)
            errors += [relative_error(*pair) for pair in zip(outs, expected, strict=True)]
    if not max(errors) < 1e-4:
        raise Failure(f'differs by {max(errors):.0e}')
    return f'{max(errors):.0e}'


def compiled(training: bool) -> Callable[[Row], str]:
    """Make the column of torch.compile(dynamic=True) at five sizes and two batches."""

    def cell(row: Row) -> str:
        torch._dynamo.reset()
        graphs = []

        def count(module: torch.fx.GraphModule, inputs: list) -> Callable:
            graphs.append(module)
            return module.forward

        model = row.build().train(training)
        run = torch.compile(model, backend=count, fullgraph=True, dynamic=True)
        start, errors = time.perf_counter(), []
        for batch in BATCHES:
            for size in SIZES:
                images = row.images(*size, batch=batch)
                with torch.set_grad_enabled(training):
                    (out,), (expected,) = run(images), model(images)
                if training:
                    out.sum().backward()
                errors.append(relative_error(out.detach(), expected.detach()))
        if not max(errors) < 1e-4:
            raise Failure(f'differs by {max(errors):.0e}')
        return f'{max(errors):.0e} {len(graphs)} graphs {time.perf_counter() - start:.0f} s'

    return cell


def func_grad(row: Row) -> str:
    """Gradients per sample by vmap of grad, beside those of single images."""
    model, images = row.build().double(), row.images(32, 48).double()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def loss(parameters: dict, image: Tensor) -> Tensor:
        return torch.func.functional_call(model, parameters, (image[None],))[0].sin().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(trained, images)
    errors = []
    for index, image in enumerate(images):
        expected = torch.autograd.grad(loss(trained, image), trained.values())
        scale = max(float(x.abs().max()) for x in expected)
        errors += [
            float((found[name][index] - gradient).abs().max()) / scale
            for name, gradient in zip(trained, expected)
        ]
    return f'{max(errors):.0e}'


def int8(row: Row) -> str:
    """Linear layers that onnxruntime and torch quantise, of all, and the share of the file."""
    import onnx

    model = row.build()
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    count = [
        sum(isinstance(m, kind) for m in x.modules())
        for x, kind in ((model, nn.Linear), (quantised, torch.ao.nn.quantized.dynamic.Linear))
    ]
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, 'float.onnx'), Path(folder, 'int8.onnx')
        form = FORMATS['onnx']
        form.write(form.convert(model, row.images(), 'batch'), paths[0], {})
        quantise_onnx(*paths)
        products = sum(n.op_type == 'MatMulInteger' for n in onnx.load(paths[1]).graph.node)
    total = count[0] + row.case.linears_of_buffers
    return f'torch {count[1]}/{count[0]}, onnxruntime {products}/{total}'


class LoRA(nn.Module):
    """A linear layer with a trained product of two narrow matrices beside it (arXiv 2106.09685)."""

    def __init__(self, linear: nn.Linear, rank: int = 2):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.down = nn.Linear(linear.in_features, rank, bias=False)
        self.up = nn.Linear(rank, linear.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.up(self.down(x))


def lora(row: Row) -> str:
    """Adapters on all linear layers: the same outputs at first, a gradient on each adapter."""
    model, images = row.build(), row.images()
    with torch.no_grad():
        (expected,) = model(images)
    model.requires_grad_(False)
    linears = [name for name, m in model.named_modules() if isinstance(m, nn.Linear)]
    for name in linears:
        model.set_submodule(name, LoRA(model.get_submodule(name)))
    (out,) = model(images)
    out.sin().sum().backward()
    adapters = [m for m in model.modules() if isinstance(m, LoRA)]
    without = sum(adapter.up.weight.grad is None for adapter in adapters)
    trained = sum(p.requires_grad for p in model.parameters())
    if without or trained != 2 * len(linears):
        raise Failure(f'{without} of {len(adapters)} adapters have no gradient')
    return f'{relative_error(out.detach(), expected):.0e} {len(adapters)} adapters'


def fsdp2(row: Row) -> str:
    """fully_shard on two processes: the gradient norm of a step beside that of one process."""
    model = row.build()
    model(row.images(batch=2))[0].sin().mean().backward()
    expected = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(shard, (row, folder), nprocs=2)
        found = torch.load(Path(folder, 'norm'), weights_only=True)
    error = float(abs(found - expected) / expected)
    if not error < 1e-4:
        raise Failure(f'gradients differ by {error:.0e}')
    return f'{error:.0e}'


def shard(rank: int, row: Row, folder: str) -> None:
    """Take one step's gradients as one of two processes, each with one image."""
    from torch.distributed.fsdp import fully_shard

    os.environ |= dict(GLOO_SOCKET_IFNAME='lo')
    store = dist.FileStore(str(Path(folder, 'store')), 2)
    dist.init_process_group('gloo', store=store, rank=rank, world_size=2)
    mesh = dist.init_device_mesh('cpu', (2,))
    model = row.build()
    for child in model.modules():
        if type(child).__name__.endswith(('Layer', 'Block')):
            fully_shard(child, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model(row.images(batch=2)[rank : rank + 1])[0].sin().mean().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients).full_tensor()
    if rank == 0:
        torch.save(norm, Path(folder, 'norm'))
    dist.destroy_process_group()


COLUMNS: dict[str, Callable[[Row], str]] = {
    'export batch': converted('torch-export', 'batch'),
    'export size': converted('torch-export', 'size'),
    'ONNX batch': converted('onnx', 'batch'),
    'ONNX size': converted('onnx', 'size'),
    'trace': converted('torchscript', 'size'),
    'compile inference': compiled(False),
    'compile training': compiled(True),
    'func.grad': func_grad,
    'int8 linears': int8,
    'LoRA': lora,
    'FSDP2': fsdp2,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rows', default='', help='backbones with this text in their name')
    parser.add_argument('--columns', nargs='+', choices=COLUMNS, default=list(COLUMNS))
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    reasons = []
    print(f'torch {torch.__version__}, {date.today()}\n')
    print('| | ' + ' | '.join(args.columns) + ' |')
    print('|---' * (len(args.columns) + 1) + '|')
    for name, settings in ROWS.items():
        if args.rows not in name:
            continue
        cells = []
        for column in args.columns:
            try:
                cells.append(COLUMNS[column](Row(*settings)))
            except Exception as error:  # of any library: its line is the cell's reason
                line = next(iter(str(error).splitlines()), '')
                reasons.append(f'{name}, {column}: {type(error).__name__}: {line}')
                cells.append(f'fails ({len(reasons)})')
            print(f'{name}, {column}: {cells[-1]}', file=sys.stderr, flush=True)
        print(f'| {name} | ' + ' | '.join(cells) + ' |', flush=True)
    print()
    for number, reason in enumerate(reasons, 1):
        print(f'({number}) {reason}')


if __name__ == '__main__':
    main()
