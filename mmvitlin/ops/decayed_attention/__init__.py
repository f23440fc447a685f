"""Bidirectional linear attention with decay, in three forms that agree (arXiv 2502.16249).

    out_i = sum_j M_ij (q_i . k_j) v_j / sum_j M_ij (q_i . k_j)

    M_ij = g_j ... g_{i-1} for j < i,    1 for j = i,    g_{i+1} ... g_j for j > i

The weight of token j for token i contains the gates of j and of the tokens between them, never the
gate of i. Per head, with chunks of C tokens:

    naive       the L x L matrix, O(L^2 D)
    recurrent   a state of D x D, token by token in each direction, O(L D^2)
    chunk       the matrix within chunks, states between them, O(L (C D + D^2)); the fast form

Each form takes q, k (B, H, L, D), v (B, H, L, E) and scans of the tokens, and returns numerator
and denominator together, (B, H, L, E + 1), summed over the scans; `decayed_attention` divides
them. Without a scan there is no decay: M = 1.
"""

from mmvitlin.ops.decayed_attention.blocking import blocked_chunk_form, blocked_naive_form
from mmvitlin.ops.decayed_attention.chunk import CHUNK_SIZE, chunk_form
from mmvitlin.ops.decayed_attention.decay import Form, Scan, decay_mask, decayed_attention
from mmvitlin.ops.decayed_attention.naive import naive_form
from mmvitlin.ops.decayed_attention.recurrent import recurrent_form

__all__ = [
    'CHUNK_SIZE',
    'Form',
    'Scan',
    'blocked_chunk_form',
    'blocked_naive_form',
    'chunk_form',
    'decay_mask',
    'decayed_attention',
    'naive_form',
    'recurrent_form',
]
