"""Efficient vision transformers for mmpretrain, mmdetection and mmsegmentation.

Importing the package costs milliseconds: it announces its names to MMEngine's registries, and what
is behind a name is imported when a config first asks for it.
"""

from mmvitlin import registry
from mmvitlin.version import __version__

__all__ = ['__version__', 'registry']
