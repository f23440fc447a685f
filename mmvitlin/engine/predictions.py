"""Predictions of a trained model on samples of its test data."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.device import get_device
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS, VISUALIZERS, DefaultScope
from mmengine.visualization import Visualizer

from mmvitlin.checkpoints.state_dicts import load_whole
from mmvitlin.engine.hosts import model_settings

BATCH_SIZE = 16
SCORE_SHOWN = 0.3  # lowest score of a detection that is drawn
OPACITY = 0.6  # of a semantic map over its image


@dataclass(frozen=True)
class ClassPredictions:
    """Predictions of a classifier.

    Attributes:
        classes: names, in the order of the labels.
        indices: (N,), indices of the samples in the data set.
        scores: (N, C), the probability of each class.
        labels: (N,), the true classes.
        dataset: the data set of the images.
    """

    classes: tuple[str, ...]
    indices: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    dataset: BaseDataset

    def confusion(self) -> np.ndarray:
        """Return the confusion matrix (C, C): counts by true class (rows) and predicted class."""
        count = self.scores.shape[1]
        matrix = np.zeros((count, count), dtype=int)
        np.add.at(matrix, (self.labels, self.scores.argmax(1)), 1)
        return matrix

    def worst(self, count: int) -> np.ndarray:
        """Return the rows of the mistakes with the highest scores."""
        wrong = np.flatnonzero(self.scores.argmax(1) != self.labels)
        return wrong[np.argsort(-self.scores[wrong].max(1), kind='stable')][:count]

    def image(self, row: int) -> np.ndarray:
        """Return the image of a row, (H, W, 3) in RGB."""
        return sample_image(self.dataset, int(self.indices[row]))


def build_trained(cfg: Config, checkpoint: Path) -> tuple[torch.nn.Module, BaseDataset]:
    """Build the model of a config with a checkpoint's weights, and its test data.

    The config's scope must be the default scope.
    """
    model = MODELS.build(model_settings(cfg))
    load_whole(model, str(checkpoint))
    # A separate statement, since `train` of some hosts' backbones returns None.
    model.to(get_device()).eval()
    return model, DATASETS.build(cfg.test_dataloader.dataset)


def classify(cfg: Config, checkpoint: Path, most: int) -> ClassPredictions:
    """Run a classifier on up to `most` images spread over its test data."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model, dataset = build_trained(cfg, checkpoint)
        indices = spread(len(dataset), most)
        results = [
            result
            for start in range(0, len(indices), BATCH_SIZE)
            for result in run(model, dataset, indices[start : start + BATCH_SIZE])
        ]
    scores = torch.stack([result.pred_score for result in results]).cpu().numpy()
    classes = dataset.metainfo.get('classes') or map(str, range(scores.shape[1]))
    labels = np.array([int(result.gt_label) for result in results])
    return ClassPredictions(tuple(classes), indices, scores, labels, dataset)


def draw_samples(cfg: Config, checkpoint: Path, count: int) -> Iterator[np.ndarray]:
    """Draw predictions of a detector, segmentor or pose estimator beside the truth, if known.

    Yields:
        Pictures, (H, W, 3) in RGB.
    """
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model, dataset = build_trained(cfg, checkpoint)
        if cfg.default_scope == 'mmseg':
            draw = partial(draw_maps, palette=np.array(dataset.metainfo['palette']))
        else:
            visualizer = VISUALIZERS.build(dict(cfg.visualizer, name='report', vis_backends=None))
            visualizer.dataset_meta = dataset.metainfo
            draw = partial(draw_boxes, visualizer=visualizer)
            if cfg.default_scope == 'mmpose':
                visualizer.set_dataset_meta(dataset.metainfo)
                draw = partial(draw_keypoints, visualizer=visualizer)
        for index in spread(len(dataset), count):
            (result,) = run(model, dataset, [index])
            yield draw(sample_image(dataset, int(index)), result.cpu())


def run(model: BaseModel, dataset: BaseDataset, indices) -> list:
    """Predict on samples of a data set."""
    with torch.no_grad():
        return model.test_step(pseudo_collate([dataset[int(index)] for index in indices]))


def spread(length: int, most: int) -> np.ndarray:
    """Return up to `most` indices, spread evenly over a sequence."""
    return np.unique(np.linspace(0, length - 1, min(length, most)).astype(int))


def sample_image(dataset: BaseDataset, index: int) -> np.ndarray:
    """Return the image of a sample as it is stored, (H, W, 3) in RGB."""
    info = dataset.get_data_info(index)
    if 'img' not in info:
        info = dataset.pipeline.transforms[0](info)  # LoadImageFromFile
    return np.ascontiguousarray(info['img'][..., ::-1])


def draw_boxes(image: np.ndarray, result, visualizer: Visualizer) -> np.ndarray:
    """Draw boxes and masks by mmdetection's visualizer, ground truth on the left."""
    with TemporaryDirectory() as folder:
        path = str(Path(folder, 'sample.png'))
        visualizer.add_datasample(
            'sample', image, result, pred_score_thr=SCORE_SHOWN, out_file=path
        )
        return mmcv.imread(path, channel_order='rgb')


def draw_keypoints(image: np.ndarray, result, visualizer: Visualizer) -> np.ndarray:
    """Draw key points by mmpose's visualizer, ground truth on the left."""
    with TemporaryDirectory() as folder:
        path = str(Path(folder, 'sample.png'))
        visualizer.add_datasample(
            'sample', image, result, draw_heatmap=False, draw_bbox=False, out_file=path
        )
        return mmcv.imread(path, channel_order='rgb')


def draw_maps(image: np.ndarray, result, palette: np.ndarray) -> np.ndarray:
    """Draw an image, its true map if there is one, and the predicted map side by side."""
    pictures = [image]
    for name in ('gt_sem_seg', 'pred_sem_seg'):
        if name in result:
            labels = result.get(name).data[0].numpy()
            colors = palette[np.minimum(labels, len(palette) - 1)]
            drawn = (OPACITY * colors + (1 - OPACITY) * image).astype(np.uint8)
            ignored = (labels >= len(palette))[..., None]
            pictures.append(np.where(ignored, image, drawn))
    return np.concatenate(pictures, axis=1)
