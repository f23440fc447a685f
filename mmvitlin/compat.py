"""Private attributes of hosts that this package uses, each with the version it was tried on."""

from mmengine.model import BaseDataPreprocessor


def normalizes_images(preprocessor: BaseDataPreprocessor) -> bool:
    """Return whether a data preprocessor of mmpretrain subtracts a mean and divides by a std.

    mmpretrain 1.2.0: ClsDataPreprocessor has `mean` and `std` only if `_enable_normalize` is true.
    """
    return preprocessor._enable_normalize
