"""Write the table of the ways out of the package: exports, graphs, adapters, shards.

python tests/deployment_table.py --cells FILE [--rows NAME ...] [--columns NAME ...] [--retry]
python tests/deployment_table.py --cells FILE --page

The backbones are tiny ones of tests/test_models/test_backbones/cases.py. Each finished cell is
stored in FILE, so that a second run goes on with the others. --page writes the table of all stored
cells into docs/reference/deployment.md. The column LoRA needs peft.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent))
from goldens import draw_weights, relative_error
from test_models.test_backbones.cases import (
    L2VIT,
    LION,
    LVVIT,
    TINY_LVVIT,
    VIT_LLAMA,
    YOLOS,
    BackboneCase,
)

from mmvitlin.checkpoints.atomic_write import atomic_write
from mmvitlin.curricula import TokenExpansionHook
from mmvitlin.export.check import check_free
from mmvitlin.export.formats import FORMATS, quantise_onnx
from mmvitlin.registry import MODELS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs/reference/deployment.md'
EXAMPLE = (96, 109)  # the size to export with, where sizes stay free
SIZES = ((64, 64), (77, 93), (96, 64), (49, 47), (128, 120))
BATCHES = (1, 2, 5)
MAX_GRAPHS = 2
TWO_LAYERS = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=32)
FOUR_STAGES = dict(embed_dims=(8, 16, 24, 32), depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4))


@dataclass(frozen=True)
class Row:
    """A backbone with what the columns need of it.

    Attributes:
        make: builds it, with weights drawn by name.
        linears_of_buffers: products with frozen weights, which belong to no `nn.Linear`.
        side: of images, where sizes are fixed.
        sizes: (H, W) of images, where they are free.
    """

    make: Callable[[], nn.Module]
    linears_of_buffers: int = 0
    side: int = 64
    sizes: tuple[tuple[int, int], ...] = SIZES

    def build(self) -> nn.Module:
        model = self.make()
        model.eval()
        return model

    def images(self, height: int = 0, width: int = 0, batch: int = 2) -> Tensor:
        return L2VIT.images(height or self.side, width or self.side, batch)


def of(case: BackboneCase, **changes) -> Row:
    row = Row(lambda: case.build(**changes), case.linears_of_buffers)
    if changes.get('format') == 'RNN':  # whose programs have a step per token
        return replace(row, side=16, sizes=((16, 16), (16, 24), (24, 24)))
    return row


def expanding(row: Row) -> Row:
    """Attach token expansion at its first stage, in evaluation as well as in training."""

    def make() -> nn.Module:
        model = row.make()
        hook = TokenExpansionHook(sparse_eval=True)
        hook.attach(model)
        hook.set_epoch(0)
        return model

    return Row(make)


def mmpretrain_vit() -> nn.Module:
    model = MODELS.build(
        dict(type='mmpretrain.VisionTransformer', arch=TWO_LAYERS, img_size=32, patch_size=8)
    )
    draw_weights(model)
    for module in model.modules():
        if hasattr(module, 'drop_prob'):  # numpy's numbers, which mmcv branches on, break graphs
            module.drop_prob = float(module.drop_prob)
    return model


LAYERS_OF_LV = TINY_LVVIT | dict(num_layers=2)
ROWS: dict[str, Row] = {
    'L2ViT': of(L2VIT, arch=FOUR_STAGES),
    **{
        f'LION {mask}, {order}, {form}': of(
            LION, arch=TWO_LAYERS, mask_type=mask, order=order, format=form
        )
        for mask, order, form in (
            ('Lit', 'Normal', 'Attention'),
            ('Lit', 'S', 'Chunk'),
            ('Decay', 'Normal', 'Chunk'),
            ('Decay', 'S', 'Attention'),
            ('Decay', 'S', 'auto'),
            ('Selective', 'Normal', 'Attention'),
            ('Selective', 'S', 'Chunk'),
            ('Selective', 'S', 'RNN'),
        )
    },
    'LV-ViT': of(LVVIT, arch=LAYERS_OF_LV),
    'ViT-LLaMA': of(VIT_LLAMA, arch=TWO_LAYERS),
    'YOLOS': of(YOLOS, vit=YOLOS.kwargs['vit'] | dict(arch=LAYERS_OF_LV)),
    'LV-ViT, tokens reduced': expanding(of(LVVIT, arch=LAYERS_OF_LV, out_type='cls_token')),
    "mmpretrain's ViT": Row(mmpretrain_vit),
    "mmpretrain's ViT, tokens reduced": expanding(Row(mmpretrain_vit)),
}


class Failure(Exception):
    """A cell that fails, with the line that says why."""


def converted(name: str, dynamic: str) -> Callable[[Row], str]:
    """Make the column of a format of programs with a free batch, or batch and size."""

    def cell(row: Row) -> str:
        form, model = FORMATS[name], row.build()
        check_free(model, dynamic)
        start = time.perf_counter()
        images = row.images(*(EXAMPLE if dynamic == 'size' else ()))
        program = form.convert(model, images, dynamic)
        seconds = time.perf_counter() - start
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f'program{form.suffix}')
            form.write(program, path, {})
            run = form.read(path)
            sizes = row.sizes if dynamic == 'size' else ((row.side, row.side),)
            error = worst(run, model, row, [(*size, batch) for size in sizes for batch in BATCHES])
        return f'{error:.0e}, {seconds:.0f} s'

    return cell


def worst(run: Callable, model: nn.Module, row: Row, shapes: list[tuple[int, int, int]]) -> float:
    errors = []
    with torch.no_grad():
        for shape in shapes:
            images = row.images(*shape)
            outs, expected = run(images), model(images)
            errors += [relative_error(*pair) for pair in zip(outs, expected, strict=True)]
    return small(max(errors))


def small(error: float, limit: float = 1e-4) -> float:
    if not error < limit:
        raise Failure(f'differs by {error:.0e}')
    return error


def compiled(training: bool) -> Callable[[Row], str]:
    """Make the column of torch.compile(fullgraph=True, dynamic=True) at five sizes, two batches."""

    def cell(row: Row) -> str:
        torch._dynamo.reset()
        graphs = []

        def count(module: torch.fx.GraphModule, inputs: list) -> Callable:
            graphs.append(module)
            return module.forward

        model = row.build()
        model.train(training)
        run = torch.compile(model, backend=count, fullgraph=True, dynamic=True)
        start, errors = time.perf_counter(), []
        for batch in BATCHES[1:]:
            for size in row.sizes:
                images = row.images(*size, batch=batch)
                with torch.set_grad_enabled(training):
                    (out,), (expected,) = run(images)[:1], model(images)[:1]
                if training:
                    out.sum().backward()
                errors.append(relative_error(out.detach(), expected.detach()))
                if len(graphs) > MAX_GRAPHS:
                    raise Failure(
                        f'{len(graphs)} graphs for {plural(len(errors), "shape")}: take '
                        'dynamic=False, and few sizes'
                    )
        seconds = time.perf_counter() - start
        return f'{small(max(errors)):.0e}, {plural(len(graphs), "graph")}, {seconds:.0f} s'

    return cell


def plural(number: int, noun: str) -> str:
    return f'{number} {noun}{"s" * (number != 1)}'


def func_transforms(row: Row) -> str:
    """Gradients per sample by vmap of grad, and an ensemble of two by vmap of the parameters."""
    model, images = row.build().double(), row.images(32, 48).double()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def loss(parameters: dict, image: Tensor) -> Tensor:
        return torch.func.functional_call(model, parameters, (image[None],))[0].sin().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(trained, images)
    errors = []
    for index, image in enumerate(images):
        gradients = torch.autograd.grad(loss(trained, image), trained.values(), allow_unused=True)
        expected = [
            torch.zeros_like(p) if g is None else g for p, g in zip(trained.values(), gradients)
        ]
        scale = max(float(x.abs().max()) for x in expected)
        errors += [
            float((found[name][index] - gradient).abs().max()) / scale
            for name, gradient in zip(trained, expected)
        ]
    other = deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
        states = torch.func.stack_module_state([model, other])
        outs = torch.func.vmap(
            lambda *state: torch.func.functional_call(model, state, (images,))[0]
        )(*states)
        errors += [relative_error(out, m(images)[0]) for out, m in zip(outs, (model, other))]
    return f'{small(max(errors)):.0e}'


def int8(row: Row) -> str:
    """Linear layers that onnxruntime and torch quantise, of all."""
    import onnx

    model = row.build()
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    linears, in_torch = (
        sum(isinstance(m, kind) for m in x.modules())
        for x, kind in ((model, nn.Linear), (quantised, torch.ao.nn.quantized.dynamic.Linear))
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, 'float.onnx'), Path(folder, 'int8.onnx')
        form = FORMATS['onnx']
        form.write(form.convert(model, row.images(), 'batch'), paths[0], {})
        quantise_onnx(*paths)
        products = sum(n.op_type == 'MatMulInteger' for n in onnx.load(paths[1]).graph.node)
    return f'torch {in_torch}/{linears}, ONNX {products}/{linears + row.linears_of_buffers}'


def lora(row: Row) -> str:
    """Adapters of peft on all linear layers: outputs at first, gradients, and after merging."""
    from peft import LoraConfig, get_peft_model

    model, images = row.build(), row.images()
    with torch.no_grad():
        expected = model(images)[0]
    linears = [name for name, m in model.named_modules() if isinstance(m, nn.Linear)]
    model = get_peft_model(model, LoraConfig(r=2, target_modules=linears))
    model.eval()
    out = model(images)[0]
    error = relative_error(out.detach(), expected)
    out.sin().sum().backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    ups = [p for name, p in trained.items() if 'lora_B' in name]
    without = sum(p.grad is None for p in ups)
    if without or len(trained) != 2 * len(linears):
        raise Failure(f'{without} of {len(ups)} adapters have no gradient')
    with torch.no_grad():
        for up in ups:
            up += 0.01
        before = model(images)[0]
        error = max(error, relative_error(model.merge_and_unload()(images)[0], before))
    return f'{small(error):.0e}, {plural(len(ups), "adapter")}'


def fsdp2(row: Row) -> str:
    """fully_shard on two processes: the gradient norm of a step beside that of one process."""
    model = row.build()
    model(row.images())[0].sin().mean().backward()
    expected = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    name = next(name for name, each in ROWS.items() if each is row)
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(shard, (name, folder), nprocs=2)
        found = torch.load(Path(folder, 'norm'), weights_only=True)
    return f'{small(float(abs(found - expected) / expected)):.0e}'


def shard(rank: int, name: str, folder: str) -> None:
    """Take one step's gradients as one of two processes, each with one image."""
    from torch.distributed.fsdp import fully_shard

    os.environ |= dict(GLOO_SOCKET_IFNAME='lo')
    store = dist.FileStore(str(Path(folder, 'store')), 2)
    dist.init_process_group('gloo', store=store, rank=rank, world_size=2)
    mesh = dist.init_device_mesh('cpu', (2,))
    model = ROWS[name].build()
    for child in model.modules():
        if type(child).__name__.endswith(('Layer', 'Block')):
            fully_shard(child, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model(ROWS[name].images()[rank : rank + 1])[0].sin().mean().backward()
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
    'func.grad': func_transforms,
    'int8 linears': int8,
    'LoRA': lora,
    'FSDP2': fsdp2,
}


def run_cell(row: str, column: str) -> dict[str, str]:
    """Run a cell; a failure of any library becomes its reason."""
    stamp = dict(torch=torch.__version__, date=str(date.today()))
    try:
        return dict(text=COLUMNS[column](ROWS[row]), **stamp)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        kind = '' if isinstance(error, Failure) else f'{type(error).__name__}: '
        return dict(reason=kind + next(iter(lines), ''), **stamp)


def read(path: Path | None) -> dict[str, dict]:
    """Read stored cells: row -> column -> cell."""
    return json.loads(path.read_text()) if path is not None and path.exists() else {}


def table(cells: dict[str, dict], columns: list[str]) -> str:
    """Format stored cells as a table, with a line for each reason below it."""
    reasons: dict[str, int] = {}
    lines = ['| | ' + ' | '.join(columns) + ' |', '|---' * (len(columns) + 1) + '|']
    for row in ROWS:
        stored = cells.get(row, {})
        if not any(column in stored for column in columns):
            continue
        texts = []
        for column in columns:
            cell = stored.get(column, dict(text='not run'))
            if 'reason' in cell:
                number = reasons.setdefault(cell['reason'], len(reasons) + 1)
                cell = dict(text=f'no ({number})')
            texts.append(cell['text'])
        lines.append(f'| {row} | ' + ' | '.join(texts) + ' |')
    below = (f'({n}) `{text.replace("](", "] (")}`' for text, n in reasons.items())  # no links
    return '\n\n'.join(['\n'.join(lines), *below]) + '\n'


HEAD = """# Ways out of the package

Tiny backbones in float32 on a CPU; `tests/deployment_table.py --page` writes this page. A cell
gives the largest difference from the model over the largest value of its outputs, and the seconds
of a conversion on a machine that was busy with other things. Cells that fail have their reason
below the table. *Tokens reduced* is token expansion with `sparse_eval`; without it, an exported
model is the dense one. The frozen block of this ViT-LLaMA is in float64, which is not quantised.
LION's RNN is at 16 x 16, since its programs have a step per token. mmpretrain's ViT is the host's,
with the rates of stochastic depth as numbers of Python, since numpy's break graphs; where sizes are
free, it fails by mmcv's padding and by its own resizing of positions.

- **export**, **ONNX**, **trace**: programs of torch.export, of `torch.onnx`'s dynamo exporter run
  by onnxruntime, and of torch.jit.trace, written and read. *batch* leaves the batch free, *size*
  and *trace* height and width as well: five sizes with three batches each.
- **compile**: `torch.compile(fullgraph=True, dynamic=True)` without code generation: the number of
  graphs for five sizes with two batches, and the seconds of all.
- **func.grad**: gradients per sample by `vmap` of `grad`, and an ensemble of two models by `vmap`,
  in float64.
- **int8 linears**: layers that `quantize_dynamic` of torch and of onnxruntime quantise, of all.
- **LoRA**: adapters of peft on all linear layers, before training and after merging. mmpretrain's
  VisionTransformer is not built beside transformers 5, which new versions of peft bring; its cells
  are of peft 0.10 and transformers 4.39.
- **FSDP2**: the gradient of `fully_shard` on two processes.
"""


def main() -> None:
    """Run the cells that are not stored, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rows', nargs='+', choices=ROWS, default=list(ROWS), metavar='NAME')
    parser.add_argument('--columns', nargs='+', choices=COLUMNS, default=list(COLUMNS))
    parser.add_argument('--cells', type=Path, help='where finished cells are stored')
    parser.add_argument('--retry', action='store_true', help='run failed cells again')
    parser.add_argument('--page', action='store_true', help='run nothing, write the page from FILE')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    cells = read(args.cells)
    for row in () if args.page else args.rows:
        for column in args.columns:
            done = cells.get(row, {}).get(column)
            if done and ('text' in done or not args.retry):
                continue
            cell = run_cell(row, column)
            print(f'{row}, {column}: {cell}', file=sys.stderr, flush=True)
            cells |= read(args.cells)  # with those of other runs
            cells.setdefault(row, {})[column] = cell
            if args.cells:
                with atomic_write(args.cells) as path:
                    path.write_text(json.dumps(cells, indent=1))
    text = table(cells, args.columns)
    print(text)
    if args.page:
        stamps = {
            f'torch {c["torch"]}, {c["date"]}' for row in cells.values() for c in row.values()
        }
        with atomic_write(PAGE) as path:
            path.write_text(f'{HEAD}\n{"; ".join(sorted(stamps))}.\n\n{text}'.rstrip() + '\n')


if __name__ == '__main__':
    main()
