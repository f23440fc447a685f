"""mmdetection's inferencer for our names. The one module of the package that imports mmdet."""

import mmdet.apis

from mmvitlin.apis.by_name import ByName
from mmvitlin.apis.model_index import DETECTION


class DetInferencer(ByName, mmdet.apis.DetInferencer):
    """mmdetection's DetInferencer, for the names of our configs.

    Its arguments, calls and results are the host's. Missing, unexpected and mismatched weights are
    an error.
    """

    task = DETECTION
