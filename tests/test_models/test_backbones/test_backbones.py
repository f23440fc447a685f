"""Tests of every backbone of the package; cases.py lists the backbones."""

import copy
import inspect
import io
import pickle
import re
from contextlib import nullcontext
from functools import partial
from math import ceil

import pytest
import torch
from goldens import relative_error
from test_models.test_backbones.cases import CASES, LION, MAP_CASES
from torch import Tensor, nn

from mmvitlin.models.backbones.base import Backbone
from mmvitlin.registry import MODELS


def over(*argnames, values=lambda case: ((),), cases=CASES):
    """Parametrise a test over cases and, for each, over the tuples `values(case)`."""
    params = [
        pytest.param(case, *row, id='-'.join([case.name, *map(str, row[:1])]))
        for case in cases
        for row in values(case)
    ]
    return pytest.mark.parametrize(('case', *argnames), params)


def weigh(outs) -> Tensor:
    """A loss with a gradient everywhere, through the LayerNorm at each output as well."""
    generator = torch.Generator().manual_seed(1)
    losses = [
        (out * torch.randn(out.shape, generator=generator).to(out.dtype)).sum() / out[0].numel()
        for out in outs
    ]
    return sum(losses)


def under(names, prefixes) -> set[str]:
    """Those of `names` that are one of the modules `prefixes` or lie inside one."""
    return {n for n in names if any(n == p or n.startswith(f'{p}.') for p in prefixes)}


# Shapes


@over('size', values=lambda case: [(size,) for size in case.sizes], cases=MAP_CASES)
def test_outputs_are_maps_at_their_strides(case, size):
    model = case.build(out_indices=case.all_indices)
    model.eval()
    with torch.no_grad():
        outs = model(case.images(*size))
    assert isinstance(outs, tuple)
    expected = [
        (2, channels, ceil(size[0] / stride), ceil(size[1] / stride))
        for channels, stride in zip(case.channels, case.strides)
    ]
    assert [tuple(out.shape) for out in outs] == expected
    assert (model.out_channels, model.out_strides) == (case.channels, case.strides)
    assert all(out.isfinite().all() for out in outs)


@over(
    'out_indices',
    'selected',
    values=lambda case: [
        (0, [0]),
        (-1, [case.all_indices[-1]]),
        ((0, -1), [0, case.all_indices[-1]]),
        ([-1, 1], [1, case.all_indices[-1]]),
        (case.all_indices, list(case.all_indices)),
    ],
    cases=MAP_CASES,
)
def test_out_indices_select_outputs_in_order_of_depth(case, out_indices, selected):
    complete, model = case.build(out_indices=case.all_indices), case.build(out_indices=out_indices)
    complete.eval()
    model.eval()
    with torch.no_grad():
        expected, outs = complete(case.images()), model(case.images())
    assert len(outs) == len(selected)
    assert model.out_channels == tuple(case.channels[index] for index in selected)
    assert model.out_strides == tuple(case.strides[index] for index in selected)
    for out, index in zip(outs, selected):
        torch.testing.assert_close(out, expected[index], rtol=0, atol=0)


@over()
def test_images_of_a_batch_do_not_see_each_other_in_evaluation(case):
    model = case.build(out_indices=case.all_indices)
    model.double().eval()
    images = case.images().double()
    with torch.no_grad():
        together, alone = model(images), [model(image[None]) for image in images]
    for out, singles in zip(together, zip(*alone)):
        assert relative_error(torch.cat(singles), out) < 1e-12


@over(
    'layout',
    'arrange',
    values=lambda case: [
        ('channels_last', lambda x: x.contiguous(memory_format=torch.channels_last)),
        ('transposed', lambda x: x.transpose(2, 3).contiguous().transpose(2, 3)),
        ('sliced', lambda x: x.repeat(2, 2, 1, 1)[::2, : x.shape[1]]),
    ],
)
def test_memory_layout_of_the_images_does_not_matter(case, layout, arrange):
    model = case.build()
    model.double().eval()
    plain = case.images().double()[:1].repeat(2, 1, 1, 1)
    images = arrange(plain)
    assert not images.is_contiguous()
    with torch.no_grad():
        (expected,), (out,) = model(plain), model(images)
    assert relative_error(out, expected) < 1e-12
    assert torch.equal(images, plain), 'the forward pass wrote into its input'


# Training


@over('which', values=lambda case: [('all',), ('default',), ('first',)])
@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_every_parameter_gets_gradient(case, which, mode):
    out_indices = {'all': dict(out_indices=case.all_indices), 'first': dict(out_indices=0)}
    model = case.build(**out_indices.get(which, {}))
    model.double().train(mode == 'train')
    weigh(model(case.images().double())).backward()
    assert under(dict(model.named_parameters()), case.always_frozen) == {
        name for name, parameter in model.named_parameters() if not parameter.requires_grad
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            # A bias before a BatchNorm in training mode has no effect: rounding is its gradient.
            assert mode == 'train' or parameter.grad.abs().max() > 1e-9, name


@over()
def test_gradient_reaches_the_images_and_is_that_of_the_outputs(case):
    model = case.build()
    model.double().eval()
    images = case.images(17, 33, batch=1).double().requires_grad_()
    direction, step = torch.randn_like(images), 1e-5
    weigh(model(images)).backward()
    with torch.no_grad():
        ahead, behind = (weigh(model(images + sign * step * direction)) for sign in (1, -1))
    expected = (images.grad * direction).sum()
    assert (ahead - behind).item() / (2 * step) == pytest.approx(expected.item(), rel=1e-5)


@over('drop_path_rate', values=lambda case: [(0.0,), (0.5,)])
@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_checkpointing_changes_no_number(case, drop_path_rate, mode):
    results = []
    for with_cp in (False, True):
        model = case.build(
            with_cp=with_cp, drop_path_rate=drop_path_rate, out_indices=case.all_indices
        )
        model.double().train(mode == 'train')
        images = case.images().double().requires_grad_()
        torch.manual_seed(3)
        outs = model(images)
        weigh(outs).backward()
        result = {f'output {index}': out.detach() for index, out in enumerate(outs)}
        result['gradient of images'] = images.grad
        result |= {f'gradient of {n}': p.grad for n, p in model.named_parameters()}
        result |= {f'buffer {name}': buffer for name, buffer in model.named_buffers()}
        result['next random number'] = torch.rand(1)
        results.append(result)
    plain, recomputed = results
    for name, expected in plain.items():
        if expected is None:  # the gradient of a frozen parameter
            assert recomputed[name] is None, name
        else:
            assert torch.allclose(recomputed[name], expected, rtol=1e-12, atol=1e-14), name


@over('frozen_stages', values=lambda case: [(stage,) for stage in case.frozen])
def test_frozen_stages_stay_as_they_are(case, frozen_stages):
    model = case.build(
        frozen_stages=frozen_stages, out_indices=case.all_indices, drop_path_rate=0.5
    )
    frozen = case.frozen_at(frozen_stages)
    parameters, modules = dict(model.named_parameters()), dict(model.named_modules())
    for mode in (None, False, True):  # as built, after eval(), after train()
        if mode is not None:
            assert model.train(mode) is model
        assert {n for n, p in parameters.items() if not p.requires_grad} == under(
            parameters, frozen
        )
    resting = {name for name, module in modules.items() if not module.training}
    assert resting == under(modules, frozen)

    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    loss = weigh(model(case.images()))
    if under(parameters, frozen) != set(parameters):
        loss.backward()
    optimizer.step()
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == set(before) - under(before, frozen)


# Speed and precision


@pytest.fixture
def compile_whole():
    """torch.compile without graph breaks, from an empty cache."""
    torch._dynamo.reset()
    yield partial(torch.compile, fullgraph=True)
    torch._dynamo.reset()


@pytest.mark.slow
@over()
@pytest.mark.parametrize('with_cp', [False, True])
def test_compiled_training_changes_no_number(case, with_cp, compile_whole):
    """Captured in one graph, decomposed and partitioned as for Inductor, run by torch's kernels."""
    eager = case.build(**case.compiled, with_cp=with_cp)
    eager.train()
    copied = copy.deepcopy(eager)
    outs = compile_whole(copied, backend='aot_eager_decomp_partition')(case.images())
    expected = eager(case.images())
    for out, wanted in zip(outs, expected, strict=True):
        assert relative_error(out, wanted) < 1e-5
    weigh(outs).backward()
    weigh(expected).backward()
    trained = {name: p for name, p in eager.named_parameters() if p.requires_grad}
    largest = max(parameter.grad.abs().max() for parameter in trained.values())
    for name, parameter in copied.named_parameters():
        if name in trained:
            assert (parameter.grad - trained[name].grad).abs().max() < 1e-5 * largest, name
    for name, buffer in copied.named_buffers():
        assert torch.allclose(buffer, eager.get_buffer(name), rtol=1e-5), name


@pytest.mark.slow
@over(cases=MAP_CASES)
def test_one_graph_serves_all_batches_and_sizes(case, compile_whole):
    """In training; a graph of evaluation is what torch.export is tested on."""
    graphs = []

    def count(module, inputs):
        graphs.append(module)
        return module.forward

    model = case.build(**case.compiled)
    compiled = compile_whole(model, backend=count, dynamic=True)
    for batch in (2, 3):
        for size in ((77, 93), (64, 64), (96, 64), (65, 70), (128, 120)):
            images = case.images(*size, batch=batch)
            for out, expected in zip(compiled(images), model(images), strict=True):
                assert relative_error(out, expected) < 1e-5
    assert len(graphs) == 1


@pytest.mark.slow
@over(cases=(LION,))
def test_inductor_changes_no_number(case, compile_whole):
    """The generated C++ of the masks and scans; in one file, which takes half as long to compile.

    What Inductor makes of layers of torch, which the other backbones consist of, is torch's.
    """
    model = case.build(**case.compiled)
    model.eval()
    compiled = compile_whole(model, backend='inductor', options=dict(cpp_wrapper=True))
    with torch.no_grad():
        (out,), (expected,) = compiled(case.images()), model(case.images())
    assert relative_error(out, expected) < 1e-5


@over()
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=['float16', 'bfloat16'])
@pytest.mark.parametrize('way', ['cast', 'autocast'])
@pytest.mark.parametrize('scale', [1, 100])
def test_half_precision_stays_finite_and_near(case, dtype, way, scale):
    model = case.build(out_indices=case.all_indices)
    model.eval()
    images = case.images(64, 64) * scale
    with torch.no_grad():
        expected = model(images)
    context = nullcontext()
    if way == 'cast':
        model.to(dtype)
        images = images.to(dtype)
    else:
        context = torch.autocast('cpu', dtype=dtype)
    with context:
        outs = model(images)
        loss = weigh(outs)
    loss.backward()
    for out, wanted in zip(outs, expected):
        assert way == 'autocast' or out.dtype == dtype
        error = (out.float() - wanted).norm() / wanted.norm()
        assert error < 32 * torch.finfo(dtype).eps  # nan and inf are not below either
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad or parameter.grad.isfinite().all(), name


# Arguments


def weights(build) -> dict:
    return {name: tuple(value.shape) for name, value in build().state_dict().items()}


def trainable_parameters(build) -> list:
    return [name for name, parameter in build().named_parameters() if parameter.requires_grad]


def initial_weights(build) -> dict:
    torch.manual_seed(0)
    model = build(drawn=False)
    model.init_weights()
    return model.state_dict()


def outputs(build, mode: bool = False) -> dict:
    model = build()
    model.train(mode)
    torch.manual_seed(0)
    with torch.no_grad():
        return dict(enumerate(model(build.images)))


def training_outputs(build) -> dict:
    return outputs(build, mode=True)


def kept_activations(build) -> int:
    """Bytes that the graph keeps from the forward pass for the backward one."""
    sizes = []

    def pack(tensor):
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    model = build()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(build.images)
    return sum(sizes)


def items_for_a_token_head(build) -> list[int]:
    """Count the tensors of each output in training; the box of MixToken is one more."""
    return [len(out) for out in build(out_type='cls_and_patches')(build.images)]


# What of a backbone an argument can change: a name in `Live.changes` -> how it is observed.
ASPECTS = {
    'weights': weights,
    'trainable parameters': trainable_parameters,
    'initial weights': initial_weights,
    'outputs': outputs,
    'training outputs': training_outputs,
    'kept activations': kept_activations,
    'items for a token head': items_for_a_token_head,
}


class Builder:
    """Builds one case with one setting, and has images for it."""

    def __init__(self, case, changes):
        self.case, self.changes = case, changes
        self.images = case.images(channels=changes.get('in_channels', 3))

    def __call__(self, drawn: bool = True, **settings) -> nn.Module:
        changes = self.changes | settings
        if drawn:
            return self.case.build(**changes)
        return self.case.backbone(**self.case.settings(**changes))


def alike(one, other) -> bool:
    """Return whether two observations are the same, tensors up to rounding."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, Tensor):
        return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-4)
    return one == other


@over()
def test_the_table_of_live_arguments_is_complete(case):
    arguments = set(inspect.signature(case.backbone.__init__).parameters) - {'self'}
    assert {key.partition('.')[0] for key in case.live} == arguments


@over(cases=MAP_CASES)
def test_the_table_of_live_keys_of_an_arch_is_complete(case):
    zoo = case.backbone.arch_zoo
    assert {tuple(settings) for settings in zoo.values()} == {tuple(case.kwargs['arch'])}
    assert {key for key in case.live if key.startswith('arch')} == {
        f'arch.{key}' for key in case.kwargs['arch']
    }


@over('argument', values=lambda case: [(argument,) for argument in case.live])
def test_every_argument_is_live(case, argument):
    value, aspect = case.live[argument]
    key, _, arch_key = argument.partition('.')
    changes = {key: case.kwargs['arch'] | {arch_key: value} if arch_key else value}
    observe = ASPECTS[aspect]
    base = observe(Builder(case, {}))
    assert alike(base, observe(Builder(case, {}))), 'the observation itself is not reproducible'
    assert not alike(base, observe(Builder(case, changes)))


def bad_arguments(case):
    """Return bad settings, of all backbones and of this one, with a fragment of their message."""
    yield from case.bad_arguments
    if case not in MAP_CASES:
        return
    arch, outs = case.kwargs['arch'], len(case.strides)
    first, last_stage = next(iter(arch)), max(case.frozen)
    yield dict(arch='huge'), "'huge'"
    yield dict(arch={}), 'keys'
    yield dict(arch={k: v for k, v in arch.items() if k != first}), 'keys'
    yield dict(arch=arch | dict(extra=1)), 'extra'
    for out_indices in ((), (outs,), outs, (-outs - 1,), (0, 0), (0, -outs)):
        yield dict(out_indices=out_indices), f'got {out_indices}'
    for frozen_stages in (-2, last_stage + 1):
        yield dict(frozen_stages=frozen_stages), f'got {frozen_stages}'


@over('settings', 'message', values=bad_arguments)
def test_bad_arguments_are_refused_with_what_was_given(case, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        case.backbone(**(case.kwargs | settings))


@over()
def test_a_misspelt_argument_is_a_type_error(case):
    with pytest.raises(TypeError, match='out_indexes'):
        case.backbone(**case.kwargs, out_indexes=(0,))


@over('shape', values=lambda case: [((1, 4, 32, 32),), ((3, 32, 32),), ((1, 2, 3, 32, 32),)])
def test_images_of_another_shape_are_refused_with_their_shape(case, shape):
    with pytest.raises(ValueError, match=re.escape(str(shape))):
        case.build()(torch.zeros(shape))


# Life in a host


@over()
def test_backbone_is_built_by_name(case):
    model = MODELS.build(dict(type=f'mmvitlin.{case.name}', **case.kwargs))
    assert type(model) is case.backbone


@over()
def test_settings_are_left_as_they_were(case):
    kwargs = copy.deepcopy(case.kwargs)
    case.backbone(**kwargs)
    assert kwargs == case.kwargs


@over('name', values=lambda case: [(name,) for name in case.backbone.arch_zoo], cases=MAP_CASES)
def test_a_name_means_the_settings_of_the_zoo(case, name):
    zoo, rest = case.backbone.arch_zoo, {k: v for k, v in case.kwargs.items() if k != 'arch'}
    with torch.device('meta'):
        built = [case.backbone(arch, **rest) for arch in (name, name.upper(), dict(zoo[name]))]
    shapes = [{k: tuple(v.shape) for k, v in model.state_dict().items()} for model in built]
    assert shapes[0] == shapes[1] == shapes[2]


@over()
def test_a_copy_loads_the_weights_and_gives_the_same_numbers(case, tmp_path):
    model, other = case.build(), case.backbone(**case.kwargs)
    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    other.load_state_dict(torch.load(tmp_path / 'weights.pth', weights_only=True))
    for each in (model, other):
        each.eval()
    with torch.no_grad():
        for out, expected in zip(other(case.images()), model(case.images()), strict=True):
            assert torch.equal(out, expected)


@over()
def test_a_model_travels_to_another_process_and_gives_the_same_numbers(case):
    model = case.build()
    model.eval()
    other = pickle.loads(pickle.dumps(model))
    with torch.no_grad():
        for out, expected in zip(other(case.images()), model(case.images()), strict=True):
            assert torch.equal(out, expected)


@over()
def test_shapes_are_told_without_a_number(case):
    """On the meta device, with and without `with torch.device('meta')`."""
    expected = [out.shape for out in case.build()(case.images())]
    with torch.device('meta'):
        model = case.backbone(**case.kwargs)
        assert [out.shape for out in model(torch.empty(2, 3, 33, 47))] == expected


@over()
def test_an_empty_batch_gives_an_empty_output(case):
    model = case.build()
    model.eval()
    outs = model(case.images(batch=2)[:0])
    assert [tuple(out.shape) for out in outs] == [
        (0, *out.shape[1:]) for out in model(case.images())
    ]


@over()
def test_a_dense_backbone_starts_from_a_classifiers_weights(case, tmp_path):
    weights = {f'backbone.{name}': value for name, value in case.build().state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'classifier.pth')
    pretrained = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'classifier.pth'), prefix='backbone.'
    )
    settings = case.settings(out_indices=case.all_indices, init_cfg=pretrained)
    model = case.backbone(**settings)
    model.init_weights()
    state = model.state_dict()
    for name, value in weights.items():
        assert torch.equal(state[name.removeprefix('backbone.')], value), name
    new = {name for name in state if f'backbone.{name}' not in weights}
    assert new == under(new, model.allowed_missing)


# Leaving the package: export, tracing, quantisation


def modules_of(model, kind) -> int:
    return sum(isinstance(module, kind) for module in model.modules())


@pytest.fixture(params=['deployed', 'all outputs'])
def deployed(request):
    """Return a backbone in evaluation mode, with its own outputs and with all outputs."""

    def build(case):
        changes = dict(out_indices=case.all_indices) if request.param == 'all outputs' else {}
        model = case.build(**changes)
        model.eval()
        return model

    return build


@pytest.mark.slow
@over()
def test_an_exported_program_takes_other_batches_and_sizes(case):
    """With a linear for each linear layer, and a convolution for each convolution."""
    model = case.build(**case.compiled)
    model.eval()
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    program = torch.export.export(model, (case.images(77, 93),), dynamic_shapes=(free,))
    nodes = [n for module in program.graph_module.modules() for n in module.graph.nodes]
    calls = [str(node.target) for node in nodes if node.op == 'call_function']
    linears = modules_of(model, nn.Linear) + case.linears_of_buffers
    assert sum('aten.linear' in call for call in calls) == linears
    assert sum('aten.conv' in call for call in calls) == modules_of(model, nn.Conv2d)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    run = torch.export.load(file).module()
    with torch.no_grad():
        least = 2 * max(16, case.strides[-1])  # torch.export takes a map of one cell for fixed
        for size, batch in (((least, least), 1), ((96, 64), 3), ((75, 91), 1), ((200, 224), 2)):
            images = case.images(*size, batch=batch)
            for out, expected in zip(run(images), model(images), strict=True):
                assert relative_error(out, expected) < 1e-5


@pytest.mark.slow
@over()
@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
def test_a_saved_trace_takes_other_batches_and_sizes(case, deployed):
    model = deployed(case)
    with torch.no_grad():
        file = io.BytesIO()
        torch.jit.save(torch.jit.trace(model, case.images(40, 64), check_trace=False), file)
        file.seek(0)
        traced = torch.jit.load(file)
        for size, batch in (((40, 64), 1), ((40, 64), 3), ((33, 47), 2), ((64, 64), 1)):
            images = case.images(*size, batch=batch)
            for out, expected in zip(traced(images), model(images), strict=True):
                assert relative_error(out, expected) < 1e-5


@over()
def test_every_linear_layer_is_quantised(case):
    model = case.build()
    model.eval()
    count = modules_of(model, nn.Linear)
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    assert modules_of(quantised, torch.ao.nn.quantized.dynamic.Linear) == count > 0
    assert modules_of(quantised, nn.Linear) == 0
    with torch.no_grad():
        for out, expected in zip(quantised(case.images()), model(case.images()), strict=True):
            assert relative_error(out, expected) < 0.1


@over()
@pytest.mark.filterwarnings('ignore:There is a performance drop')
def test_gradients_per_sample_are_those_of_single_images(case):
    model = case.build()
    model.double().eval()
    images = case.images().double()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def loss(parameters, image):
        (out,) = torch.func.functional_call(model, parameters, (image[None],))
        return out.sin().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(trained, images)
    for i, image in enumerate(images):
        expected = torch.autograd.grad(loss(trained, image), trained.values())
        for name, gradient in zip(trained, expected):
            torch.testing.assert_close(found[name][i], gradient, rtol=1e-9, atol=1e-9)


@over()
@pytest.mark.filterwarnings('ignore:There is a performance drop')
def test_an_ensemble_by_vmap_returns_what_each_of_its_models_returns(case):
    models = [case.build().double().eval() for _ in range(2)]
    with torch.no_grad():
        for parameter in models[1].parameters():
            parameter.mul_(1.1)
        images = case.images().double()
        outs = torch.func.vmap(
            lambda *state: torch.func.functional_call(models[0], state, (images,))
        )(*torch.func.stack_module_state(models))
        for i, model in enumerate(models):
            for out, expected in zip(outs, model(images), strict=True):
                torch.testing.assert_close(out[i], expected, rtol=1e-9, atol=1e-9)


# Optimisation


@over()
def test_parameters_without_weight_decay_are_parameters(case):
    model = case.build()
    names = {name for name, _ in model.named_parameters()}
    assert model.no_weight_decay() == names & {
        'cls_token',
        'det_token',
        'pos_embed',
        'pos_embed.weight',
    }


@over()
def test_layer_depths_run_from_the_stem_to_what_follows_the_blocks(case):
    model = case.build(out_indices=case.all_indices)
    depths = set()
    for name, _ in model.named_parameters():
        depth, num_layers = model.get_layer_depth(f'backbone.{name}', 'backbone.')
        assert model.get_layer_depth(name) == (depth, num_layers), name
        depths.add(depth)
    assert depths == set(range(num_layers))
    last = (num_layers - 1, num_layers)
    assert model.get_layer_depth('head.fc.weight', 'backbone.') == last
    assert model.get_layer_depth('neck.stages.0.0.weight', 'backbone.') == last


def test_every_backbone_of_the_package_has_a_case():
    """Their subclasses for masked pre-training have test_masked_backbones.py."""
    masked = {'MAELION', 'SimMIML2ViT'}
    ours = {cls.__name__ for cls in MODELS.module_dict.values() if issubclass(cls, Backbone)}
    assert ours - masked == {case.name for case in CASES}
