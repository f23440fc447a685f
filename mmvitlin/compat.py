"""Private attributes of hosts that the package needs, with the version that each was tried on."""

from collections import OrderedDict
from typing import Any

from mmengine._strategy import FSDPStrategy
from mmengine.infer import BaseInferencer
from mmengine.model import BaseDataPreprocessor
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.runner import checkpoint as mmengine_checkpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

# mmengine 0.10.7: the base class of schedulers, exported under this name only.
ParamScheduler = _ParamScheduler

# mmengine 0.10.7: strategies have no public import path.
__all__ = ['FSDPStrategy']

# mmengine 0.10.7: renames the weights of mmcls's model zoo, which its loader of 'mmcls://' does.
process_mmcls_checkpoint = mmengine_checkpoint._process_mmcls_checkpoint


def set_dataset_meta(inferencer: BaseInferencer, checkpoint: dict) -> None:
    """Give mmpretrain's inferencer the classes in a checkpoint, as its own loading does.

    mmpretrain 1.2.0: models keep them in `_dataset_meta`, and nothing public sets that.

    Args:
        inferencer: an ImageClassificationInferencer.
        checkpoint: content of the file; without classes in it, the names of the config's data set
            stay.
    """
    meta = checkpoint.get('meta') or {}
    if 'dataset_meta' in meta:
        inferencer.model._dataset_meta = meta['dataset_meta']
        inferencer.classes = meta['dataset_meta'].get('classes')


def uncompiled(module: nn.Module) -> nn.Module:
    """Return the module that `torch.compile` wrapped, or the module itself.

    torch 2.10: OptimizedModule has no public attribute for the module.
    """
    return getattr(module, '_orig_mod', module)


def stop_persistent_workers(loader: DataLoader) -> None:
    """Stop the persistent workers of a data loader; the next epoch starts new ones.

    torch 2.10: the loader keeps its iterator, whose last reference stops them.
    """
    loader._iterator = None


def set_max_iters(loop: EpochBasedTrainLoop, max_iters: int) -> None:
    """Set the number of iterations of a training.

    mmengine 0.10.7: the loop computes it once, from the loader's first length.
    """
    loop._max_iters = max_iters


def accumulative_counts(wrapper: OptimWrapper) -> int:
    """Return the number of batches per optimizer step (mmengine 0.10.7: no public getter)."""
    return wrapper._accumulative_counts


def set_accumulative_counts(
    wrapper: OptimWrapper, counts: int, num_batches: int, done: int = 0
) -> None:
    """Accumulate `counts` batches per optimizer step in an epoch of `num_batches` batches.

    `done` of them have been trained on.

    mmengine 0.10.7: no public setter. The model is a placeholder: MMEngine only looks for BatchNorm
    in it, to log a warning that it logged at the start of the training.
    """
    wrapper._accumulative_counts = counts
    wrapper.initialize_count_status(nn.Identity(), done, num_batches)


def is_resuming(runner: Runner) -> bool:
    """Return whether a runner resumes a training (mmengine 0.10.7: no public name)."""
    return runner._resume


def normalizes_images(preprocessor: BaseDataPreprocessor) -> bool:
    """Return whether a data preprocessor of mmpretrain subtracts a mean and divides by a std.

    mmpretrain 1.2.0: ClsDataPreprocessor has `mean` and `std` only if `_enable_normalize` is true.
    """
    return preprocessor._enable_normalize


def head_loss(head: Any, outputs: Tensor, data_samples: list) -> dict[str, Tensor]:
    """Compute the losses of a classification head from its outputs, (B, classes).

    mmpretrain 1.2.0: the public `loss` takes features and computes the outputs again.
    """
    return head._get_loss(outputs, data_samples)


def set_versions(state_dict: OrderedDict, versions: dict) -> None:
    """Set the versions of modules that a state dict carries, as `Module.state_dict` does.

    torch 2.10: `load_state_dict` reads them from this attribute.
    """
    state_dict._metadata = versions  # type: ignore[attr-defined]  # OrderedDict has none


def storage_of(tensor: Tensor) -> int:
    """Return a number that tensors with the same storage share (torch 2.10: no public name).

    On the meta device storages have no address, which tells them apart elsewhere.
    """
    return tensor.untyped_storage()._cdata
