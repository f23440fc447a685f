"""MMEngine registries of scope 'mmvitlin', and the decorator that registers classes in them.

`type='mmvitlin.L2ViT'` makes MMEngine import this module, hence the package, and look the name up
in the child registry below. `type='L2ViT'` works after `custom_imports=['mmvitlin']`: every class
is also registered under its bare name at the root, where all hosts look last.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import TypeVar

from mmengine.logging import print_log
from mmengine.registry import DATA_SAMPLERS as ROOT_DATA_SAMPLERS
from mmengine.registry import DATASETS as ROOT_DATASETS
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import LOOPS as ROOT_LOOPS
from mmengine.registry import METRICS as ROOT_METRICS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ROOT_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as ROOT_OPTIM_WRAPPERS
from mmengine.registry import PARAM_SCHEDULERS as ROOT_PARAM_SCHEDULERS
from mmengine.registry import STRATEGIES as ROOT_STRATEGIES
from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS
from mmengine.registry import Registry

SCOPE = 'mmvitlin'
NEED_OPS = ('mmdet',)  # hosts whose models import mmcv.ops, which mmcv-lite cannot
T = TypeVar('T', bound=type)


def can_import(host: str) -> bool:
    """Return whether a host is installed and, if it needs mmcv's ops, whether they are."""
    if find_spec(host) is None:
        return False
    if host in NEED_OPS:
        try:
            import_module('mmcv.ops')
        except ModuleNotFoundError as error:
            if error.name != 'mmcv._ext':  # which mmcv-lite lacks
                raise
            return False
    return True


class ChildRegistry(Registry):
    """A registry below one of MMEngine's.

    Args:
        root: the registry of MMEngine.
        extensions: module -> the host whose classes it extends. `import mmvitlin` imports no host,
            so these modules are imported when a name is not found without them, if the host can
            be.
    """

    def __init__(self, root: Registry, extensions: dict[str, str] | None = None):
        super().__init__(root.name, parent=root, scope=SCOPE)
        self.extensions = extensions or {}

    def get(self, key: str) -> type | None:
        """Return the class of a name, or None, as MMEngine does."""
        found = super().get(key)
        if found is None:
            for module, host in self.extensions.items():
                if found is None and can_import(host):
                    import_module(module)
                    found = super().get(key)
        return found


MODELS = ChildRegistry(
    ROOT_MODELS,
    {
        'mmvitlin.models.classifiers': 'mmpretrain',
        'mmvitlin.models.backbones.deit': 'mmpretrain',
        'mmvitlin.models.detectors': 'mmdet',
    },
)
DATASETS = ChildRegistry(ROOT_DATASETS)
DATA_SAMPLERS = ChildRegistry(ROOT_DATA_SAMPLERS)
TRANSFORMS = ChildRegistry(ROOT_TRANSFORMS)
HOOKS = ChildRegistry(ROOT_HOOKS)
LOOPS = ChildRegistry(ROOT_LOOPS)
METRICS = ChildRegistry(ROOT_METRICS)
OPTIM_WRAPPER_CONSTRUCTORS = ChildRegistry(ROOT_OPTIM_WRAPPER_CONSTRUCTORS)
OPTIM_WRAPPERS = ChildRegistry(ROOT_OPTIM_WRAPPERS)
PARAM_SCHEDULERS = ChildRegistry(ROOT_PARAM_SCHEDULERS)
STRATEGIES = ChildRegistry(ROOT_STRATEGIES)


def register(registry: Registry) -> Callable[[T], T]:
    """Create a decorator that registers a class in `registry` and, by its bare name, at the root.

    A name that another package has registered at the root is not replaced, with a log line; the
    prefixed name still works.
    """

    def enter(cls: T) -> T:
        registry.register_module(module=cls)
        taken = registry.parent.module_dict.get(cls.__name__)
        if taken is None:
            registry.parent.register_module(module=cls)
        else:
            print_log(
                f'{cls.__name__!r} is already registered by {taken.__module__}: '
                f"write type='{SCOPE}.{cls.__name__}' for the class of mmvitlin",
                'current',
            )
        return cls

    return enter
