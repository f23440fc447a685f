"""Functions of tensors; they need nothing but PyTorch and torchvision."""

from mmvitlin.ops.decayed_attention import (
    Scan,
    blocked_chunk_form,
    chunk_form,
    decay_mask,
    decayed_attention,
    naive_form,
    recurrent_form,
)
from mmvitlin.ops.distillation import (
    distillation_loss,
    hard_distillation_loss,
    soft_distillation_loss,
)
from mmvitlin.ops.feature_maps import elu_features, silu_features, unit_silu_features
from mmvitlin.ops.fourier_crop import low_frequency_crop
from mmvitlin.ops.llama_block import llama_block, rms_norm
from mmvitlin.ops.mix_tokens import draw_box, swap_box
from mmvitlin.ops.relu_linear_attention import relu_linear_attention
from mmvitlin.ops.scan_orders import order_of_subset, snake_orders
from mmvitlin.ops.sign_attack import sign_attack
from mmvitlin.ops.token_expansion import expand_tokens, restore_tokens
from mmvitlin.ops.token_label_loss import token_label_loss
from mmvitlin.ops.token_labels import token_label_targets
from mmvitlin.ops.windows import pad_to_multiple, window_partition, window_unpartition

__all__ = [
    'Scan',
    'blocked_chunk_form',
    'chunk_form',
    'decay_mask',
    'decayed_attention',
    'distillation_loss',
    'draw_box',
    'elu_features',
    'expand_tokens',
    'hard_distillation_loss',
    'llama_block',
    'low_frequency_crop',
    'naive_form',
    'order_of_subset',
    'pad_to_multiple',
    'recurrent_form',
    'relu_linear_attention',
    'restore_tokens',
    'rms_norm',
    'sign_attack',
    'silu_features',
    'snake_orders',
    'soft_distillation_loss',
    'swap_box',
    'token_label_loss',
    'token_label_targets',
    'unit_silu_features',
    'window_partition',
    'window_unpartition',
]
