"""Forward pre-hook on the data preprocessor that crops training batches in frequency.

The crop comes before Mixup and CutMix, as in the original code. It is linear and keeps the mean of
each channel, so that it may come before the normalisation. The data preprocessor is told whether
the model trains. The crop is not part of the model's forward pass: weights, checkpoints and
compiled graphs do not change.
"""

from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmvitlin.curricula.model_parts import detach, unwrap
from mmvitlin.errors import ConfigError
from mmvitlin.ops.fourier_crop import low_frequency_crop

ATTRIBUTE = 'input_crop'  # of a data preprocessor: the crop attached to it
# Keys of samples in detection and segmentation, whose coordinates are pixels of the image.
ON_PIXELS = ('gt_instances', 'gt_sem_seg', 'gt_panoptic_seg')


class InputCrop:
    """Crops training batches in frequency.

    Args:
        sizes: sides of the images in all stages; images of a batch must not be smaller.

    Attributes:
        stage: the current stage, from 1; 0 leaves images as they are. A deep copy of the data
            preprocessor keeps a stage of its own.
        handle: removes the crop.
    """

    def __init__(self, sizes: Sequence[int]):
        self.sizes = tuple(sizes)
        self.stage = 0
        self.handle: RemovableHandle | None = None

    def __repr__(self) -> str:
        return f'{type(self).__name__}(sizes={self.sizes}, stage={self.stage})'

    def __call__(
        self, preprocessor: BaseDataPreprocessor, args: tuple, kwargs: dict
    ) -> tuple[tuple, dict] | None:
        """Crop `inputs` of a data preprocessor in training: (B, C, H, W), or a list of (C, H, W).

        Raises:
            ConfigError: there is no such batch, its images are smaller than those of a stage, or
                its samples are not a classifier's.
        """
        training = kwargs.get('training', args[1] if len(args) > 1 else False)
        if not training or not self.stage:
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
        # Compared with the largest size, so that the first batch of the training fails.
        if max(self.sizes) > min(images.shape[-2:]):
            raise ConfigError(
                f'input_size={list(self.sizes)} has a stage with larger images than the train '
                f'pipeline makes, {images.shape[-2]} x {images.shape[-1]}: let the pipeline make '
                'images of the largest size'
            )
        images = preprocessor.cast_data(images).float()  # on the model's device
        data = {**data, 'inputs': low_frequency_crop(images, self.sizes[self.stage - 1])}
        return ((data, *args[1:]), kwargs) if args else ((), {**kwargs, 'data': data})


def attach_crop(model: nn.Module, sizes: Sequence[int]) -> InputCrop:
    """Attach a crop to the data preprocessor of a model, replacing the one that it has.

    Raises:
        ConfigError: the model has no data preprocessor.
    """
    preprocessor = getattr(unwrap(model), 'data_preprocessor', None)
    if not isinstance(preprocessor, BaseDataPreprocessor):
        raise ConfigError(
            f'{type(unwrap(model)).__name__} has no data preprocessor, whose input EfficientTrain '
            "crops: it trains MMEngine's models, such as mmpretrain.ImageClassifier"
        )
    detach(preprocessor, ATTRIBUTE)
    crop = InputCrop(sizes)
    crop.handle = preprocessor.register_forward_pre_hook(crop, with_kwargs=True)
    setattr(preprocessor, ATTRIBUTE, crop)
    return crop
