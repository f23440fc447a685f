"""Where mmpretrain, mmdetection and mmsegmentation differ in how a run is set up.

The hosts are named here and never imported: what belongs to them is built by its registered name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict

from mmvitlin.errors import ConfigError

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


@dataclass(frozen=True)
class Host:
    """What a run of one host needs.

    Attributes:
        draw: make a config save a picture of every prediction in a folder.
        dump_metric: the metric that writes all predictions to a pickle file; None where the host
            writes one map per image to a folder.
        tta_model: test-time augmentation's model wrapper, for configs that name none; None where
            configs must.
        collate_fn: how the data loaders of configs that do not say make batches; None for
            mmengine's own way, which leaves images of different sizes apart.
    """

    draw: Callable[[Config, str], None]
    dump_metric: str | None
    tta_model: dict | None
    collate_fn: dict | None = None


HOSTS = {
    'mmpretrain': Host(
        draw=_draw_mmpretrain,
        dump_metric='DumpResults',
        tta_model=dict(type='AverageClsScoreTTA'),
        collate_fn=dict(type='default_collate'),
    ),
    'mmdet': Host(
        draw=_draw_mmdet,
        dump_metric='DumpDetResults',
        tta_model=dict(
            type='DetTTAModel',
            tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
        ),
    ),
    'mmseg': Host(draw=_draw_mmseg, dump_metric=None, tta_model=None),
}


def set_loader_defaults(cfg: Config) -> None:
    """Fill in what mmpretrain's own tools add to every data loader and its configs count on."""
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
    """Test with augmentation: as the config says, otherwise with and without a flip.

    Raises:
        ConfigError: the config does not say how, and the host has no default for it; or the model
            predicts masks, which mmdetection cannot merge.
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
    """Let mmdet's PackDetInputs pass on what its merging of flipped boxes reads."""
    if not pack['type'].endswith('PackDetInputs'):
        return pack
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip')
    return dict(pack, meta_keys=(*pack.get('meta_keys', ()), *keys, 'flip_direction'))
