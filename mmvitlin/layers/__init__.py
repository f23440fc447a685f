"""Modules that own parameters."""

from mmvitlin.layers.conditional_position_encoding import ConditionalPositionEncoding
from mmvitlin.layers.conv_stem import ConvStem
from mmvitlin.layers.depthwise_conv import DepthwiseConv
from mmvitlin.layers.linear_attention import LinearAttention
from mmvitlin.layers.lion_attention import LIONAttention
from mmvitlin.layers.local_concentration import LocalConcentration
from mmvitlin.layers.map_norm import LayerNorm2d, build_map_norm
from mmvitlin.layers.mlp import MLP
from mmvitlin.layers.onednn_linear import OneDNNLinear, use_onednn_linears
from mmvitlin.layers.patch_embedding import PatchEmbedding
from mmvitlin.layers.position_embedding import PositionEmbedding
from mmvitlin.layers.self_attention import SelfAttention
from mmvitlin.layers.transformer_layer import TransformerLayer
from mmvitlin.layers.window_attention import WindowAttention

__all__ = [
    'MLP',
    'ConditionalPositionEncoding',
    'ConvStem',
    'DepthwiseConv',
    'LIONAttention',
    'LayerNorm2d',
    'LinearAttention',
    'LocalConcentration',
    'OneDNNLinear',
    'PatchEmbedding',
    'PositionEmbedding',
    'SelfAttention',
    'TransformerLayer',
    'WindowAttention',
    'build_map_norm',
    'use_onednn_linears',
]
