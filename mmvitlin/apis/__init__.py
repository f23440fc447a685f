"""Finding, building and running the package's models by name, in every host.

>>> from mmvitlin.apis import get_inferencer, get_model, list_models
>>> list_models('*l2vit*', task='Object Detection')
>>> model = get_model('mask-rcnn_l2vit-tiny_fpn_1x_coco', 'epoch_12.pth')
>>> get_inferencer('l2vit-tiny_upernet_8xb2-160k_ade20k-512x512', 'iter_160000.pth')('street.jpg')

A name is that of a config, without '.py'. mmdetection, mmsegmentation and mmpose are imported when
one of their models is requested. mmpretrain, if installed, is imported with this module, which adds
our classifiers to its model hub.
"""

from importlib import import_module
from importlib.util import find_spec

from mmvitlin.apis.by_name import get_config, get_inferencer, get_model, list_models
from mmvitlin.apis.model_index import UnknownModelError

INFERENCERS = {
    'DetInferencer': 'mmvitlin.apis.detection',
    'MMSegInferencer': 'mmvitlin.apis.segmentation',
    'Pose2DInferencer': 'mmvitlin.apis.pose',
}

__all__ = [
    'DetInferencer',
    'MMSegInferencer',
    'Pose2DInferencer',
    'UnknownModelError',
    'get_config',
    'get_inferencer',
    'get_model',
    'list_models',
]


def __getattr__(name: str):
    """Import the inferencer of a host on first access."""
    if name in INFERENCERS:
        return getattr(import_module(INFERENCERS[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


if find_spec('mmpretrain') is not None:
    import_module('mmvitlin.apis.hub').enter_hub()
