"""Efficient vision transformers for mmpretrain, mmdetection and mmsegmentation.

Importing the package costs milliseconds: it announces its names to MMEngine's registries, and what
is behind a name is imported when a config first asks for it. mmpretrain, once it is imported, lists
the package's classifiers among its own (`model_hub.py`).
"""

from mmvitlin import model_hub, registry
from mmvitlin.version import __version__

__all__ = ['__version__', 'model_hub', 'registry']

model_hub.install()
