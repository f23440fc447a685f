"""The base class of every backbone of the package."""

from abc import abstractmethod
from typing import Any

from mmengine.model import BaseModule, PretrainedInit
from mmengine.model.weight_init import update_init_info
from torch import Tensor

from mmvitlin.checkpoints.pretrained import load_pretrained, read_pretrained


class Backbone(BaseModule):
    """A backbone that loads pretrained weights safely and describes its parameters and outputs.

    `init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.')` is read without running
    code from the file. Missing, unexpected and mismatched keys are logged, and a checkpoint of
    another model is an error. As in MMEngine it is loaded after all other entries of `init_cfg`,
    and once.

    Attributes:
        in_channels: channels of the images.
        out_channels: channels of each output, in the order of `out_indices`.
        out_strides: pixels of the image per cell of each output, along a side.
    """

    init_cfg: dict | list[dict] | None  # of BaseModule, which does not declare it
    in_channels: int
    out_channels: tuple[int, ...]
    out_strides: tuple[int, ...]

    def init_weights(self) -> None:
        """Initialise as MMEngine does, then load the checkpoints that `init_cfg` names.

        Raises:
            CheckpointError: a checkpoint that cannot be loaded or is of another model.
            TypeError: an unknown key next to `type='Pretrained'`.
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

    def check_images(self, images: Tensor) -> None:
        """Raise ValueError unless images are (B, in_channels, H, W)."""
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            raise ValueError(
                f'{type(self).__name__} takes images of shape (B, {self.in_channels}, H, W), '
                f'got {tuple(images.shape)}'
            )

    def load_pretrained(
        self, checkpoint: str, prefix: str | None = None, map_location: Any = 'cpu'
    ) -> None:
        """Load the backbone's part of a checkpoint: arguments as those of `read_pretrained`."""
        weights = read_pretrained(checkpoint, prefix, map_location)
        shapes = {name: tuple(value.shape) for name, value in weights.items()}
        self.adapt_state_dict(weights)
        load_pretrained(self, weights, checkpoint, self.allowed_missing, shapes)
        if hasattr(
            self, '_params_init_info'
        ):  # MMEngine is recording how each parameter is initialised
            update_init_info(self, f'loaded from {checkpoint}')

    def adapt_state_dict(self, weights: dict[str, Tensor]) -> None:
        """Adapt a state dict of this backbone to its size, in place."""

    @property
    def allowed_missing(self) -> tuple[str, ...]:
        """Submodules and parameters that a pretrained checkpoint may lack."""
        return ()

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters without weight decay, besides norms and biases."""
        return set()

    @abstractmethod
    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return a parameter's depth, for layer-wise learning-rate decay.

        Args:
            param_name: the parameter's name in a model.
            prefix: the backbone's name in that model, with its dot.

        Returns:
            The depth, 0 for the stem, and the number of layers. Parameters after the blocks, in the
            backbone or outside of it, are at the last depth, the number of layers - 1.
        """

    def train(self, mode: bool = True) -> 'Backbone':
        """Set the training mode; frozen modules stay in evaluation mode."""
        super().train(mode)
        self._freeze_stages()
        return self

    @abstractmethod
    def _freeze_stages(self) -> None:
        """Freeze the stages selected by `frozen_stages`: no gradient, evaluation mode."""
