"""tools/export.py writes programs with the model's outputs and a description in the file."""

import json
import math
import re

import numpy as np
import pytest
import tiny_models
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from tiny_run import ROOT, tiny_classifier, tiny_config
from torch import nn

from mmvitlin.errors import ConfigError
from mmvitlin.export.check import compare
from mmvitlin.export.formats import FORMATS
from mmvitlin.layers.window_attention import WindowAttention
from mmvitlin.models import LION

TOOL = 'export.py'
CLASSES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')


def save(model, path):
    torch.save(
        dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=CLASSES))), path
    )


@pytest.fixture
def classifier(tmp_path):
    """Paths of the config and the checkpoint of a tiny classifier, and the classifier."""
    cfg, model = tiny_config(tmp_path), tiny_classifier()
    cfg.dump(tmp_path / 'config.py')
    save(model, tmp_path / 'tiny.pth')
    return tmp_path / 'config.py', tmp_path / 'tiny.pth', model


@pytest.fixture
def dense(tmp_path):
    """Paths of the config and the checkpoint of a host's tiny model, and the model."""

    def build(scope):
        model = tiny_models.MODELS_OF[scope]().to_dict()
        (tmp_path / 'config.py').write_text(f'default_scope = {scope!r}\nmodel = {model!r}\n')
        built = tiny_models.build(scope)
        built.eval()
        save(built, tmp_path / 'tiny.pth')
        return tmp_path / 'config.py', tmp_path / 'tiny.pth', built

    return build


@pytest.mark.slow
def test_a_classifier_becomes_onnx_with_its_description_and_an_int8_file(
    classifier, run_tool, tmp_path, capsys
):
    config, checkpoint, model = classifier
    runtime = pytest.importorskip('onnxruntime')
    out = tmp_path / 'tiny.onnx'
    run_tool(TOOL, config, checkpoint, '--dynamic', 'batch', '--int8', '--out', out)
    printed = capsys.readouterr().out
    assert len(re.findall(r'^images .* from the model$', printed, re.M)) == 3
    assert len(re.findall(r'accuracy/top1: [\d.]+$', printed, re.M)) == 2
    session = runtime.InferenceSession(str(out))
    images = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        expected = model(images)
    (found,) = session.run(None, {'images': images.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-4)
    description = json.loads(session.get_modelmeta().custom_metadata_map['mmvitlin'])
    assert description['classes'] == list(CLASSES)
    assert description['image_size'] == [32, 32]
    assert description['mean'] == description['std'] == [127.5] * 3
    assert description['channels'] == 'BGR'
    assert [step['type'] for step in description['pipeline']] == [
        'Resize',
        'mmpretrain.PackInputs',
    ]
    assert (tmp_path / 'tiny.int8.onnx').stat().st_size < out.stat().st_size


@pytest.mark.slow
def test_a_segmentor_becomes_torchscript_that_takes_other_sizes(dense, run_tool, tmp_path):
    config, checkpoint, model = dense('mmseg')
    out = tmp_path / 'segmentor.pt'
    arguments = ('--format', 'torchscript', '--dynamic', 'size', '--shape', 64, 64, '--out', out)
    run_tool(TOOL, config, checkpoint, *arguments)
    files = {'mmvitlin.json': ''}
    program = torch.jit.load(str(out), _extra_files=files)
    assert json.loads(files['mmvitlin.json'])['part'] == 'model'
    images = torch.randn(1, 3, 90, 70)
    with torch.no_grad():
        (scores,) = program(images)
        labels = model.postprocess_result(scores, None)[0].pred_sem_seg.data
        metas = [dict(ori_shape=(90, 70), img_shape=(90, 70), pad_shape=(90, 70))]
        expected = model.encode_decode(images, metas)
    assert scores.shape[2:] == (90, 70)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(labels[0], expected[0].argmax(0))


@pytest.mark.slow
def test_the_features_of_a_detector_become_a_program_of_torch_export(dense, run_tool, tmp_path):
    config, checkpoint, model = dense('mmdet')
    out = tmp_path / 'detector.pt2'
    arguments = ('--format', 'torch-export', '--dynamic', 'batch', '--shape', 64, 96, '--out', out)
    run_tool(TOOL, config, checkpoint, *arguments)
    images = torch.randn(3, 3, 64, 96)
    with torch.no_grad():
        outs = torch.export.load(out).module()(images)
        for found, expected in zip(outs, model.extract_feat(images), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def pre_training(folder):
    """Write the config and the checkpoint of a pre-training: see mae_lion-d-natural-micro."""
    cfg = Config.fromfile(ROOT / 'configs/quickstart/mae_lion-d-natural-micro_1xb64_digits.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    save(model, folder / 'mae.pth')
    cfg.dump(folder / 'mae.py')
    return folder / 'mae.py', folder / 'mae.pth'


def test_unsupported_combinations_are_one_line(classifier, dense, run_tool, tmp_path, capsys):
    config, checkpoint, _ = classifier
    with pytest.raises(SystemExit) as end:
        run_tool(TOOL, config, checkpoint, '--format', 'torchscript', '--int8')
    assert end.value.code == 2
    assert '--format onnx' in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(SystemExit, match=r'\.onnx, got .*tiny\.pt$'):
        run_tool(TOOL, config, checkpoint, '--out', tmp_path / 'tiny.pt')
    with pytest.raises(SystemExit, match=r'^error: .*MAE returns .*: take --part features$'):
        run_tool(TOOL, *pre_training(tmp_path), '--format', 'torchscript')
    config, checkpoint, _ = dense('mmdet')
    with pytest.raises(SystemExit, match=r'take --part features$'):
        run_tool(TOOL, config, checkpoint, '--part', 'model')


def test_a_program_that_fixes_what_was_to_stay_free_is_not_left(tmp_path, run_tool):
    backbone = dict(
        type='mmvitlin.LION',
        arch=dict(embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=8),
        img_size=32,
        patch_size=16,
        format='RNN',
    )
    model = dict(
        type='ImageClassifier',
        backbone=backbone,
        head=dict(type='LinearClsHead', num_classes=10, in_channels=8),
    )
    Config(dict(default_scope='mmpretrain', model=model)).dump(tmp_path / 'config.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        save(MODELS.build(model), tmp_path / 'rnn.pth')
    out = tmp_path / 'rnn.pt'
    arguments = ('--format', 'torchscript', '--dynamic', 'size', '--shape', 32, 32, '--out', out)
    with pytest.raises(SystemExit, match=r"^error: .*format 'RNN'.*$"):
        run_tool(TOOL, tmp_path / 'config.py', tmp_path / 'rnn.pth', *arguments)
    assert not out.exists()


def test_a_program_that_torch_cannot_write_is_one_line(tmp_path):
    form, path = FORMATS['torch-export'], tmp_path / 'a.pt2'
    program = form.convert(PaddedToEight(), torch.randn(2, 3, 17, 30), 'size')
    with pytest.raises(ConfigError, match=r'^torch\.export cannot write .*take --dynamic batch'):
        form.write(program, path, {})
    assert not path.exists()


class PaddedToEight(nn.Module):
    """Pads the width by `math.ceil`, as mmcv does, which torch.export does not write."""

    def forward(self, x):
        return (nn.functional.pad(x, (0, math.ceil(x.shape[3] / 8) * 8 - x.shape[3])),)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['WindowAttention', 'LION'])
def test_onnx_takes_other_sizes(name, tmp_path):
    pytest.importorskip('onnxscript')
    if name == 'LION':
        arch = dict(embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=8)
        settings = dict(mask_type='Selective', order='S', out_type='featmap', chunk_size=16)
        model = LION(arch, img_size=32, patch_size=8, **settings)
    else:
        stem = nn.Conv2d(3, 8, 1)
        model = nn.Sequential(stem, Permute(0, 2, 3, 1), WindowAttention(8, 2, 3))
    model = Tuple(model)
    model.eval()
    form = FORMATS['onnx']
    form.write(form.convert(model, torch.randn(2, 3, 77, 93), 'size'), tmp_path / 'a.onnx', {})
    shapes = [(1, 3, 32, 32), (3, 3, 75, 91), (1, 3, 17, 9)]
    assert max(compare(model, form.read(tmp_path / 'a.onnx'), shapes)) < 1e-5


class Permute(nn.Module):
    def __init__(self, *dims):
        super().__init__()
        self.dims = dims

    def forward(self, x):
        return x.permute(self.dims)


class Tuple(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        out = self.module(x)
        return out if isinstance(out, tuple) else (out,)
