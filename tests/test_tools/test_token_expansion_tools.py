"""The tools that plan token expansion and draw the kept patches."""

import importlib.util
import re

import numpy as np
import pytest
import torch
from goldens import draw_weights
from mmengine.config import Config
from mmpretrain.structures import DataSample
from PIL import Image
from tiny_run import DEMO, ROOT

from mmvitlin.ops.token_expansion import select_tokens

pytestmark = pytest.mark.slow

CONFIG = ROOT / 'configs/quickstart/vit-micro_toe_1xb64_digits.py'
EFFICIENT = ROOT / 'configs/efficient_train/deit-small_efftrain_toe_8xb256-accum2-300e_in1k.py'
DEIT = ROOT / 'configs/toe/deit-small_toe_4xb256-300e_in1k.py'
VIT_LLAMA = ROOT / 'configs/vit_llama/vit-llama-tiny_4xb256-300e_in1k.py'
LVVIT = ROOT / 'configs/lvvit/lvvit-small_toe_8xb128-300e_in1k.py'
LVVIT_DIGITS = ROOT / 'configs/quickstart/lvvit-micro_toe_1xb64_digits.py'
PLAN = 'analysis_tools/plan_token_expansion.py'
DRAW = 'analysis_tools/visualize_token_expansion.py'


def rows(out):
    return [line.split() for line in out.splitlines() if re.match(r' +\d', line)]


def test_the_plan_of_deit_small(run_tool, capsys, tmp_path):
    run_tool(PLAN, DEIT, '--out', tmp_path / 'new' / 'plan.png')
    out = capsys.readouterr().out
    assert [row[:4] for row in rows(out)] == [
        ['1', '0', '33.3%', '99'],
        ['2', '100', '33.3%', '148'],
        ['3', '200', '33.3%', '197'],
    ]
    assert [row[-1] for row in rows(out)] == ['1.87x', '1.31x', '1.00x']
    bound = re.search(r'at most (\d\.\d+) times faster', out)[1]
    assert float(bound) == pytest.approx(1.305, abs=1.5e-3)
    assert Image.open(tmp_path / 'new' / 'plan.png').width > 500


def test_vit_llama_is_planned_without_llamas_file(run_tool, capsys, tmp_path):
    config = tmp_path / 'vit-llama.py'
    hooks = [dict(type='mmvitlin.TokenExpansionHook')]
    config.write_text(f'_base_ = {str(VIT_LLAMA)!r}\ncustom_hooks = {hooks}\n')
    run_tool(PLAN, config, '--out', tmp_path / 'plan.png')
    assert [row[3] for row in rows(capsys.readouterr().out)] == ['99', '148', '197']


def test_lv_vit_is_planned_with_its_rates(run_tool, capsys, tmp_path):
    run_tool(PLAN, LVVIT, '--out', tmp_path / 'plan.png')
    assert [row[3] for row in rows(capsys.readouterr().out)] == ['79', '137', '197']


def test_lv_vit_is_drawn_by_its_patches_and_not_by_its_first_convolution(
    tool, run_tool, tmp_path, monkeypatch
):
    sizes = []
    monkeypatch.setattr(tool, 'draw', lambda *arguments: sizes.append(arguments[2]))
    monkeypatch.setattr('sys.argv', ['draw', str(LVVIT_DIGITS), '--out', str(tmp_path / 'x.png')])
    tool.main()
    assert sizes == [(4, 4)]


def test_the_plan_goes_by_the_config(run_tool, capsys, tmp_path):
    options = [
        'custom_hooks.1.expansion_step=[0.25,0.5,0.75]',
        'custom_hooks.1.keep_rate=[.4,.7,.9]',
    ]
    run_tool(PLAN, CONFIG, '--out', tmp_path / 'plan.png', '--cfg-options', *options)
    found = [(row[0], row[1], row[3]) for row in rows(capsys.readouterr().out)]
    assert found == [('0', '0', '65'), ('1', '7.5', '26'), ('2', '15', '45'), ('3', '22.5', '58')]


def test_the_plan_of_deit_small_with_efficient_train(run_tool, capsys, tmp_path):
    run_tool(PLAN, EFFICIENT, '--out', tmp_path / 'plan.png')
    out = capsys.readouterr().out
    assert [row[:7] for row in rows(out)] == [
        ['1', '0', '33.3%', '61', '160', 'x', '160'],
        ['2', '100', '26.7%', '81', '160', 'x', '160'],
        ['2', '180', '6.7%', '115', '192', 'x', '192'],
        ['3', '200', '13.3%', '145', '192', 'x', '192'],
        ['3', '240', '20.0%', '197', '224', 'x', '224'],
    ]
    ratio = float(re.search(r'in all (0\.\d+) of the compute', out)[1])
    assert ratio == pytest.approx(0.547, rel=0.02)
    assert float(re.search(r'at most (\d\.\d+) times faster', out)[1]) == pytest.approx(
        1 / ratio, rel=1e-3
    )


def test_a_backbone_without_tokens_is_planned_by_its_compute(run_tool, capsys, tmp_path):
    config = tmp_path / 'config.py'
    hook = dict(type='mmvitlin.EfficientTrainHook', input_size=(20, 20, 20, 24, 32))
    config.write_text(f'_base_ = {str(DEMO)!r}\ncustom_hooks = [{hook}]\n')
    run_tool(PLAN, config, '--out', tmp_path / 'plan.png')
    found = rows(capsys.readouterr().out)
    assert [row[:5] for row in found] == [
        ['0', '0', '60.0%', '-', '20'],
        ['0', '18', '20.0%', '-', '24'],
        ['0', '24', '20.0%', '-', '32'],
    ]
    assert [float(row[-2]) for row in found] == sorted(float(row[-2]) for row in found)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['custom_hooks.1.keep_rate=[.4,.7,1.1]'], r'every keep_rate must be above 0'),
        (['model.backbone.out_type=featmap'], r"out_type='featmap' needs every token"),
        (
            ['train_cfg.max_epochs=None', 'train_cfg.max_iters=9'],
            r'are epochs, and train_cfg counts',
        ),
    ],
)
def test_errors_are_one_line(run_tool, tmp_path, options, message):
    with pytest.raises(SystemExit, match=f'^error: .*{message}'):
        run_tool(PLAN, CONFIG, '--out', tmp_path / 'plan.png', '--cfg-options', *options)


@pytest.mark.parametrize('tool', [PLAN, DRAW])
def test_a_config_without_token_expansion_is_refused(run_tool, tool):
    with pytest.raises(SystemExit, match=r'trains without a curriculum; add dict\(type='):
        run_tool(tool, DEMO)


# The picture


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('draw', ROOT / 'tools' / DRAW)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_merged_patches_have_the_colour_of_where_they_go(tool):
    figure, axis = tool.plt.subplots()
    picture = np.zeros((8, 16, 3))
    tokens = torch.randn(1, 32, 8, generator=torch.Generator().manual_seed(0))
    kept, slots = (x[0].numpy() for x in select_tokens(tokens, 1, (0.5, 1.0), 0.25, 2, 'cosine'))
    tool.draw_stage(axis, picture, kept, slots, (2, 2))
    (shown,) = axis.images
    patches = np.asarray(shown.get_array()).reshape(4, 2, 8, 2, 3)[:, 0, :, 0].reshape(32, 3)
    frames = {
        (frame.get_y() + 0.5) / 2 * 8 + (frame.get_x() + 0.5) / 2: frame.get_edgecolor()[:3]
        for frame in axis.patches
    }
    assert frames.keys() == {kept[slot] for slot in slots if (slots == slot).sum() > 1}
    assert len(set(frames.values())) == len(frames)
    for position in range(32):
        if position in kept:
            assert not patches[position].any()  # the picture shows
        else:
            np.testing.assert_allclose(
                patches[position], tool.OPACITY * np.array(frames[kept[slots[position]]])
            )
    assert not picture.any()
    tool.plt.close(figure)


def test_patches_at_the_edge_may_reach_beyond_the_picture(tool):
    """30 x 30 pixels in patches of 4 are 8 x 8 patches, as the model pads them."""
    figure, axis = tool.plt.subplots()
    kept = np.arange(63)
    slots = np.array([*range(63), 0])  # the last patch goes to the first
    tool.draw_stage(axis, np.zeros((30, 30, 3)), kept, slots, (4, 4))
    (shown,) = axis.images
    rows, columns = np.asarray(shown.get_array()).any(-1).nonzero()
    assert {*zip(rows, columns)} == {(row, column) for row in (28, 29) for column in (28, 29)}
    (frame,) = axis.patches
    assert frame.get_bbox().bounds == (-0.5, -0.5, 4, 4)
    tool.plt.close(figure)


def test_patches_need_not_be_square(tool):
    figure, axis = tool.plt.subplots()
    slots = np.array([0, 1, 2, 3, 4, 0])  # 2 rows of 3 patches
    tool.draw_stage(axis, np.zeros((8, 6, 3)), np.arange(5), slots, (4, 2))
    (shown,) = axis.images
    rows, columns = np.asarray(shown.get_array()).any(-1).nonzero()
    assert {*rows} == {4, 5, 6, 7} and {*columns} == {4, 5}
    tool.plt.close(figure)


def test_pictures_are_rgb_whatever_the_pipeline_gives(tool):
    image = torch.tensor([[[255.0]], [[0.0]], [[127.5]]])
    assert tool.as_picture(image, False).tolist() == [[[1, 0, 0.5]]]
    assert tool.as_picture(image, True).tolist() == [[[0.5, 0, 1]]]
    assert tool.as_picture(image[2:], True).tolist() == [[[0.5, 0.5, 0.5]]]


@pytest.mark.parametrize('preprocessor', ['top level', 'in the model', 'none'])
def test_grey_images_and_preprocessors_without_a_word_on_rgb(
    tool, monkeypatch, tmp_path, preprocessor
):
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.in_channels = 1
    plain = dict(num_classes=10, mean=[0.0], std=[255.0])
    cfg.pop('data_preprocessor')
    if preprocessor == 'top level':
        cfg.data_preprocessor = plain
    elif preprocessor == 'in the model':
        cfg.model.data_preprocessor = plain
    grey = dict(inputs=[torch.rand(1, 32, 32) * 255], data_samples=[DataSample()])
    monkeypatch.setattr(tool, 'load_config', lambda *arguments, **options: cfg)
    monkeypatch.setattr(tool, 'read_dataset', lambda cfg, num: [grey])
    monkeypatch.setattr('sys.argv', ['draw', 'CONFIG', '--out', str(tmp_path / 'grey.png')])
    tool.main()
    assert (tmp_path / 'grey.png').is_file()


def test_digits_are_drawn_by_the_weights_of_a_checkpoint(tool, run_tool, tmp_path):
    cfg = Config.fromfile(CONFIG)
    tool.init_default_scope('mmpretrain')
    model = tool.MODELS.build(cfg.model)
    draw_weights(model)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'weights.pth')
    for name, arguments in {
        'random': [],
        'checkpoint': [tmp_path / 'weights.pth'],
        'fewer': [tmp_path / 'weights.pth', '--num', 1],
    }.items():
        run_tool(DRAW, CONFIG, *arguments, '--out', tmp_path / f'{name}.png')
    sizes = {name: Image.open(tmp_path / f'{name}.png').size for name in ('checkpoint', 'fewer')}
    assert sizes['fewer'][1] < sizes['checkpoint'][1]
    pictures = [(tmp_path / f'{name}.png').read_bytes() for name in ('random', 'checkpoint')]
    assert pictures[0] != pictures[1]


def test_image_files_go_through_the_test_pipeline(tool, run_tool, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        tool,
        'draw',
        lambda pictures, selections, patch_size, path: drawn.update(
            pictures=pictures, selections=selections, patch_size=patch_size
        ),
    )
    image = np.zeros((40, 60, 3), np.uint8)
    image[..., 0] = 200  # red
    Image.fromarray(image).save(tmp_path / 'red.png')
    monkeypatch.setattr(
        'sys.argv',
        [
            'draw',
            str(DEIT),
            '--images',
            str(tmp_path / 'red.png'),
            '--out',
            str(tmp_path / 'x.png'),
        ],
    )
    tool.main()
    (picture,), (selections,) = drawn['pictures'], drawn['selections']
    assert picture.shape == (224, 224, 3)
    np.testing.assert_allclose(picture[0, 0], [200 / 255, 0, 0])
    sizes = {stage: (len(kept), len(slots)) for stage, (kept, slots) in selections.items()}
    assert sizes == {1: (98, 196), 2: (147, 196)}
    assert drawn['patch_size'] == (16, 16)


def test_images_reach_the_model_normalised(tool, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(tool, 'draw', lambda *arguments: None)
    monkeypatch.setattr(tool, 'patch_tokens', lambda *arguments: seen.extend(arguments[-1]) or [])
    monkeypatch.setattr(
        'sys.argv', ['draw', str(CONFIG), '--num', '2', '--out', str(tmp_path / 'x.png')]
    )
    tool.main()
    assert [image.shape for image in seen] == [(1, 3, 32, 32)] * 2
    assert all(image.min() == -1 and 0 < image.max() <= 1 for image in seen)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--images', 'none.png'], r'there is no image at none\.png; check the path'),
        (['none.pth'], r'there is no checkpoint at none\.pth; check the path'),
    ],
)
def test_missing_files_are_errors_of_one_line(run_tool, tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=f'^error: {message}'):
        run_tool(DRAW, CONFIG, *arguments, '--out', tmp_path / 'x.png')
