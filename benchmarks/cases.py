"""The table of what is measured: groups, their tables, and their cases."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import timm
import torch
import torch.nn.functional as F
from harness import Case, Step, Table
from input_pipelines import input_tables
from mmpretrain.models import ConvNeXt, SwinTransformer, VisionTransformer
from torch import Tensor, nn
from trainings import curricula, distillation, pre_training, token_labels

from mmvitlin.curricula import TokenExpansionHook
from mmvitlin.layers import DepthwiseConv, OneDNNLinear, use_onednn_linears
from mmvitlin.layers.lion_attention import FORMATS
from mmvitlin.models import LION, L2ViT, SimpleFeaturePyramid, ViTLLaMA
from mmvitlin.models.backbones.frozen_llama import FrozenLLaMA
from mmvitlin.ops import low_frequency_crop
from mmvitlin.ops.decayed_attention import CHUNK_SIZE, Scan, decayed_attention
from mmvitlin.ops.llama_block import llama_block_naive, rms_norm
from mmvitlin.ops.token_expansion import step_sizes
from mmvitlin.ops.token_labels import token_label_targets, token_label_targets_naive

Size = tuple[int, int]
LINEAR, QUADRATIC = 1, 2


@dataclass(frozen=True)
class Model:
    """Model, ours or a peer's.

    Args:
        build: creates it for images of (H, W).
        peer: the model that it is compared with; None for a peer.
        theory: exponents of time and memory in the number of tokens.
    """

    build: Callable[[Size], nn.Module]
    peer: str | None = None
    theory: tuple[int, int] = (LINEAR, LINEAR)


@dataclass(frozen=True)
class Setting:
    """Setting in which models are compared: step, shape of the images, linears, dtype, compiler."""

    step: str
    shape: tuple[int, int, int, int]
    linears: str = 'plain'
    dtype: str = 'float32'
    compiled: bool = False

    def __str__(self) -> str:
        batch, _, height, width = self.shape
        extras = ['oneDNN linears'] * (self.linears == 'onednn')
        extras += [self.dtype] * (self.dtype != 'float32')
        extras += ['compiled'] * self.compiled
        return ', '.join([f'{self.step}, {batch} x {height} x {width}', *extras])


# Models


def hierarchical(backbone: type[nn.Module], size: Size, **settings) -> nn.Module:
    """Build a hierarchical backbone of tiny size, which takes images of any size."""
    return backbone('tiny', **settings)


def lion(size: Size, **settings) -> nn.Module:
    """Build LION-small."""
    return LION('small', img_size=size, **settings)


def deit(size: Size, **settings) -> nn.Module:
    """Build mmpretrain's DeiT-small with positions for images of a size."""
    return VisionTransformer('deit-small', img_size=size, **settings)


def timm_vit(size: Size) -> nn.Module:
    """Build timm's ViT-small, whose output is that of the class token."""
    return timm.create_model('vit_small_patch16_224', img_size=size, num_classes=0)


# All return the normalised output of the last stage only.
LAST = dict(out_indices=(3,))
HIERARCHICAL = {
    'L2ViT-tiny': Model(partial(hierarchical, L2ViT, **LAST), 'Swin-tiny'),
    'ConvNeXt-tiny': Model(
        partial(hierarchical, ConvNeXt, gap_before_final_norm=False, **LAST), 'Swin-tiny'
    ),
    'Swin-tiny': Model(partial(hierarchical, SwinTransformer, **LAST)),
}
PLAIN = {
    'LION-Lit': Model(partial(lion, mask_type='Lit'), 'DeiT-small'),
    'LION-D': Model(partial(lion, mask_type='Decay'), 'DeiT-small'),
    'LION-S': Model(partial(lion, mask_type='Selective'), 'DeiT-small'),
    'LION-D♮': Model(partial(lion, mask_type='Decay', order='S'), 'DeiT-small'),
    'LION-S♮': Model(partial(lion, mask_type='Selective', order='S'), 'DeiT-small'),
    'timm ViT-small': Model(timm_vit, 'DeiT-small', (QUADRATIC, LINEAR)),
    'DeiT-small': Model(deit, None, (QUADRATIC, LINEAR)),
}


def with_pyramid(build_model: Callable[..., nn.Module], size: Size, **settings) -> nn.Module:
    """Append Mask R-CNN's pyramid of five levels to a plain backbone of small size."""
    return nn.Sequential(
        build_model(size, out_type='featmap', **settings),
        SimpleFeaturePyramid(in_channels=384, num_outs=5),
    )


# In a detector: hierarchical backbones with all of their maps, plain ones with a pyramid.
STAGES = dict(out_indices=(0, 1, 2, 3))
NATURAL_DECAY = dict(mask_type='Decay', order='S')
DETECTOR = {
    'L2ViT-tiny': Model(partial(hierarchical, L2ViT, **STAGES), 'DeiT-small'),
    'Swin-tiny': Model(partial(hierarchical, SwinTransformer, **STAGES), 'DeiT-small'),
    'LION-D♮': Model(partial(with_pyramid, lion, **NATURAL_DECAY), 'DeiT-small'),
    'LION-D♮, with_cp': Model(
        partial(with_pyramid, lion, with_cp=True, **NATURAL_DECAY), 'DeiT-small'
    ),
    'DeiT-small': Model(partial(with_pyramid, deit), None, (QUADRATIC, LINEAR)),
}


# Steps of models


def model_step(
    build_model: Callable[[Size], nn.Module], setting: Setting, compiled: bool, device: str
) -> Step:
    """Create an inference or training step of a model in a setting."""
    model = build_model(setting.shape[2:]).to(device)
    if setting.linears == 'onednn':
        use_onednn_linears(model)
    model.train(setting.step == 'training step')
    if compiled:
        model.compile()
    images = torch.randn(*setting.shape, device=device)
    dtype = getattr(torch, setting.dtype)
    autocast = partial(torch.autocast, device, dtype, enabled=dtype != torch.float32)
    if setting.step == 'training step':
        return training(model, images, autocast)

    @torch.inference_mode()
    def step() -> None:
        with autocast():
            model(images)

    return step


def training(model: nn.Module, images: Tensor, autocast: Callable = torch.enable_grad) -> Step:
    """Create a step: forward, backward from random gradients of every output, and AdamW.

    The gradient of a mean would be too simple: the mean of a LayerNorm's output hardly depends on
    its input, so the backward pass would compute with numbers close to zero.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)

    def outputs() -> Sequence[Tensor]:
        with autocast():
            outs = model(images)
        return [outs] if isinstance(outs, Tensor) else outs

    gradients = [torch.randn_like(out) / out.numel() for out in outputs()]

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(outputs(), gradients)
        optimizer.step()

    return step


def model_table(models: dict[str, Model], setting: Setting, device: str, series: str = '') -> Table:
    """Compare models in a setting; where it is compiled, eager models are measured beside."""
    case = partial(model_case, models, setting, device)
    cases = [case(name, False) for name in models]
    if setting.compiled:
        cases += [case(name, True) for name in models]
    batch, _, height, width = setting.shape
    # Patches of 16 count as tokens for hierarchical models as well.
    tokens = batch * height * width // 16**2 if series else None
    return Table(str(setting), cases, series, tokens)


def model_case(
    models: dict[str, Model], setting: Setting, device: str, name: str, compiled: bool
) -> Case:
    """Make the case of a model."""
    model, suffix = models[name], ', compiled' * compiled
    return Case(
        name + suffix,
        partial(model_step, model.build, setting, compiled, device),
        peer=model.peer and model.peer + suffix,
        eager=name if compiled else None,
        theory=model.theory,
        peak_step=2 if setting.step == TRAINING else 1,  # AdamW has its state from then on
    )


def square(side: int, batch: int = 1) -> tuple[int, int, int, int]:
    """Return the shape of a batch of square images."""
    return batch, 3, side, side


BATCH = square(224, 8)
DENSE = (1, 3, 800, 1216)
OTHER_PEERS = ('ConvNeXt-tiny', 'timm ViT-small')
GROWTH = (square(224), square(384), square(512), DENSE, square(1024))
INFERENCE, TRAINING = 'inference', 'training step'


def models_of(*names: str) -> dict[str, Model]:
    """Select models, whose peers must be among them."""
    return {name: model for name, model in (HIERARCHICAL | PLAIN).items() if name in names}


def batches(models: dict[str, Model], step: str, device: str) -> list[Table]:
    """Eight images of 224 x 224; the memory of inference is in the tables of growth."""
    return [replace(model_table(models, Setting(step, BATCH), device), memory=step == TRAINING)]


def onednn(device: str) -> list[Table]:
    """Eight images of 224 x 224, with oneDNN's linears on both sides; memory is in other tables."""
    tables = [
        model_table(models, Setting(step, BATCH, 'onednn'), device)
        for models in (HIERARCHICAL, PLAIN)
        for step in (INFERENCE, TRAINING)
    ]
    return [replace(table, memory=False) for table in tables]


def growth(models: dict[str, Model], device: str) -> list[Table]:
    """Inference on one image of growing size, without peers that are in the other tables."""
    models = {name: model for name, model in models.items() if name not in OTHER_PEERS}
    return [model_table(models, Setting(INFERENCE, s), device, INFERENCE) for s in GROWTH]


def low_precision(device: str) -> list[Table]:
    """Autocast to bfloat16."""
    tables = [
        model_table(models, Setting(step, BATCH, dtype='bfloat16'), device)
        for models in (HIERARCHICAL, PLAIN)
        for step in (INFERENCE, TRAINING)
    ]
    return [replace(table, memory=False) for table in tables]


def compiled(device: str, step: str) -> list[Table]:
    """Compiled models, and eager ones, whose memory is in other tables."""
    hierarchical, timm = models_of('L2ViT-tiny', 'Swin-tiny'), 'timm ViT-small'
    if device == 'cpu':  # torch 2.10 generates C++ for Swin that no compiler takes
        hierarchical = {'L2ViT-tiny': replace(HIERARCHICAL['L2ViT-tiny'], peer=None)}
    # In place of mmpretrain's DeiT, whose rates of stochastic depth are numpy's: torch 2.10 fails.
    plain = {
        name: replace(model, peer=timm if model.peer else None)
        for name, model in models_of('LION-D', 'LION-S♮').items()
    } | {timm: replace(PLAIN[timm], peer=None)}
    tables = [
        model_table(models, Setting(step, BATCH, compiled=True), device)
        for models in (hierarchical, plain)
    ]
    return [replace(table, memory=False) for table in tables]


def detector(device: str) -> list[Table]:
    """Training steps of a detector's backbones."""
    shapes = square(512), DENSE
    return [model_table(DETECTOR, Setting(TRAINING, shape), device) for shape in shapes]


# Attention alone: 12 heads of 64 channels, one image, queries and keys after their feature map.

HEADS, WIDTH = 12, 64
SOFTMAX = 'SDPA softmax'
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def softmax_attention(length: int, device: str) -> Attend:
    """Return torch's fused attention."""
    return F.scaled_dot_product_attention


def lion_attention(length: int, device: str, format: str, selective: bool) -> Attend:
    """Return a format of LION's attention, with gates drawn uniformly from 0 to 1."""
    gates = torch.rand(1, HEADS, length if selective else 1, device=device)
    scans = [Scan(gates.log())]
    return partial(decayed_attention, scans=scans, form=FORMATS[format](CHUNK_SIZE))


# Name -> builder, exponents of time and memory, largest numbers of tokens without and with
# gradients. The L x L matrix of the naive form takes 12 GiB at 16384 tokens.
ATTENTIONS: dict[str, tuple[Callable[[int, str], Attend], tuple[int, int], Size]] = {
    'chunks, Decay': (
        partial(lion_attention, format='Chunk', selective=False),
        (LINEAR, LINEAR),
        (65537, 16385),
    ),
    'chunks, Selective': (
        partial(lion_attention, format='Chunk', selective=True),
        (LINEAR, LINEAR),
        (65537, 16385),
    ),
    'auto, Decay': (
        partial(lion_attention, format='auto', selective=False),
        (LINEAR, LINEAR),
        (1025, 1025),
    ),
    'auto, Selective': (
        partial(lion_attention, format='auto', selective=True),
        (LINEAR, LINEAR),
        (1025, 1025),
    ),
    'naive, Selective': (
        partial(lion_attention, format='Attention', selective=True),
        (QUADRATIC, QUADRATIC),
        (1025, 1025),
    ),
    SOFTMAX: (softmax_attention, (QUADRATIC, LINEAR), (16385, 4097)),
}
LENGTHS = (197, 1025, 4097, 16385, 65537)


def attention_step(
    make: Callable[[int, str], Attend], length: int, gradients: bool, device: str
) -> Step:
    """Create a step of attention alone."""
    q, k, v = (torch.rand(1, HEADS, length, WIDTH, device=device) for _ in range(3))
    attend = make(length, device)
    if not gradients:
        return torch.inference_mode()(lambda: attend(q, k, v))
    tensors = [x.requires_grad_() for x in (q, k, v)]
    gradient = torch.randn_like(v)
    return lambda: torch.autograd.grad(attend(*tensors), tensors, gradient)


def attention(device: str, lengths: Sequence[int] = LENGTHS) -> list[Table]:
    """Forms of LION's attention beside softmax attention."""
    tables = []
    for gradients, name in enumerate(('attention, forward', 'attention, forward and backward')):
        for length in lengths:
            made = {n: a for n, a in ATTENTIONS.items() if length <= a[2][gradients]}
            peer = SOFTMAX if SOFTMAX in made else None
            cases = [
                Case(
                    case,
                    partial(attention_step, make, length, bool(gradients), device),
                    peer=None if case == SOFTMAX else peer,
                    theory=theory,
                )
                for case, (make, theory, _) in made.items()
            ]
            if cases:
                tables.append(Table(f'{name}, {length} tokens', cases, name, length))
    return tables


# Token expansion: a stage beside dense training, and beside a step that drops all but the first
# tokens to get the same number. The difference of the two is the cost of selecting and merging.

EXPANSION = ((0.5, 0.75, 1.0), 0.25, 2)  # keep rates, initial one, steps of a stage


def at_stage(stage: int, size: Size) -> nn.Module:
    """Build DeiT-small at a stage of token expansion."""
    model = deit(size)
    hook = TokenExpansionHook(expansion_step=(0, 1, 2))
    hook.attach(model)
    hook.set_epoch(stage - 1)
    return model


def cut_as_at_stage(stage: int, size: Size) -> nn.Module:
    """Build a DeiT-small that keeps the first tokens only, as many as at a stage."""
    model = deit(size)
    patches = model.patch_resolution[0] * model.patch_resolution[1]
    length = model.num_extra_tokens + sum(step_sizes(patches, stage, *EXPANSION))
    model.layers[1].register_forward_pre_hook(lambda _, inputs: (inputs[0][:, :length],))
    return model


EXPANDED = {
    'dense': Model(deit),
    **{f'stage {stage}': Model(partial(at_stage, stage), 'dense') for stage in (1, 2)},
    **{f'cut as at stage {s}': Model(partial(cut_as_at_stage, s), 'dense') for s in (1, 2)},
}


def token_expansion(device: str, shape: tuple[int, int, int, int] = square(224, 16)) -> list[Table]:
    """Training steps of DeiT-small at the stages of token expansion; stage 3 is dense."""
    return [model_table(EXPANDED, Setting(TRAINING, shape), device)]


# ViT-LLaMA

LLAMA_7B = dict(embed_dims=4096, num_heads=32, feedforward_channels=11008, checkpoint='random')
UNFROZEN = 'float32 block with gradients'


class UnfrozenLLaMA(FrozenLLaMA):
    """Block whose weights require gradients, with unfused attention."""

    def forward(self, x: Tensor) -> Tensor:
        self.prepare(required=True)
        dtype = x.dtype
        for block in self._weights.on(x.device):
            for weight in block.values():
                weight.requires_grad_(True).grad = None
            x = llama_block_naive(x, block, self.num_heads)
        return rms_norm(x).to(dtype)


def vit_llama(size: Size, llama: dict, dtype: str) -> ViTLLaMA:
    """Build ViT-LLaMA-small with its frozen block in a dtype."""
    return ViTLLaMA('small', img_size=size, llama=llama | dict(dtype=dtype))


def unfrozen_llama(size: Size, llama: dict) -> ViTLLaMA:
    """Build ViT-LLaMA-small with a block whose gradients are computed and not used."""
    model = ViTLLaMA('small', img_size=size, llama=llama)
    model.llama = UnfrozenLLaMA(**llama)
    return model


def llama_models(device: str, llama: dict = LLAMA_7B) -> dict[str, Model]:
    """List the models; float16 is slow on CPUs and measured on GPUs only."""
    dtypes = ('float32', 'bfloat16') if device == 'cpu' else ('float32', 'bfloat16', 'float16')
    models = {
        f'frozen {dtype} block': Model(partial(vit_llama, llama=llama, dtype=dtype), UNFROZEN)
        for dtype in dtypes
    }
    return models | {UNFROZEN: Model(partial(unfrozen_llama, llama=llama))}


def llama(device: str) -> list[Table]:
    """Compare a frozen block of LLaMA-7B's size with one whose gradients are computed."""
    table = model_table(llama_models(device), Setting(TRAINING, square(224, 4)), device)
    return [replace(table, memory=False)]


# Layers, each beside the plain form that it stands in for

L2VIT_STAGES = {1: (56, 96), 2: (28, 192), 3: (14, 384), 4: (7, 768)}  # side and width at 224


def layer_step(
    build_layer: Callable[[], nn.Module], shape: Sequence[int], gradients: bool, device: str
) -> Step:
    """Create a step of a layer, without or with the gradients of input and parameters."""
    layer = build_layer().to(device)
    x = torch.randn(*shape, device=device, requires_grad=gradients)
    if not gradients:
        return torch.inference_mode()(lambda: layer(x))
    gradient = torch.randn_like(layer(x))
    return lambda: torch.autograd.grad(layer(x), [x, *layer.parameters()], gradient)


def crop_step(crop: Callable[[Tensor, int], Tensor], side: int, size: int, device: str) -> Step:
    """Create a step that makes sixteen images smaller."""
    images = torch.randn(16, 3, side, side, device=device)
    return lambda: crop(images, size)


def resize(images: Tensor, size: int) -> Tensor:
    """Resize images by bicubic interpolation with an antialiasing filter."""
    return F.interpolate(images, size=(size, size), mode='bicubic', antialias=True)


def targets_step(form: Callable, batch: int, device: str) -> Step:
    """Create a step: token label targets of random crops, from maps of 40 classes each."""
    scores = torch.randn(batch, 5, 18, 18, device=device)
    classes = torch.rand(batch, 40, 18, 18, device=device).argsort(1)[:, :5]
    maps = torch.stack([scores, classes.float()], 1)
    boxes = torch.cat([torch.rand(batch, 2) / 2, torch.rand(batch, 2) / 2 + 0.01], 1).to(device)
    return lambda: form(maps, boxes, 1000, 14)


def pair(name: str, ours: tuple[str, partial], peer: tuple[str, partial]) -> Table:
    """Compare two builders of steps."""
    return Table(name, [Case(*ours, peer=peer[0]), Case(*peer)], memory=False)


def layers(device: str, batch: int = 8) -> list[Table]:
    """Linear layers and depthwise convolutions of L2ViT-tiny, label targets, frequency crops."""
    tables = []
    for gradients, way in enumerate(('forward', 'forward and backward')):
        step = partial(layer_step, gradients=bool(gradients), device=device)
        for stage, (side, width) in L2VIT_STAGES.items():
            last, first = (batch, side, side, width), (batch, width, side, side)
            build_linears = (partial(kind, width, 4 * width) for kind in (OneDNNLinear, nn.Linear))
            ours, peer = (partial(step, build_layer, last) for build_layer in build_linears)
            name = f'{way}, stage {stage}, linear {width} -> {4 * width}'
            tables.append(pair(name, ('OneDNNLinear', ours), ('nn.Linear', peer)))
            for kernel in (3, 7):
                conv = partial(nn.Conv2d, width, width, kernel, padding=kernel // 2, groups=width)
                ours = partial(step, partial(DepthwiseConv, width, kernel), last)
                name = f'{way}, stage {stage}, depthwise {kernel} x {kernel} of {width}'
                peer = partial(step, conv, first)
                tables.append(pair(name, ('DepthwiseConv', ours), ('nn.Conv2d', peer)))
    for side, size in ((224, 160), (224, 192), (28, 20)):
        ours, peer = (
            partial(crop_step, crop, side, size, device) for crop in (low_frequency_crop, resize)
        )
        name = f'16 images of {side} x {side} to {size} x {size}'
        tables.append(pair(name, ('low-frequency crop', ours), ('bicubic resizing', peer)))
    ours, peer = (
        partial(targets_step, form, 4 * batch, device)
        for form in (token_label_targets, token_label_targets_naive)
    )
    name = f'token label targets of {4 * batch} images'
    tables.append(pair(name, ('matrices', ours), ('RoIAlign', peer)))
    return tables


# Groups


@dataclass(frozen=True)
class Group:
    """Unit of `--only`.

    Args:
        about: what it compares.
        tables: given the device, the tables to measure.
        train: whole trainings instead, given a function for options of the run.
        default: measured where nothing is selected.
    """

    about: str
    tables: Callable[[str], list[Table]] | None = None
    train: Callable[[int, bool], dict] | None = None
    default: bool = True


# In the order of a run: what cannot be shortened first, what can be left out last.
GROUPS = {
    'compiled-inference': Group('compiled and eager, inference', partial(compiled, step=INFERENCE)),
    'curricula': Group('whole trainings on digits beside the bound of their plan', train=curricula),
    'hierarchical-inference': Group(
        "L2ViT beside mmpretrain's Swin and ConvNeXt", partial(batches, HIERARCHICAL, INFERENCE)
    ),
    'hierarchical-growth': Group(
        'the same, one image of growing size', partial(growth, HIERARCHICAL)
    ),
    'hierarchical-training': Group(
        'the same, training steps', partial(batches, HIERARCHICAL, TRAINING)
    ),
    'plain-inference': Group(
        "LION beside mmpretrain's DeiT and timm's ViT", partial(batches, PLAIN, INFERENCE)
    ),
    'plain-growth': Group('the same, one image of growing size', partial(growth, PLAIN)),
    'plain-training': Group('the same, training steps', partial(batches, PLAIN, TRAINING)),
    'onednn': Group("all of them with oneDNN's linears on both sides", onednn, default=False),
    'compiled-training': Group(
        'compiled and eager, training steps', partial(compiled, step=TRAINING), default=False
    ),
    'attention': Group("LION's attention beside torch's, 197 to 65537 tokens", attention),
    'token-expansion': Group('stages of token expansion beside dense training', token_expansion),
    'input': Group("images per second on one core beside timm's pipeline", input_tables),
    'bfloat16': Group('all of them under autocast', low_precision),
    'detector': Group('backbones in training steps of a detector', detector, default=False),
    'layers': Group('layers beside the plain form of each', layers, default=False),
    'vit-llama': Group("a frozen block of LLaMA-7B's size", llama, default=False),
    'distillation': Group('digits with and without a teacher', train=distillation, default=False),
    'pre-training': Group(
        '200 labelled digits after all of them without labels', train=pre_training, default=False
    ),
    'token-labels': Group('digits: teacher, label maps, LV-ViT', train=token_labels, default=False),
}
