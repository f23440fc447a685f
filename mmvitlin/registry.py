"""MMEngine registries of scope 'mmvitlin'.

`type='mmvitlin.L2ViT'` makes MMEngine import this file and look the name up in the child registry
below, which imports the module that holds it. `type='L2ViT'` works too once the package is
imported: the name stands at the root, where every host looks last, as a function that imports the
class and builds it.
"""

from importlib import import_module

from mmengine.logging import print_log
from mmengine.registry import DATA_SAMPLERS as ROOT_DATA_SAMPLERS
from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import LOOPS as ROOT_LOOPS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ROOT_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS
from mmengine.registry import Registry

SCOPE = 'mmvitlin'

# Names that extend a host's classes -> what is imported when a config asks for them, and not with
# the rest, which has to build where that host is missing.
EXTENSIONS = {'DistillationClassifier': 'mmvitlin.models.classifiers'}


class _LateRegistry(Registry):
    """A registry that imports what extends a host with the first question for it."""

    def get(self, key: str) -> type | None:
        """Get the class of a name, as MMEngine does."""
        module = EXTENSIONS.get(key.removeprefix(f'{SCOPE}.'))
        if module is not None:
            import_module(module)
        return super().get(key)


def _child(root: Registry, location: str) -> Registry:
    """The registry of our scope below `root`; what is registered lives in `location`."""
    if SCOPE in root.children:  # this module is being reloaded
        return root.children[SCOPE]
    return _LateRegistry(root.name, parent=root, scope=SCOPE, locations=[location])


MODELS = _child(ROOT_MODELS, 'mmvitlin.models')
DATASETS = _child(ROOT_DATASETS, 'mmvitlin.datasets')
DATA_SAMPLERS = _child(ROOT_DATA_SAMPLERS, 'mmvitlin.datasets')
TRANSFORMS = _child(ROOT_TRANSFORMS, 'mmvitlin.datasets')
HOOKS = _child(ROOT_HOOKS, 'mmvitlin.engine')
LOOPS = _child(ROOT_LOOPS, 'mmvitlin.engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(ROOT_OPTIM_WRAPPER_CONSTRUCTORS, 'mmvitlin.engine')

# What the package registers, so that a bare name needs no import of what is behind it.
NAMES = {
    MODELS: (
        'DistillationClassifier',
        'L2ViT',
        'LION',
        'LVViT',
        'SimpleFeaturePyramid',
        'TokenLabelHead',
        'ViTLLaMA',
    ),
    DATASETS: ('DigitScenes', 'Digits', 'ImageNetTar', 'SeededDataset', 'TokenLabelDataset'),
    DATA_SAMPLERS: ('SeededSampler',),
    TRANSFORMS: ('TokenLabelAugment', 'TokenLabelCrop', 'TokenLabelFlip'),
    HOOKS: (
        'EfficientTrainHook',
        'FiniteLossHook',
        'InterruptHook',
        'RandomStateHook',
        'SafeCheckpointHook',
        'TokenExpansionHook',
    ),
    LOOPS: ('ResumableEpochLoop', 'ResumableIterLoop'),
    OPTIM_WRAPPER_CONSTRUCTORS: ('LayerDecayOptimWrapperConstructor',),
}


def _announce(registry: Registry, name: str) -> None:
    """Put `name` at the root as a function that imports and builds the class when called."""

    def build(*args, **kwargs):
        return registry.get(name)(*args, **kwargs)

    build.__name__ = build.__qualname__ = name
    taken = registry.parent.module_dict.get(name)
    if taken is not None and taken.__module__ != __name__:
        print_log(
            f'{name!r} is already registered by {taken.__module__}: '
            f"write type='{SCOPE}.{name}' for ours.",
            'current',
        )
    else:
        registry.parent.register_module(name=name, module=build, force=True)


for _registry, _names in NAMES.items():
    for _name in _names:
        _announce(_registry, _name)
