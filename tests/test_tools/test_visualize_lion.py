"""The tool draws the model's own masks and prints its own gates."""

import re
from collections import namedtuple

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image
from tiny_run import DEMO, ROOT

pytestmark = pytest.mark.slow

TOOL = 'analysis_tools/visualize_lion.py'
CONFIG = ROOT / 'configs/quickstart/lion-d-natural-micro_1xb64_digits.py'
LAYERS, HEADS, GRID = 2, 3, (8, 8)
TINY = {
    'model.backbone.arch.embed_dims': 12,
    'model.backbone.arch.num_layers': LAYERS,
    'model.backbone.arch.feedforward_channels': 12,
    'model.head.in_channels': 12,
}
GATE = r'^layer (\d), ([\w ]+), head (\d): (.*), half-life ([\d.]+|inf) tokens$'
Run = namedtuple('Run', 'gates text pictures')


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


@pytest.fixture
def run(run_tool, capsys, monkeypatch):
    """Run the tool; return the gates and the text that it prints, and the arrays that it draws."""
    pictures, show = [], Axes.imshow

    def record(axis, picture, **kwargs):
        pictures.append(np.asarray(picture))
        return show(axis, picture, **kwargs)

    monkeypatch.setattr(Axes, 'imshow', record)

    def run(*arguments):
        pictures.clear()
        run_tool(TOOL, *arguments)
        text = capsys.readouterr().out
        gates = {
            (int(layer), name, int(head)): [float(x) for x in re.findall(r' (\d\.\d+)', f' {said}')]
            for layer, name, head, said, _ in re.findall(GATE, text, re.M)
        }
        return Run(gates, text, list(pictures))

    return run


def check_picture(path):
    pixels = np.asarray(Image.open(path).convert('L'))
    assert pixels.shape[0] > 800 and pixels.shape[1] > 800
    for part in np.array_split(pixels, 4):
        assert part.std() > 10


@pytest.fixture
def checkpoint(tmp_path):
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(TINY)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        weights = MODELS.build(cfg.model).state_dict()
    for name in weights:
        if name.endswith('logits'):
            weights[name] = torch.randn(HEADS)
    torch.save(dict(state_dict=weights), tmp_path / 'epoch_1.pth')
    return tmp_path / 'epoch_1.pth', weights


def test_learned_decays_of_a_checkpoint_are_printed_and_drawn(run, checkpoint, digit, tmp_path):
    path, weights = checkpoint
    out = tmp_path / 'new' / 'picture.png'
    found = run(
        CONFIG, path, '--image', digit, '--out', out, '--layer', 0, '--patches', '3,4', '0,7',
        *options(),
    )  # fmt: skip
    gates = np.array(
        [
            [
                weights[f'backbone.layers.{layer}.attn.gates.{scan}.logits'].sigmoid().numpy()
                for layer in range(LAYERS)
            ]
            for scan in range(2)
        ]
    )
    for (layer, name, head), printed in found.gates.items():
        scan = ('along rows', 'along columns').index(name)
        assert printed == pytest.approx([gates[scan, layer, head]], abs=1e-4)
    assert len(found.gates) == gates.size
    assert 'layer 0 of 0 to 1: epoch_1.pth' in found.text and str(out) in found.text
    check_picture(out)

    tables = [picture for picture in found.pictures if picture.shape == (LAYERS, HEADS)]
    assert np.array(tables) == pytest.approx(gates, abs=1e-6)
    masks = [picture for picture in found.pictures if picture.shape == GRID]
    assert len(masks) == 6  # two patches with two scans and their mean
    rows, columns, mean = masks[:3]
    # Patch (3, 4) lies in an odd row, which the scan along rows goes from right to left.
    assert rows[3, 3] == pytest.approx(gates[0, 0].mean(), abs=1e-6)
    assert rows[3, 2] == pytest.approx((gates[0, 0] ** 2).mean(), abs=1e-6)
    assert columns[4, 4] == pytest.approx(gates[1, 0].mean(), abs=1e-6)
    assert rows[3, 4] == columns[3, 4] == 1
    assert mean == pytest.approx((rows + columns) / 2)
    image = found.pictures[0]
    assert image.shape == (32, 32, 3)
    assert image[:12].max() == 0 and image[20:].std() > 30
    original = np.asarray(Image.open(digit))
    assert np.abs(image[18::4, 2::4].astype(int) - original[4:]).mean() < 40  # red is red


@pytest.mark.parametrize('cls_token', [True, False])
def test_selected_decays_of_an_image_are_printed_as_quantiles(
    cls_token, run, digit, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    changes = dict(mask_type='Selective', with_cls_token=cls_token)
    found = run(CONFIG, '--image', digit, '--head', 'all', *options(**changes))
    assert len(found.gates) == 2 * LAYERS * HEADS
    assert all(len(set(gates)) == 5 and sorted(gates) == gates for gates in found.gates.values())
    assert 'INITIAL weights' in found.text
    assert len([picture for picture in found.pictures if picture.shape == GRID]) == 3 * HEADS * 3
    check_picture(tmp_path / 'work_dirs' / CONFIG.stem / 'lion-layer1.png')


def test_an_image_goes_through_a_pipeline_that_loads_and_one_that_annotates(run, digit, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(
        f'_base_ = {str(CONFIG)!r}\n'
        'data = _base_.test_dataloader.dataset\n'
        "load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]\n"
        "data = dict(type='RepeatDataset', dataset={**data, 'pipeline': load + data.pipeline})\n"
        "data['_delete_'] = True\n"
        'test_dataloader = dict(dataset=data)\n'
    )
    out = ['--out', tmp_path / 'picture.png', *options()]
    one, other = (run(path, '--image', digit, *out).pictures for path in (CONFIG, config))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# Errors


@pytest.mark.parametrize(
    ('arguments', 'changes', 'message'),
    [
        (['--patches', '0,0', '8,3'], {}, '--patches 8,3 is outside the grid: .* 8 rows and 8 col'),
        (['--layer', '2'], {}, '--layer must be from -2 to 1, of 2 layers, got 2'),
        (['--layer', '-3'], {}, '--layer must be from -2 to 1, of 2 layers, got -3'),
        (['--head', '3'], {}, '--head must be from 0 to 2, of 3 heads, got 3'),
        ([], {'mask_type': 'Lit'}, "mask_type='Lit', without decay"),
    ],
)
def test_choices_that_the_model_does_not_have_are_refused(
    arguments, changes, message, run_tool, digit
):
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


def test_files_of_another_kind_are_refused(run_tool, digit, checkpoint, tmp_path):
    (tmp_path / 'empty.png').write_bytes(b'')
    (tmp_path / 'text.png').write_text('no image')
    selective = options(mask_type='Selective')
    for arguments, message in (
        ([CONFIG, '--image', tmp_path / 'no.png', *options()], 'there is no image at'),
        ([CONFIG, '--image', tmp_path / 'empty.png', *options()], 'OpenCV cannot read .*empty.png'),
        ([CONFIG, '--image', tmp_path / 'text.png', *options()], 'OpenCV cannot read .*text.png'),
        ([CONFIG, tmp_path / 'no.pth', '--image', digit, *options()], 'there is no checkpoint at'),
        (
            [CONFIG, checkpoint[0], '--image', digit, *selective],
            'is not a checkpoint of this config: .*gates.0.weight',
        ),
        ([DEMO, '--image', digit], 'that of the config is L2ViT'),
    ):
        with pytest.raises(SystemExit) as end:
            run_tool(TOOL, *arguments)
        assert re.search(f'^error: .*{message}', end.value.code), end.value.code
