"""The picture shows each patch in the colour of its class, over the image as training sees it."""

import importlib.util

import matplotlib.image
import numpy as np
import pytest
import torch
from label_files import write_label_maps
from tiny_run import DEMO, ROOT

from mmvitlin.datasets import Digits

pytestmark = pytest.mark.slow

TOOL = 'analysis_tools/visualize_token_labels.py'


@pytest.fixture
def config(tmp_path):
    """A config of 12 digits with label maps."""
    write_label_maps(tmp_path / 'labels', Digits('train', indices=12))
    base = ROOT / 'configs/_base_'
    path = tmp_path / 'config.py'
    path.write_text(
        f"_base_ = ['{base}/datasets/digits_token-labels.py', '{base}/runtimes/mmpretrain.py']\n"
        f'train_dataloader = dict(dataset=dict(indices=12, label_root={str(tmp_path / "labels")!r}'
        ', dataset=dict(indices=12)))\n'
    )
    return path


def test_a_picture_is_drawn(config, run_tool, tmp_path):
    pictures = []
    for number, options in enumerate(([], ['--seed', 1], ['--patches', 3], ['--num', 5])):
        out = tmp_path / f'{number}.png'
        run_tool(TOOL, config, '--num', 3, *options, '--out', out)
        pictures.append(matplotlib.image.imread(out))
    first, reseeded, coarser, more = pictures
    assert len(np.unique(first.reshape(-1, 4), axis=0)) > 20
    assert first.shape != more.shape
    assert not np.array_equal(first, reseeded)
    assert not np.array_equal(first, coarser)


def test_patches_have_the_colours_of_their_classes():
    spec = importlib.util.spec_from_file_location('tool', ROOT / 'tools' / TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    labels = torch.zeros(3, 2, 2)
    labels[0, 0, 0], labels[1, 0, 1], labels[2, 1, :] = 1, 0.6, 0.9
    figure, axis = tool.plt.subplots()
    tool.draw_labels(axis, np.zeros((8, 8, 3)), labels, {0: (1, 0, 0), 1: (0, 1, 0)})
    overlay = axis.images[1].get_array()
    tool.plt.close(figure)
    assert overlay[0, 0].tolist() == pytest.approx([1, 0, 0, tool.OPACITY])
    assert overlay[0, 1].tolist() == pytest.approx([0, 1, 0, 0.6 * tool.OPACITY])
    assert overlay[1, 0].tolist() == pytest.approx([*tool.OTHERS, 0.9 * tool.OPACITY])
    image = torch.tensor([[[0.0]], [[1.0]], [[300.0]]])
    assert tool.as_picture(image, is_bgr=True).tolist() == [[[255, 1, 0]]]


def test_misuse_ends_in_one_line(config, run_tool, tmp_path, capsys):
    with pytest.raises(SystemExit, match=r'the training set has no label maps.*mmvitlin\.Digits'):
        run_tool(TOOL, DEMO)
    with pytest.raises(SystemExit):
        run_tool(TOOL, config, '--num', 0)
    assert '--num must be at least 1, got 0' in capsys.readouterr().err
    text = config.read_text()
    config.write_text(
        f'{text}train_pipeline = _base_.train_pipeline[:-1] + [dict(type="PackInputs")]\n'
        'train_dataloader["dataset"]["pipeline"] = train_pipeline\n'
    )
    with pytest.raises(SystemExit, match='the pipeline drops the label maps'):
        run_tool(TOOL, config)
    config.write_text(text)
    (tmp_path / 'labels/0/001.pt').unlink()
    with pytest.raises(SystemExit, match=r'1 of 12 label maps are missing: 0/001\.pt'):
        run_tool(TOOL, config)
