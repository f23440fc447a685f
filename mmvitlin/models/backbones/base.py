"""What every backbone of the package shares."""

from abc import abstractmethod
from typing import Any

from mmengine.model import BaseModule, PretrainedInit
from mmengine.model.weight_init import update_init_info
from torch import Tensor

from mmvitlin.checkpoints.pretrained import load_pretrained, read_pretrained


class Backbone(BaseModule):
    """A module that says what it loads from a checkpoint, and how deep its parameters lie.

    `init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.')` is read without running
    code from the file, what did not fit is listed in the log, and a checkpoint of another model is
    an error. As in MMEngine it comes after all other entries of `init_cfg`, and once.
    """

    def init_weights(self) -> None:
        """Initialise as MMEngine does, then load the checkpoints that `init_cfg` names.

        Raises:
            CheckpointError: a checkpoint that cannot be loaded or is of another model.
            TypeError: an unknown key beside `type='Pretrained'`.
        """
        init_cfg, was_init = self.init_cfg, self.is_init
        entries = init_cfg if isinstance(init_cfg, list) else [init_cfg] if init_cfg else []
        pretrained = [entry for entry in entries if entry['type'] in ('Pretrained', PretrainedInit)]
        self.init_cfg = [entry for entry in entries if entry not in pretrained]
        super().init_weights()
        self.init_cfg = init_cfg
        if not was_init:
            for entry in pretrained:
                rest = {k: v for k, v in entry.items() if k not in ('type', '_scope_')}
                self.load_pretrained(**rest)

    def load_pretrained(
        self, checkpoint: str, prefix: str | None = None, map_location: Any = 'cpu'
    ) -> None:
        """Load the backbone's part of a checkpoint: arguments as those of `read_pretrained`."""
        weights = read_pretrained(checkpoint, prefix, map_location)
        shapes = {name: tuple(value.shape) for name, value in weights.items()}
        self.fit_pretrained(weights)
        load_pretrained(self, weights, checkpoint, self.modules_of_dense_tasks, shapes)
        if hasattr(self, '_params_init_info'):  # MMEngine is writing its list of who set what
            update_init_info(self, f'loaded from {checkpoint}')

    def fit_pretrained(self, weights: dict[str, Tensor]) -> None:
        """Fit the weights of a checkpoint, names -> tensors, to this backbone's size, in place."""

    @property
    def modules_of_dense_tasks(self) -> tuple[str, ...]:
        """Submodules that this backbone has and a classifier's checkpoint need not have."""
        return ()

    @abstractmethod
    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Say how deep a parameter lies, for layer-wise learning-rate decay.

        Args:
            param_name: the parameter's name in a model.
            prefix: the backbone's name in that model, with its dot.

        Returns:
            The depth, 0 for the stem, and the number of layers. What follows the blocks, in the
            backbone or outside of it, is at the last depth, the number of layers - 1.
        """

    def train(self, mode: bool = True) -> 'Backbone':
        """Enter training mode, or leave it; what is frozen stays at rest."""
        super().train(mode)
        self._freeze_stages()
        return self

    @abstractmethod
    def _freeze_stages(self) -> None:
        """Put at rest what `frozen_stages` names: no gradient, evaluation mode."""
