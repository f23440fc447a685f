"""Where a curriculum of image sizes enters a model: before its data preprocessor.

The crop comes before Mixup and CutMix, as in the original. It is linear and keeps the mean of each
channel, so that it may come before the normalisation. Evaluation can be told apart there, and the
model's forward is not concerned: weights, checkpoints and compiled graphs do not change.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmvitlin.engine.token_sequence import unwrap
from mmvitlin.errors import ConfigError
from mmvitlin.ops.fourier_crop import low_frequency_crop

# What a sample of detection or segmentation has: it lies on pixels, and would have to shrink too.
ON_PIXELS = ('gt_instances', 'gt_sem_seg', 'gt_panoptic_seg')


class LowFrequencyInput:
    """What crops the batches of training in frequency: a forward pre-hook of the data preprocessor.

    Deep copies of a model, such as averages, share it.

    Attributes:
        sizes: sides of the images in each part of the training.
        part: the part that training is in, from 1; 0 leaves images as they are.
    """

    def __init__(self, sizes: Sequence[int], part: int = 0):
        self.sizes = tuple(sizes)
        self.part = part

    @property
    def size(self) -> int | None:
        """The side of the images of training now; None where they are left as they are."""
        return self.sizes[self.part - 1] if self.part else None

    def __deepcopy__(self, memo: dict) -> 'LowFrequencyInput':
        return self

    def __repr__(self) -> str:
        return f'{type(self).__name__}(sizes={self.sizes}, part={self.part})'

    def __call__(
        self, preprocessor: nn.Module, args: tuple, kwargs: dict
    ) -> tuple[tuple, dict] | None:
        """Crop `inputs` (B, C, H, W), or that many (C, H, W), which a preprocessor gets to train.

        Raises:
            ConfigError: there are none, or smaller ones than any part of the training takes.
        """
        training = kwargs.get('training', args[1] if len(args) > 1 else False)
        if not training or not self.part:
            return None
        data = args[0] if args else kwargs['data']
        images = data.get('inputs') if isinstance(data, dict) else None
        if isinstance(images, (list, tuple)) and len({image.shape for image in images}) == 1:
            images = torch.stack(images)
        if not isinstance(images, Tensor) or images.ndim != 4:
            raise ConfigError(
                f'{type(preprocessor).__name__} gets no batch (B, C, H, W) of inputs, so that '
                'EfficientTrain cannot crop it: it trains classifiers'
            )
        for sample in (data.get('data_samples') or [])[:1]:
            found = [name for name in ON_PIXELS if name in sample]
            if found:
                raise ConfigError(
                    f'samples have {found[0]}, which a crop in frequency would leave at its size: '
                    'EfficientTrain trains classifiers'
                )
        # Of all parts, so that the first batch tells, not the first of the last part.
        if max(self.sizes) > min(images.shape[-2:]):
            raise ConfigError(
                f'input_size={list(self.sizes)} has a part with larger images than the train '
                f'pipeline makes, {images.shape[-2]} x {images.shape[-1]}: let the pipeline make '
                'images of the largest size'
            )
        images = preprocessor.cast_data(images).float()  # on the model's device
        data = {**data, 'inputs': low_frequency_crop(images, self.size)}
        return ((data, *args[1:]), kwargs) if args else ((), {**kwargs, 'data': data})


def crop_input_of(model: nn.Module, crop: LowFrequencyInput) -> None:
    """Let a model train on cropped images; a crop that it has already makes way.

    Raises:
        ConfigError: it has no data preprocessor.
    """
    preprocessor = getattr(unwrap(model), 'data_preprocessor', None)
    if not isinstance(preprocessor, nn.Module):
        raise ConfigError(
            f'{type(unwrap(model)).__name__} has no data preprocessor, before which EfficientTrain '
            "crops images: it trains MMEngine's models, such as mmpretrain.ImageClassifier"
        )
    for key, hook in list(preprocessor._forward_pre_hooks.items()):
        if isinstance(hook, LowFrequencyInput):
            del preprocessor._forward_pre_hooks[key]
            preprocessor._forward_pre_hooks_with_kwargs.pop(key, None)
    preprocessor.register_forward_pre_hook(crop, with_kwargs=True)


def find_crop(model: nn.Module) -> LowFrequencyInput | None:
    """What crops the images that a model trains on, if anything does."""
    preprocessor = getattr(unwrap(model), 'data_preprocessor', None)
    hooks = getattr(preprocessor, '_forward_pre_hooks', {}).values()
    return next((hook for hook in hooks if isinstance(hook, LowFrequencyInput)), None)
