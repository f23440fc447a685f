"""mmvitlin.apis finds, builds and runs models of the three hosts by name."""

import mmdet.apis
import mmpretrain
import mmseg.apis
import numpy as np
import pytest
import torch
from fresh_python import run_python
from mmengine.logging import HistoryBuffer

from mmvitlin import apis
from mmvitlin.errors import CheckpointError

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
CLASSIFIER = 'l2vit-micro_1xb64_digits'
DETECTOR = 'retinanet_l2vit-micro_fpn_digit-scenes'
SEGMENTOR = 'l2vit-micro_upernet_digit-scenes'
NAMES = {
    CLASSIFIER: mmpretrain.ImageClassificationInferencer,
    DETECTOR: mmdet.apis.DetInferencer,
    'mask-rcnn_l2vit-micro_fpn_digit-scenes': mmdet.apis.DetInferencer,
    SEGMENTOR: mmseg.apis.MMSegInferencer,
}
CLASSES = dict.fromkeys(NAMES.values(), 10) | {mmseg.apis.MMSegInferencer: 11}
pytestmark = pytest.mark.filterwarnings('ignore')  # the hosts', of random weights


@pytest.fixture
def checkpoint(tmp_path):
    """Save a model's weights as its run would; return the path."""

    def save(model, number=10):
        path = str(tmp_path / 'model.pth')
        classes = [str(label) for label in range(number)]
        meta = dict(dataset_meta=dict(classes=classes, palette=[(0, 0, 0)] * number))
        torch.save({'state_dict': model.state_dict(), 'meta': meta}, path)
        return path

    return save


@pytest.mark.parametrize('name', NAMES)
def test_a_name_gives_the_hosts_own_inferencer_with_its_weights(name, checkpoint):
    model = apis.get_model(name, device='cpu')
    assert not model.training
    path = checkpoint(model, CLASSES[NAMES[name]])
    inferencer = apis.get_inferencer(name, path, 'cpu')
    assert isinstance(inferencer, NAMES[name])
    for key, value in inferencer.model.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])
    assert inferencer(IMAGE)
    if name == CLASSIFIER:
        assert mmpretrain.inference_model(inferencer.model, IMAGE)['pred_score'] > 0


def test_segmentors_and_detectors_draw_what_they_see(tmp_path, checkpoint):
    det = apis.DetInferencer(DETECTOR, checkpoint(apis.get_model(DETECTOR)), device='cpu')
    assert len(det(IMAGE, out_dir=str(tmp_path / 'det'))['predictions']) == 1
    seg = apis.MMSegInferencer(SEGMENTOR, checkpoint(apis.get_model(SEGMENTOR), 11), device='cpu')
    assert seg(IMAGE, out_dir=str(tmp_path / 'seg'))['predictions'].shape == IMAGE.shape[:2]
    assert list((tmp_path / 'det/vis').glob('*.jpg'))
    assert list((tmp_path / 'seg/vis').iterdir())


@pytest.mark.parametrize(
    'name',
    [
        'mask-rcnn_l2vit-tiny_fpn_3x_coco',
        'retinanet_l2vit-tiny_fpn_1x_coco',
        'l2vit-tiny_upernet_8xb2-160k_ade20k-512x512',
    ],
)
def test_full_size_models_are_built_without_their_classifiers_weights(name):
    assert sum(p.numel() for p in apis.get_model(name, device='cpu').parameters()) > 3e7


@pytest.mark.parametrize('name', NAMES)
def test_settings_override_the_configs_model(name):
    model = apis.get_model(name, backbone=dict(window_size=2), device='cpu')
    windows = [m.window_size for m in model.modules() if hasattr(m, 'window_size')]
    assert windows and set(windows) == {2}


@pytest.mark.parametrize('name', NAMES)
def test_weights_of_another_model_are_refused(name, checkpoint):
    path = checkpoint(torch.nn.Linear(2, 3))
    with pytest.raises(ValueError, match=r'model\.pth is not a checkpoint of this config'):
        apis.get_model(name, path)


class Code:
    def __reduce__(self):
        return print, ('code ran',)


@pytest.mark.parametrize('name', NAMES)
def test_no_checkpoint_runs_code_whatever_the_environment_says(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    path = str(tmp_path / 'evil.pth')
    torch.save({'state_dict': {'weight': torch.ones(1)}, 'meta': Code()}, path)
    for build in (apis.get_model, apis.get_inferencer):
        with pytest.raises(CheckpointError, match=r'evil\.pth was not loaded'):
            build(name, path, device='cpu')
    assert 'code ran' not in capsys.readouterr().out


def test_a_checkpoint_of_a_plain_runner_gives_its_classes(checkpoint):
    model = apis.get_model(CLASSIFIER, device='cpu')
    path = checkpoint(model)
    content = torch.load(path)
    content['message_hub'] = {'log_scalars': {'loss': HistoryBuffer([1.0], [1])}}
    torch.save(content, path)
    inferencer = apis.get_inferencer(CLASSIFIER, path, device='cpu')
    assert inferencer.classes == [str(label) for label in range(10)]


def test_the_config_in_a_checkpoint_is_not_run(tmp_path):
    """MMEngine's inferencers build a model from it, and a config is a program."""
    for inferencer in (apis.DetInferencer, apis.MMSegInferencer):
        with pytest.raises(ValueError, match='needs model, a name or a config'):
            inferencer(weights=str(tmp_path / 'model.pth'))


@pytest.mark.slow
def test_importing_us_leaves_the_hosts_loaders_as_they_are():
    run_python(
        """
        from mmengine.runner import CheckpointLoader

        before = dict(CheckpointLoader._schemes)
        import mmvitlin.apis
        from mmvitlin.apis import DetInferencer, get_model

        assert CheckpointLoader._schemes == before
        """
    )


@pytest.mark.parametrize('build', [apis.get_model, apis.get_inferencer, apis.get_config])
def test_a_wrong_name_gets_the_nearest_ones(build):
    with pytest.raises(apis.UnknownModelError, match='nearest are l2vit-micro_1xb64_digits'):
        build('l2vit-micro_digits')


@pytest.mark.parametrize('inferencer', ['DetInferencer', 'MMSegInferencer'])
def test_a_hosts_inferencer_names_models_that_it_can_run(inferencer):
    build = getattr(apis, inferencer)
    with pytest.raises(apis.UnknownModelError, match='is for Image Classification'):
        build(CLASSIFIER)
    with pytest.raises(apis.UnknownModelError, match='the nearest are') as error:
        build('l2vit-tiny')
    nearest = str(error.value).partition('nearest are ')[2].partition('. mmvitlin')[0].split(', ')
    scope = 'mmdet' if inferencer == 'DetInferencer' else 'mmseg'
    assert {apis.get_config(name).default_scope for name in nearest} == {scope}


@pytest.mark.parametrize('name', NAMES)
def test_no_published_weights_are_pretended(name):
    with pytest.raises(ValueError, match=f'no weights of {name} are published.*train it'):
        apis.get_model(name, pretrained=True)
    with pytest.raises(ValueError, match=r'convert_checkpoint\.py l2vit ORIGINAL'):
        apis.get_model('l2vit-tiny_8xb128-accum4-300e_in1k', pretrained=True)


def test_a_hosts_inferencer_takes_configs_and_paths_as_ever():
    cfg = apis.get_config(DETECTOR)
    for model in (cfg, cfg.filename):
        assert (
            apis.DetInferencer(model, device='cpu').model.cfg.model.backbone == cfg.model.backbone
        )


def test_lists_are_of_all_tasks_or_one():
    names = apis.list_models('*l2vit-tiny')
    assert 'l2vit-tiny_8xb128-accum4-300e_in1k' in names
    dense = apis.list_models('*l2vit-tiny', task='Instance Segmentation')
    assert dense == [f'mask-rcnn_l2vit-tiny_fpn_{x}_coco' for x in ('1x', '3x')]
    assert set(dense) < set(names)


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = apis.Nothing
    assert set(apis.__all__) <= {*dir(apis), *apis.INFERENCERS}


def test_finding_models_imports_neither_mmdet_nor_mmseg():
    run_python(
        """
        from mmvitlin.apis import get_config, list_models

        assert get_config(list_models()[0])
        assert not {'mmdet', 'mmseg'} & set(sys.modules)
        """
    )
