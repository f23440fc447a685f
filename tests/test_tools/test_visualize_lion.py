"""What visualize_lion.py draws are the model's own masks, what it prints the model's own gates."""

import importlib.util
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from tiny_run import DEMO, ROOT

from mmvitlin.models.backbones.lion import NUM_SCANS, ORDERS
from mmvitlin.ops.decayed_attention import decay_mask

TOOL = 'analysis_tools/visualize_lion.py'
CONFIG = ROOT / 'configs/quickstart/lion-d-natural-micro_1xb64_digits.py'
LAYERS, HEADS, GRID = 2, 3, (8, 8)
TINY = {
    'model.backbone.arch.embed_dims': 12,
    'model.backbone.arch.num_layers': LAYERS,
    'model.backbone.arch.feedforward_channels': 12,
    'model.head.in_channels': 12,
}
GATE = r'layer (\d), ([\w ]+), head (\d): (.*), half-life ([\d.]+|inf) tokens'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('visualize_lion', ROOT / 'tools' / TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def digit(tmp_path):
    """An image whose upper half is black and whose lower half is noise in colour."""
    noise = np.random.RandomState(0).randint(0, 256, (8, 8, 3), np.uint8)
    noise[:4] = 0
    Image.fromarray(noise).save(tmp_path / 'digit.png')
    return tmp_path / 'digit.png'


def options(**changes):
    """The tiny model as arguments; 'mask_type' and the like change its backbone."""
    settings = TINY | {f'model.backbone.{name}': value for name, value in changes.items()}
    return ['--cfg-options', *(f'{key}={value}' for key, value in settings.items())]


def config(**changes):
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(TINY | {f'model.backbone.{name}': v for name, v in changes.items()})
    return cfg


def read(tool, digit, **changes):
    """The model, its gates' inputs and the scans that the tool reads."""
    model = tool.build_model(config(**changes), None)
    backbone = tool.find_lion(model)
    inputs = []
    for layer in backbone.layers:
        layer.attn.register_forward_hook(lambda module, args, out: inputs.append(args))
    _, images = tool.load_image(config(), model, str(digit))
    layers, grid = tool.read_scans(backbone, images)
    assert grid == GRID
    return backbone, inputs, layers


# What is computed


def test_every_order_has_a_name_for_each_of_its_scans(tool):
    assert tool.SCAN_NAMES.keys() == ORDERS.keys()
    assert {name: len(scans) for name, scans in tool.SCAN_NAMES.items()} == NUM_SCANS


@pytest.mark.parametrize('mask_type', ['Decay', 'Selective'])
@pytest.mark.parametrize('order', ORDERS)
def test_masks_are_those_that_attention_applies(tool, digit, mask_type, order):
    backbone, inputs, layers = read(tool, digit, mask_type=mask_type, order=order)
    for layer, (x, orders), scans in zip(backbone.layers, inputs, layers):
        masks = [decay_mask(scan, 65, torch.float64)[0] for scan in layer.attn.scans(x, orders)]
        masks += [sum(masks) / 2] * (len(masks) - 1)  # the mean of two
        for head, wanted in ('mean', [m.mean(0) for m in masks]), (2, [m[2] for m in masks]):
            for selection in tool.select(scans, GRID, [(0, 0), (5, 2)], head):
                row, column = selection.patch
                found = torch.stack([*selection.rows.values()])
                expected = torch.stack([mask[1 + 8 * row + column] for mask in wanted])
                torch.testing.assert_close(found, expected.detach())


def test_all_heads_come_one_by_one(tool, digit):
    _, _, layers = read(tool, digit)
    alone = [tool.select(layers[0], GRID, [(1, 1)], head)[0] for head in range(HEADS)]
    together = tool.select(layers[0], GRID, [(1, 1)], 'all')
    assert [s.heads for s in together] == [s.heads for s in alone] == ['head 0', 'head 1', 'head 2']
    for one, other in zip(alone, together):
        assert all(torch.equal(one.rows[name], other.rows[name]) for name in one.rows)


def test_default_patches_lie_within_any_grid(tool):
    assert tool.default_patches((8, 8)) == [(4, 4), (1, 1), (6, 6)]
    assert tool.default_patches((1, 3)) == [(0, 1), (0, 0), (0, 2)]
    assert tool.default_patches((1, 1)) == [(0, 0)]


def test_half_lives(tool):
    assert tool.half_life(0.5) == 1
    assert 0.9 ** tool.half_life(0.9) == pytest.approx(0.5)
    assert (tool.half_life(0.0), tool.half_life(1.0)) == (0, float('inf'))


# What is printed and drawn


@pytest.fixture
def drawn(tool, monkeypatch):
    """The arrays of pictures that reach the axes, with their opacity."""
    record, show = [], tool.Axes.imshow
    monkeypatch.setattr(
        tool.Axes,
        'imshow',
        lambda axis, picture, **kwargs: (
            record.append((np.asarray(picture), kwargs)) or show(axis, picture, **kwargs)
        ),
    )
    return record


def run(run_tool, capsys, *arguments):
    """Run the tool; return the gates that it printed, and the rest."""
    run_tool(TOOL, *arguments)
    out = capsys.readouterr().out
    found = re.findall(f'^{GATE}$', out, re.M)
    gates = {
        (int(layer), name, int(head)): [float(x) for x in re.findall(r' (\d\.\d+)', f' {shown}')]
        for layer, name, head, shown, _ in found
    }
    return gates, out


def check_picture(path):
    pixels = np.asarray(Image.open(path).convert('L'))
    assert pixels.shape[0] > 800 and pixels.shape[1] > 800
    for part in np.array_split(pixels, 4):
        assert part.std() > 10


def test_learned_decays_of_a_checkpoint_are_printed(tool, run_tool, digit, tmp_path, capsys):
    model = tool.build_model(config(), None)
    weights = model.state_dict()
    for name in weights:
        if name.endswith('logits'):
            weights[name] = torch.randn(HEADS)
    torch.save(dict(state_dict=weights), tmp_path / 'epoch_1.pth')
    out = tmp_path / 'new' / 'picture.png'
    gates, text = run(
        run_tool, capsys, CONFIG, tmp_path / 'epoch_1.pth', '--image', digit, '--out', out,
        '--layer', 0, *options(),
    )  # fmt: skip
    expected = {
        (layer, name, head): [
            round(
                weights[f'backbone.layers.{layer}.attn.gates.{scan}.logits'][head].sigmoid().item(),
                4,
            )
        ]
        for layer in range(LAYERS)
        for scan, name in enumerate(('along rows', 'along columns'))
        for head in range(HEADS)
    }
    assert gates.keys() == expected.keys()
    for key, values in expected.items():
        assert gates[key] == pytest.approx(values, abs=1.01e-4)
    assert 'layer 0 of 0 to 1: epoch_1.pth' in text and str(out) in text
    check_picture(out)


def test_selected_decays_of_an_image_are_printed_as_quantiles(
    tool, run_tool, digit, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    gates, text = run(run_tool, capsys, CONFIG, '--image', digit, *options(mask_type='Selective'))
    backbone, inputs, _ = read(tool, digit, mask_type='Selective')
    for index, (layer, (x, _)) in enumerate(zip(backbone.layers, inputs)):
        for name, gate in zip(('along rows', 'along columns'), layer.attn.gates):
            selected = 1 - torch.sigmoid(torch.nn.functional.linear(x, gate.weight, gate.bias))
            of_patches = selected[0, 1:].detach().numpy()
            expected = np.quantile(of_patches, [0, 0.25, 0.5, 0.75, 1], axis=0)
            for head in range(HEADS):
                assert gates[index, name, head] == pytest.approx(expected[:, head], abs=1e-4)
                assert len(set(gates[index, name, head])) > 1
    assert 'INITIAL weights' in text
    check_picture(tmp_path / 'work_dirs' / CONFIG.stem / 'lion-layer1.png')


def test_the_masks_that_are_drawn_are_those_computed(tool, digit, tmp_path, drawn):
    model = tool.build_model(config(), None)
    image, images = tool.load_image(config(), model, str(digit))
    assert image.shape == (32, 32, 3)
    assert image[:12].max() == 0 and image[20:].std() > 30
    original = np.asarray(Image.open(digit))
    assert np.abs(image[18::4, 2::4].astype(int) - original[4:]).mean() < 40  # red is red
    layers, grid = tool.read_scans(tool.find_lion(model), images)
    selections = tool.select(layers[1], grid, [(3, 4), (0, 7)], 'mean')
    tool.draw(image, 4, grid, layers, 1, selections, 'title', tmp_path / 'picture.png')
    masks = [picture for picture, kwargs in drawn if picture.shape == GRID]
    wanted = [row[1:].view(GRID) for s in selections for row in s.rows.values()]
    assert len(masks) == len(wanted) == 6
    for mask, expected in zip(masks, wanted):
        assert np.array_equal(mask, expected)
    tables = [picture for picture, kwargs in drawn if picture.shape == (LAYERS, HEADS)]
    for table, name in zip(tables, layers[0], strict=True):
        for row, scans in zip(table, layers):
            assert row == pytest.approx(scans[name].log_gates.exp().flatten().tolist())


def test_an_image_goes_through_a_pipeline_that_loads_and_one_that_annotates(tool, digit):
    cfg = config()
    dataset = cfg.test_dataloader.dataset
    dataset.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        *dataset.pipeline,
    ]
    cfg.test_dataloader.dataset = dict(type='RepeatDataset', dataset=dataset)
    model = tool.build_model(cfg, None)
    for one, other in zip(
        tool.load_image(cfg, model, str(digit)), tool.load_image(config(), model, str(digit))
    ):
        assert np.array_equal(one, other)


# What is refused


@pytest.mark.parametrize(
    ('arguments', 'changes', 'message'),
    [
        (['--patches', '0,0', '8,3'], {}, '--patches 8,3 is outside the grid: .* 8 rows and 8 col'),
        (['--layer', '2'], {}, '--layer must be from -2 to 1, of 2 layers, got 2'),
        (['--layer', '-3'], {}, '--layer must be from -2 to 1, of 2 layers, got -3'),
        (['--head', '3'], {}, '--head must be from 0 to 2, of 3 heads, got 3'),
        ([], {'mask_type': 'Lit'}, "mask_type is 'Lit', in which nothing decays"),
        ([], {'with_cls_token': False}, 'the backbone has no class token'),
    ],
)
def test_what_the_model_does_not_have_is_refused(arguments, changes, message, run_tool, digit):
    with pytest.raises(SystemExit) as end:
        run_tool(TOOL, CONFIG, '--image', digit, *arguments, *options(**changes))
    assert re.search(f'^error: .*{message}', end.value.code)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--patches', '3'], "expected ROW,COLUMN such as 3,4, got '3'"),
        (['--head', 'first'], "expected a head's number, 'all' or 'mean', got 'first'"),
        (['--out', 'picture'], '--out takes a file of type .*png.*, got picture'),
    ],
)
def test_bad_arguments_are_refused(arguments, message, run_tool, digit, capsys):
    with pytest.raises(SystemExit) as end:
        run_tool(TOOL, CONFIG, '--image', digit, *arguments)
    assert end.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_files_that_are_not_what_they_should_be_are_refused(tool, run_tool, digit, tmp_path):
    (tmp_path / 'empty.png').write_bytes(b'')
    (tmp_path / 'text.png').write_text('no image')
    torch.save(tool.build_model(config(), None).state_dict(), tmp_path / 'other.pth')
    selective = options(mask_type='Selective')
    for arguments, message in (
        ([CONFIG, '--image', tmp_path / 'no.png', *options()], 'there is no image at'),
        ([CONFIG, '--image', tmp_path / 'empty.png', *options()], 'is no image that OpenCV'),
        ([CONFIG, '--image', tmp_path / 'text.png', *options()], 'is no image that OpenCV'),
        ([CONFIG, tmp_path / 'no.pth', '--image', digit, *options()], 'there is no checkpoint at'),
        (
            [CONFIG, tmp_path / 'other.pth', '--image', digit, *selective],
            'is not a checkpoint of this config: .*gates.0.weight',
        ),
        ([DEMO, '--image', digit], 'that of the config is a L2ViT'),
    ):
        with pytest.raises(SystemExit) as end:
            run_tool(TOOL, *arguments)
        assert re.search(f'^error: .*{message}', end.value.code), end.value.code
