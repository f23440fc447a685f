"""Inspection of a user's own images, before a config for them is written."""

from mmvitlin.datasets.own_data.coco import inspect_coco
from mmvitlin.datasets.own_data.folders import inspect_folders
from mmvitlin.datasets.own_data.masks import inspect_masks
from mmvitlin.datasets.own_data.summary import DataSummary

__all__ = ['DataSummary', 'inspect_coco', 'inspect_folders', 'inspect_masks']
