"""Models by the name of their config."""

from importlib import import_module

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.infer import BaseInferencer
from mmengine.registry import DefaultScope
from torch import nn

from mmvitlin.apis.model_index import PRE_TRAINING, find_entry, find_names, how_to_get_weights
from mmvitlin.checkpoints.plain_data import from_plain
from mmvitlin.checkpoints.state_dicts import load_whole
from mmvitlin.compat import set_dataset_meta
from mmvitlin.engine.hosts import HOSTS


def list_models(pattern: str | None = None, task: str | None = None) -> list[str]:
    """List the names of the package's models.

    Args:
        pattern: a wildcard pattern; as in mmpretrain, anything may follow it.
        task: 'Image Classification', 'Object Detection', 'Instance Segmentation',
            'Semantic Segmentation', 'Pose Estimation' or 'Self-Supervised Learning'; None for all.
    """
    return find_names(pattern, task)


def get_config(name: str) -> Config:
    """Read the config of a model.

    Raises:
        UnknownModelError: there is no such model; the error gives the nearest names.
    """
    return Config.fromfile(find_entry(name).config)


def get_model(
    name: str, pretrained: str | bool | None = None, device: str | None = None, **model
) -> nn.Module:
    """Build a classifier, detector or segmentor by name, in evaluation mode.

    Args:
        name: the name of the config, without '.py'.
        pretrained: a checkpoint of this model; None or False for random weights.
        device: where to; by default an accelerator where there is one.
        **model: settings that override the config's model, such as `backbone=dict(with_cp=True)`.

    Raises:
        UnknownModelError: there is no such model; the error gives the nearest names.
        ValueError: `pretrained` is True, and no weights are published; or it is a checkpoint of
            another model.
    """
    return get_inferencer(name, pretrained, device, **model).model


def get_inferencer(
    name: str, weights: str | bool | None = None, device: str | None = None, **model
):
    """Build the host's inferencer for a model; called with images, it predicts and draws.

    The inferencer is mmpretrain's ImageClassificationInferencer, or the subclass of mmdetection's
    DetInferencer, mmsegmentation's MMSegInferencer or mmpose's Pose2DInferencer in
    `mmvitlin.apis`.

    Args:
        name: the name of the config, without '.py'.
        weights: a checkpoint of this model; None or False for random weights.
        device: where to; by default an accelerator where there is one.
        **model: settings that override the config's model.

    Raises:
        UnknownModelError: there is no such model; the error gives the nearest names.
        ValueError: `weights` is True, and none are published; or they are of another model; or the
            model is for pre-training.
    """
    entry = find_entry(name)
    if PRE_TRAINING in entry.tasks:
        raise ValueError(
            f'{entry.name} is for pre-training and predicts nothing: give the name of a classifier '
            'that starts from its checkpoint'
        )
    cfg = Config.fromfile(entry.config)
    if weights is True:
        raise ValueError(how_to_get_weights(entry.name, cfg.model.backbone.type))
    module, _, inferencer = HOSTS[cfg.default_scope].inferencer.partition(':')
    inferencer, device = getattr(import_module(module), inferencer), device or get_device()
    # An earlier inferencer of another host may have set its scope permanently, and transforms would
    # be looked up in the wrong registry.
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        if not issubclass(inferencer, ByName):  # mmpretrain's, to which our names are known
            built = inferencer(entry.name, False, device=device, **model)
            if weights:
                set_dataset_meta(built, load_whole(built.model, weights))
            return built
        cfg.merge_from_dict({'model': model})
        return inferencer(cfg, weights or None, device=device)


class ByName(BaseInferencer):
    """Mixin for inferencers of MMEngine that accepts the names of our models.

    It also accepts the arguments of the host's inferencer: configs, their paths, and dictionaries.
    Weights are loaded safely, and a checkpoint of another model is refused.
    """

    task: str  # of the models that the inferencer runs
    _weights: str | None = None  # the checkpoint to load, while the host builds the model

    def __init__(self, model: str | dict | Config | None = None, weights=None, *args, **options):
        if model is None and weights is not None:
            raise ValueError(
                f'weights={weights!r} needs model, a name or a config: the config inside a '
                'checkpoint is a program and is not run'
            )
        super().__init__(model, weights, *args, **options)

    def _init_model(self, cfg: Config, weights: str | None, device: str = 'cpu') -> nn.Module:
        """Build the model by the host's method, without its loading of weights."""
        self._weights = weights
        return super()._init_model(cfg, None, device)

    def _load_weights_to_model(self, model: nn.Module, checkpoint: None, cfg: Config) -> None:
        """Load the weights, then let the host read metadata from the checkpoint."""
        if self._weights is not None:
            loaded = load_whole(model, self._weights)
            if 'meta' in loaded:  # mmpose's has arrays, which are saved as plain data
                loaded = {**loaded, 'meta': from_plain(loaded['meta'])}
            checkpoint = loaded
        super()._load_weights_to_model(model, checkpoint, cfg)

    def _load_model_from_metafile(self, model: str) -> tuple[Config, None]:
        """Return the config of a name in our index, without weights."""
        return Config.fromfile(find_entry(model, self.task).config), None
