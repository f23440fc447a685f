"""Our classifiers in mmpretrain's model hub, as soon as mmpretrain is there.

mmpretrain lists and builds models by name from a dictionary in `mmpretrain.apis.model`. Importing
mmpretrain takes seconds, so that `import mmvitlin` must not; instead a finder on `sys.meta_path`
notices when that module is imported, before or after us, and enters our models right after it. The
import itself is left to the finders and loaders that would do it anyway.

Only the standard library is imported here, and nothing that goes wrong stops an import of
mmpretrain.
"""

import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

HUB = 'mmpretrain.apis.model'


class HubFinder(MetaPathFinder):
    """Finds `HUB` as the other finders do, and has our models entered when it is loaded."""

    def find_spec(self, name, path=None, target=None) -> ModuleSpec | None:
        if name != HUB:
            return None
        for finder in sys.meta_path:
            if not _is_ours(finder) and hasattr(finder, 'find_spec'):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    if spec.loader is not None:
                        spec.loader = HubLoader(spec.loader)
                    return spec
        return None


class HubLoader(Loader):
    """Loads `HUB` by its own loader, leaves that in its place, and enters our models."""

    def __init__(self, loader: Loader):
        self.loader = loader

    def __getattr__(self, name: str):
        return getattr(self.loader, name)  # its source, data and whatever else it can give

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        enter_models(module)


def enter_models(hub_module: ModuleType) -> None:
    """Enter our classifiers in the hub, where they are not yet, and our answer to misspelt names.

    A module without a hub, as of an mmpretrain too old to have one, is left alone; where entering
    fails, a warning says why.
    """
    hub = getattr(hub_module, 'ModelHub', None)
    if hub is None:
        return
    try:
        # `hub.register_model_index` would enter detectors and segmentors as well, and raises for a
        # name that is there already.
        from mmvitlin.zoo.hub_models import HubNames, hub_models

        ours = hub_models()
        if not isinstance(hub._models_dict, HubNames):
            hub._models_dict = HubNames(hub._models_dict)
        for model in ours:
            hub._models_dict.setdefault(model.name, model)
    except Exception as error:  # whatever it is, mmpretrain itself works
        warnings.warn(
            f'mmpretrain does not list the models of mmvitlin: {type(error).__name__}: {error}',
            stacklevel=2,
        )


def install() -> None:
    """Enter our classifiers in the hub, now or when it is imported. Calling it again is no harm."""
    if not any(map(_is_ours, sys.meta_path)):
        sys.meta_path.insert(0, HubFinder())
    if HUB in sys.modules:
        enter_models(sys.modules[HUB])


def _is_ours(finder: object) -> bool:
    """By its module, for after a reload the class is another."""
    return type(finder).__module__ == __name__
