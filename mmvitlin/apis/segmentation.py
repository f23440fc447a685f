"""mmsegmentation's inferencer for our names. The one module of the package that imports mmseg."""

import mmseg.apis

from mmvitlin.apis.by_name import ByName
from mmvitlin.apis.model_index import SEGMENTATION


class MMSegInferencer(ByName, mmseg.apis.MMSegInferencer):
    """mmsegmentation's MMSegInferencer, for the names of our configs.

    Its arguments, calls and results are the host's. Missing, unexpected and mismatched weights are
    an error.
    """

    task = SEGMENTATION
