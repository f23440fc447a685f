from mmvitlin.models.necks.side_layers import SideLayers
from mmvitlin.models.necks.simple_feature_pyramid import SimpleFeaturePyramid

__all__ = ['SideLayers', 'SimpleFeaturePyramid']
