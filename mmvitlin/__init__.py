"""Efficient vision transformers for mmpretrain, mmdetection and mmsegmentation.

Importing the package registers its models, data sets, transforms, hooks and optimizer constructors
with MMEngine, and imports no host. If mmpretrain is imported already, our classifiers are also
added to mmpretrain's model hub; otherwise `import mmvitlin.apis` adds them.
"""

import sys
from importlib import import_module

from mmvitlin import curricula, datasets, engine, evaluation, models, registry
from mmvitlin.version import __version__

__all__ = ['__version__', 'curricula', 'datasets', 'engine', 'evaluation', 'models', 'registry']

if 'mmpretrain' in sys.modules:
    import_module('mmvitlin.models.classifiers')
    import_module('mmvitlin.models.backbones.deit')
    import_module('mmvitlin.apis')
if 'mmdet' in sys.modules and registry.can_import('mmdet'):
    import_module('mmvitlin.models.detectors')
