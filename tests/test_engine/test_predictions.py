"""Predictions for a report: the confusion matrix, the worst mistakes, maps beside the truth."""

import numpy as np
import torch
from mmengine.structures import BaseDataElement, PixelData

from mmvitlin.datasets import Digits
from mmvitlin.engine.predictions import ClassPredictions, draw_maps, sample_image, spread


def predictions():
    scores = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.4, 0.6, 0], [0, 0.05, 0.95]])
    labels = np.array([0, 0, 0, 1])
    return ClassPredictions(('a', 'b', 'c'), np.arange(4), scores, labels, Digits('val'))


def test_confusion_counts_true_and_predicted_pairs():
    assert predictions().confusion().tolist() == [[1, 2, 0], [0, 0, 1], [0, 0, 0]]


def test_the_surest_mistakes_come_first():
    assert predictions().worst(10).tolist() == [3, 1, 2]
    assert predictions().worst(1).tolist() == [3]


def test_images_are_given_in_rgb():
    dataset = Digits('val')
    dataset.full_init()
    image = sample_image(dataset, 0)
    assert np.array_equal(image, dataset.get_data_info(0)['img'][..., ::-1])


def test_indices_spread_over_all_samples():
    assert spread(10, 3).tolist() == [0, 4, 9]
    assert spread(3, 10).tolist() == [0, 1, 2]


def test_maps_are_laid_over_the_image_except_where_pixels_are_ignored():
    image = np.full((2, 2, 3), 50, np.uint8)
    truth, found = torch.tensor([[0, 1], [255, 1]]), torch.tensor([[1, 1], [0, 0]])
    sample = BaseDataElement()
    sample.gt_sem_seg = PixelData(data=truth[None])
    sample.pred_sem_seg = PixelData(data=found[None])
    palette = np.array([(0, 0, 0), (100, 200, 0)])
    picture = draw_maps(image, sample, palette)
    assert picture.shape == (2, 6, 3)
    assert picture[0, 3].tolist() == picture[0, 4].tolist() == [80, 140, 20]
    assert picture[1, 2].tolist() == [50, 50, 50]  # ignored
    assert picture[1, 4].tolist() == [20, 20, 20]
