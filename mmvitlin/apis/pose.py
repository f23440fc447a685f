"""mmpose's inferencer for our names. The one module of the package's apis that imports mmpose."""

import mmpose.apis.inferencers

from mmvitlin.apis.by_name import ByName
from mmvitlin.apis.model_index import POSE


class Pose2DInferencer(ByName, mmpose.apis.inferencers.Pose2DInferencer):
    """mmpose's Pose2DInferencer, for the names of our configs.

    Its arguments, calls and results are the host's. Missing, unexpected and mismatched weights are
    an error.
    """

    task = POSE
