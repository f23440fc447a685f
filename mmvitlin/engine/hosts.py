"""Table of the differences between mmpretrain, mmdetection, mmsegmentation and mmpose.

Nothing is imported from a host here: its classes are built by their registered names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict

from mmvitlin.errors import ConfigError

COCO_SCALE = (1333, 800)  # (W, H), an upper bound; counted at mmdet's default, as in papers
FLIPS = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]


def _draw_mmpretrain(cfg: Config, folder: str) -> None:
    cfg.default_hooks.visualization.update(enable=True, interval=1, out_dir=folder)


def _draw_mmdet(cfg: Config, folder: str) -> None:
    # The hook puts a relative folder into the work directory.
    folder = str(Path(folder).resolve())
    cfg.default_hooks.visualization.update(draw=True, interval=1, test_out_dir=folder)


def _draw_mmseg(cfg: Config, folder: str) -> None:
    cfg.default_hooks.visualization.update(draw=True, interval=1)
    cfg.visualizer.save_dir = folder


def _size_of_crop(cfg: Config) -> tuple[int, int] | None:
    """Read (H, W) of the training crop, which the data preprocessor pads to."""
    size = cfg.model.get('data_preprocessor', {}).get('size')
    return tuple(size) if size else None


def _draw_mmpose(cfg: Config, folder: str) -> None:
    # The hook puts a relative folder into the work directory.
    folder = str(Path(folder).resolve())
    cfg.default_hooks.visualization.update(enable=True, interval=1, out_dir=folder)


def _size_of_codec(cfg: Config) -> tuple[int, int] | None:
    """Read (H, W) of the crops that the decoder of key points is for."""
    size = cfg.model.get('head', {}).get('decoder', {}).get('input_size')
    return (size[1], size[0]) if size else None


def _size_of_test_pipeline(cfg: Config) -> tuple[int, int] | None:
    """Read (H, W) from the last crop or resizing of the test pipeline.

    Pre-training without labels has none: there it is that of the training pipeline.
    """
    loader = cfg.get('test_dataloader') or cfg.get('train_dataloader') or {}
    for step in reversed(loader.get('dataset', {}).get('pipeline', ())):
        size = step.get('crop_size') if step['type'] == 'CenterCrop' else step.get('scale')
        if step['type'] in ('CenterCrop', 'Resize', 'RandomResizedCrop') and size:
            width, height = (size, size) if isinstance(size, int) else size
            return None if (width, height) == COCO_SCALE else (height, width)
    return None


def _tasks_of_classifier(cfg: Config) -> list[str]:
    tested = cfg.get('test_dataloader') is not None
    return ['Image Classification' if tested else 'Self-Supervised Learning']


def _tasks_of_detector(cfg: Config) -> list[str]:
    masks = 'mask_head' in cfg.model.get('roi_head', {})
    return ['Object Detection', *(['Instance Segmentation'] if masks else [])]


@dataclass(frozen=True)
class Host:
    """Everything that differs from one host to another.

    Attributes:
        tasks: the tasks of a config's model, in the words of the host's model index.
        image_size: (H, W) of the images that a config tests on; None if the config does not give
            it.
        default_image_size: (H, W) for such configs.
        draw: make a config save a picture of every prediction in a folder.
        dump_metric: the metric that writes all predictions to a pickle file; None where the host
            writes one map per image to a folder.
        tta_model: test-time augmentation's model wrapper, for configs that name none; None if a
            config must have one.
        inferencer: 'MODULE:CLASS' of the inferencer that `mmvitlin.apis` builds.
        collate_fn: collate function of data loaders whose config has none; None for mmengine's
            default, which does not stack images.
    """

    tasks: Callable[[Config], list[str]]
    image_size: Callable[[Config], tuple[int, int] | None]
    default_image_size: tuple[int, int]
    draw: Callable[[Config, str], None]
    dump_metric: str | None
    tta_model: dict | None
    inferencer: str
    collate_fn: dict | None = None


HOSTS = {
    'mmpretrain': Host(
        tasks=_tasks_of_classifier,
        image_size=_size_of_test_pipeline,
        default_image_size=(224, 224),
        draw=_draw_mmpretrain,
        dump_metric='DumpResults',
        tta_model=dict(type='AverageClsScoreTTA'),
        inferencer='mmpretrain.apis:ImageClassificationInferencer',
        collate_fn=dict(type='default_collate'),
    ),
    'mmdet': Host(
        tasks=_tasks_of_detector,
        image_size=_size_of_test_pipeline,
        default_image_size=(800, 1280),
        draw=_draw_mmdet,
        dump_metric='DumpDetResults',
        tta_model=dict(
            type='DetTTAModel',
            tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
        ),
        inferencer='mmvitlin.apis.detection:DetInferencer',
    ),
    'mmseg': Host(
        tasks=lambda cfg: ['Semantic Segmentation'],
        image_size=_size_of_crop,
        default_image_size=(512, 512),
        draw=_draw_mmseg,
        dump_metric=None,
        tta_model=None,
        inferencer='mmvitlin.apis.segmentation:MMSegInferencer',
    ),
    'mmpose': Host(
        tasks=lambda cfg: ['Pose Estimation'],
        image_size=_size_of_codec,
        default_image_size=(256, 192),
        draw=_draw_mmpose,
        dump_metric='DumpResults',
        tta_model=None,
        inferencer='mmvitlin.apis.pose:Pose2DInferencer',
    ),
}


def model_settings(cfg: Config) -> dict:
    """Return the settings of a config's model, with the data preprocessor.

    Configs of mmpretrain have it beside the model, where only a runner finds it.
    """
    settings = dict(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        settings.setdefault('data_preprocessor', cfg.data_preprocessor)
    return settings


def image_shape(cfg: Config) -> tuple[int, int]:
    """Return (H, W) of the images that a config's model is tested on."""
    host = HOSTS[cfg.default_scope]
    return host.image_size(cfg) or host.default_image_size


def set_loader_defaults(cfg: Config) -> None:
    """Add the settings that mmpretrain's own tools add to every data loader."""
    collate_fn = HOSTS[cfg.default_scope].collate_fn
    if collate_fn is None:
        return
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name)
        if loader is not None:
            loader.setdefault('collate_fn', collate_fn)
            loader.setdefault('pin_memory', torch.cuda.is_available())
            loader.setdefault('persistent_workers', loader.get('num_workers', 0) > 0)


def set_dump(cfg: Config, path: str) -> None:
    """Write all predictions to `path`: a pickle file, or for mmsegmentation a folder of maps.

    Raises:
        ConfigError: the path is not of that kind.
    """
    metric = HOSTS[cfg.default_scope].dump_metric
    is_pickle = path.endswith(('.pkl', '.pickle'))
    if is_pickle == (metric is None):
        kind = 'a folder' if metric is None else 'a .pkl file'
        raise ConfigError(f'--out takes {kind} for a config of {cfg.default_scope}, got {path}')
    evaluators = cfg.test_evaluator
    evaluators = list(evaluators) if isinstance(evaluators, (list, tuple)) else [evaluators]
    if metric is None:
        evaluators[0].output_dir = path
    else:
        evaluators.append(dict(type=metric, out_file_path=path))
    cfg.test_evaluator = evaluators


def set_draw(cfg: Config, folder: str) -> None:
    """Save a picture of every prediction in `folder`.

    Raises:
        ConfigError: the config has no visualization hook.
    """
    if 'visualization' not in cfg.get('default_hooks', {}):
        raise ConfigError(
            '--show-dir needs a visualization hook in default_hooks, such as '
            "visualization=dict(type='VisualizationHook')"
        )
    HOSTS[cfg.default_scope].draw(cfg, folder)


def set_tta(cfg: Config) -> None:
    """Test with augmentation: that of the config, else with and without a flip.

    Raises:
        ConfigError: the config has no augmentation and the host no default; or the model predicts
            masks, which mmdetection cannot merge.
    """
    host = HOSTS[cfg.default_scope]
    if 'mask_head' in (cfg.model.get('roi_head') or {}):
        raise ConfigError(
            '--tta merges boxes, and the model of this config predicts masks as well; test it '
            'without the option'
        )
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:  # a wrapper such as RepeatDataset
        dataset = dataset.dataset
    if 'tta_model' not in cfg or 'tta_pipeline' not in cfg:
        if host.tta_model is None:
            raise ConfigError(
                f'--tta needs tta_model and tta_pipeline in the config: {cfg.default_scope} has no '
                'default for them'
            )
        *transforms, pack = dataset.pipeline
        flip = dict(type='TestTimeAug', transforms=[FLIPS, [_with_flip(pack)]])
        cfg.setdefault('tta_model', host.tta_model)
        cfg.setdefault('tta_pipeline', [*transforms, flip])
    cfg.model = ConfigDict(cfg.tta_model, module=cfg.model)
    dataset.pipeline = cfg.tta_pipeline


def _with_flip(pack: dict) -> dict:
    """Let mmdet's PackDetInputs keep the entries that the merging of flipped boxes reads."""
    if not pack['type'].endswith('PackDetInputs'):
        return pack
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip')
    return dict(pack, meta_keys=(*pack.get('meta_keys', ()), *keys, 'flip_direction'))
