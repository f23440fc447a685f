"""Efficient vision transformers for mmpretrain, mmdetection and mmsegmentation.

Importing the package costs milliseconds: it announces its names to MMEngine's registries, and what
is behind a name is imported when a config first asks for it. mmpretrain, once it is imported, lists
the package's classifiers among its own (`zoo/`).
"""

from mmvitlin import registry
from mmvitlin.version import __version__
from mmvitlin.zoo import import_hook

__all__ = ['__version__', 'registry']

import_hook.install()
