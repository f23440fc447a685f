"""Everything that computes, on a GPU beside the CPU; GPU_CHECK_DEVICE=cpu tries the checks out.

The references are computed in float64 on the CPU, but for hosts' layers, which take float32.
"""

import copy
import os
import socket
from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from test_models.test_backbones.cases import CASES
from torch import Tensor, multiprocessing, nn

from mmvitlin import ops
from mmvitlin.curricula import TokenExpansionHook
from mmvitlin.layers.lion_attention import FORMATS
from mmvitlin.models import LION, L2ViT
from mmvitlin.ops import Scan

DEVICE = os.environ.get('GPU_CHECK_DEVICE', 'cuda')
if DEVICE == 'cuda' and not torch.cuda.is_available():
    pytest.skip('there is no CUDA GPU', allow_module_level=True)

# Largest error beside the largest value. TF32, which convolutions use, has 10 bits as float16 has.
TOLERANCES = {torch.float32: 2e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
DTYPES = pytest.mark.parametrize('dtype', TOLERANCES, ids=lambda dtype: str(dtype)[6:])
SHAPE = 2, 3, 70, 16  # (B, H, N, D)


def error(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the largest value."""
    expected = expected.detach().double()
    difference = (found.detach().double().cpu() - expected).abs().max()
    return float(difference / expected.abs().max().clamp(min=1e-3))


def positive(*shape):
    return torch.rand(*shape, dtype=torch.float64) + 0.1


# Ops: name -> function, and its inputs in float64. Integer inputs keep their dtype.


def decayed(format, order, q, k, v, log_gates):
    scans = [Scan(log_gates), Scan(log_gates, order.to(q.device))]
    return ops.decayed_attention(q, k, v, scans, FORMATS[format](16))


def expanded(distance, tokens):
    return ops.expand_tokens(tokens, 1, (0.5, 0.75, 1.0), 0.25, 2, distance)[0]


def label_targets(maps, boxes):
    return ops.token_label_targets(maps, boxes, 12, 4)


def windows(x):
    padded = ops.pad_to_multiple(x, 3)
    height, width = padded.shape[1:3]
    return ops.window_unpartition(ops.window_partition(padded, 3).sin(), 3, height, width)


def llama(x, *weights):
    return ops.llama_block(x, dict(zip(LLAMA_PARTS, weights)), 2)


def soft_loss(student, teacher):
    return ops.soft_distillation_loss(student, teacher, 2.0)


LLAMA_PARTS = {
    **{f'attention.w{x}.weight': (16, 16) for x in 'qkvo'},
    'feed_forward.w1.weight': (24, 16),
    'feed_forward.w3.weight': (24, 16),
    'feed_forward.w2.weight': (16, 24),
    'attention_norm.weight': (16,),
    'ffn_norm.weight': (16,),
}
MAPS = torch.stack(
    [
        torch.rand(2, 3, 6, 6, dtype=torch.float64),
        torch.arange(3.0, dtype=torch.float64).view(3, 1, 1).expand(2, 3, 6, 6),
    ],
    1,
)
OPS = {
    **{
        f'decayed_attention, {format}': (
            partial(decayed, format, torch.randperm(SHAPE[2])),
            [positive(*SHAPE), positive(*SHAPE), positive(*SHAPE), positive(*SHAPE[:3]).log() - 1],
        )
        for format in FORMATS
    },
    'relu_linear_attention': (
        ops.relu_linear_attention,
        [10 * positive(*SHAPE), positive(*SHAPE), positive(*SHAPE), positive(3, 1, 1)],
    ),
    'elu_features': (ops.elu_features, [positive(*SHAPE) - 0.6]),
    'unit_silu_features': (ops.unit_silu_features, [positive(*SHAPE) - 0.6]),
    'low_frequency_crop': (partial(ops.low_frequency_crop, size=12), [positive(2, 3, 20, 20)]),
    'windows': (windows, [positive(2, 8, 7, 4)]),
    'rms_norm': (ops.rms_norm, [positive(2, 5, 16), positive(16)]),
    'llama_block': (
        llama,
        [positive(2, 5, 16), *(0.2 * positive(*shape) for shape in LLAMA_PARTS.values())],
    ),
    'soft_distillation_loss': (soft_loss, [8 * positive(4, 10), 8 * positive(4, 10)]),
    'token_label_targets': (label_targets, [MAPS, torch.tensor([[0.1, 0.2, 0.5, 0.6]] * 2)]),
}
# Selections depend on which of two similar tokens is the more similar: in float32 alone.
DISTANCES = ('cosine', 'manhattan', 'euclidean')


def apply(function, inputs, dtype, device):
    """Return the output, and the gradients of the inputs."""
    inputs = [x.to(device, dtype).requires_grad_() for x in inputs]
    out = function(*inputs)
    if not out.requires_grad:
        return [out]
    weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out).sin()
    gradients = torch.autograd.grad(out, inputs, weight.to(out), allow_unused=True)
    return [out, *(gradient for gradient in gradients if gradient is not None)]


@DTYPES
@pytest.mark.parametrize('name', OPS)
def test_an_op_and_its_gradients_are_those_of_the_cpu(name, dtype):
    function, inputs = OPS[name]
    inputs = [x.to(dtype) for x in inputs]  # the reference sees the same rounded inputs
    expected = apply(function, inputs, torch.float64, 'cpu')
    found = apply(function, inputs, dtype, DEVICE)
    for one, other in zip(found, expected, strict=True):
        assert torch.isfinite(one).all()
        assert error(one, other) < TOLERANCES[dtype]


@pytest.mark.parametrize('distance', DISTANCES)
def test_token_expansion_selects_the_tokens_of_the_cpu(distance):
    tokens = torch.randn(2, 65, 16)
    expected = expanded(distance, tokens)
    assert error(expanded(distance, tokens.to(DEVICE)), expected) < 1e-4


def test_mixed_tokens_are_those_of_the_cpu():
    tokens = torch.randn(4, 6, 6, 8)
    box = torch.rand(6, 6) > 0.5
    assert torch.equal(
        ops.swap_box(tokens.to(DEVICE), box.to(DEVICE)).cpu(), ops.swap_box(tokens, box)
    )


# Backbones

BACKBONES = pytest.mark.parametrize('case', CASES, ids=lambda case: case.name)


def step(model, images):
    """Return the outputs, and the gradients of all trained parameters."""
    model.zero_grad()
    outs = model(images)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(out.shape, generator=generator).to(out) for out in outs]
    torch.autograd.backward(outs, weights)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return [*outs, *gradients]


@BACKBONES
def test_a_backbone_and_its_gradients_are_those_of_the_cpu(case):
    model = case.build(out_indices=case.all_indices)
    expected = step(model, case.images())
    found = step(copy.deepcopy(model).to(DEVICE), case.images().to(DEVICE))
    for one, other in zip(found, expected, strict=True):
        assert error(one, other) < 1e-2


@BACKBONES
@pytest.mark.parametrize('way', ['cast', 'autocast'])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=['float16', 'bfloat16'])
def test_a_backbone_in_low_precision_is_near(case, dtype, way):
    model = case.build(out_indices=case.all_indices).eval()
    images = case.images(64, 64)
    with torch.no_grad():
        expected = model(images)
        model.to(DEVICE)
        if way == 'cast':
            outs = model.to(dtype)(images.to(DEVICE, dtype))
        else:
            with torch.autocast(DEVICE, dtype):
                outs = model(images.to(DEVICE))
    for one, other in zip(outs, expected, strict=True):
        assert error(one, other) < TOLERANCES[dtype]


@BACKBONES
def test_a_backbone_trains_with_scaled_losses(case):
    model = case.build().to(DEVICE)
    images = case.images().to(DEVICE)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    scaler = torch.amp.GradScaler(DEVICE, enabled=DEVICE == 'cuda')
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        with torch.autocast(DEVICE, torch.float16 if DEVICE == 'cuda' else torch.bfloat16):
            outs = [out.float() for out in model(images)]
        loss = sum(F.mse_loss(out, torch.ones_like(out)) for out in outs)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(float(loss))
    assert losses[-1] < losses[0]


@BACKBONES
def test_a_compiled_backbone_is_the_eager_one(case):
    model = case.build(**case.compiled).eval().to(DEVICE)
    images = case.images().to(DEVICE)
    with torch.no_grad():
        expected = model(images)
        outs = torch.compile(model)(images)
    for one, other in zip(outs, expected, strict=True):
        assert error(one, other.cpu()) < 2e-3


@pytest.mark.parametrize('stage', [1, 2, 3])
def test_token_expansion_trains(stage):
    model = LION('small', img_size=64, patch_size=8, mask_type='Selective', order='S').to(DEVICE)
    hook = TokenExpansionHook(expansion_step=(0, 1, 2))
    hook.attach(model)
    hook.set_epoch(stage - 1)
    (out,) = model.train()(torch.randn(2, 3, 64, 64, device=DEVICE))
    out.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


# Several processes, one per GPU


def free_port():
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        return taken.getsockname()[1]


class Classifier(nn.Module):
    """L2ViT, which has BatchNorm, and a linear layer."""

    def __init__(self):
        super().__init__()
        arch = dict(embed_dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4))
        self.backbone = L2ViT(arch, window_size=3)
        self.head = nn.Linear(32, 5)

    def forward(self, images):
        return self.head(self.backbone(images)[-1].mean((2, 3)))


def train_part(rank, world, port, images, gradients):
    """Train a step on a part of the batch; send the gradients of the head."""
    if DEVICE == 'cuda':
        torch.cuda.set_device(rank)
    device = torch.device(DEVICE, rank) if DEVICE == 'cuda' else torch.device('cpu')
    dist.init_process_group(
        'nccl' if DEVICE == 'cuda' else 'gloo',
        init_method=f'tcp://127.0.0.1:{port}',
        rank=rank,
        world_size=world,
    )
    torch.manual_seed(0)
    model = Classifier().to(device)
    if DEVICE == 'cuda':
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    parallel = nn.parallel.DistributedDataParallel(model)
    parallel(images.chunk(world)[rank].to(device)).square().mean().backward()
    if rank == 0:
        gradients.put(model.head.weight.grad.cpu().numpy())
    dist.destroy_process_group()


def test_processes_with_synchronised_batchnorm_compute_the_gradients_of_one():
    world = max(torch.cuda.device_count(), 1) if DEVICE == 'cuda' else 1
    images = torch.randn(4 * world, 3, 48, 48)
    context = multiprocessing.get_context('spawn')
    gradients = context.Queue()
    arguments = (world, free_port(), images, gradients)
    children = multiprocessing.start_processes(
        train_part, arguments, nprocs=world, join=False, start_method='spawn'
    )
    found = torch.from_numpy(gradients.get(timeout=300))
    while not children.join():
        pass
    torch.manual_seed(0)
    model = Classifier()
    model(images).square().mean().backward()
    assert error(found, model.head.weight.grad) < 1e-2


# The host's compiled operators


def test_mmcvs_operators_are_those_of_the_cpu():
    mmcv_ops = pytest.importorskip('mmcv.ops')
    maps = torch.rand(2, 4, 16, 16)
    rois = torch.tensor([[0, 1.0, 2.0, 9.0, 12.0], [1, 3.0, 3.0, 14.0, 10.0]])
    align = mmcv_ops.RoIAlign(4, 1.0, 2)
    assert error(align(maps.to(DEVICE), rois.to(DEVICE)), align(maps, rois)) < 1e-4
    boxes = torch.rand(50, 4) * 20
    boxes[:, 2:] += boxes[:, :2] + 1
    scores = torch.rand(50)
    _, kept = mmcv_ops.nms(boxes, scores, 0.5)
    _, found = mmcv_ops.nms(boxes.to(DEVICE), scores.to(DEVICE), 0.5)
    assert torch.equal(found.cpu(), kept)
