"""Modules that own parameters."""

from mmvitlin.layers.depthwise_conv import DepthwiseConv
from mmvitlin.layers.onednn_linear import OneDNNLinear, use_onednn_linears

__all__ = ['DepthwiseConv', 'OneDNNLinear', 'use_onednn_linears']
