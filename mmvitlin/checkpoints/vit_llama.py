"""Names in the checkpoints of the original ViT-LLaMA and what they are called here."""

import re
from collections.abc import Mapping
from math import isqrt

from torch import Tensor

from mmvitlin.checkpoints.safe_load import CheckpointError

# (pattern, replacement), the first that matches wins; {last} is the number of the last layer.
RENAMES = (
    (r'cls_token$', r'backbone.cls_token'),
    (r'pos_embed$', r'backbone.pos_embed.weight'),
    (r'patch_embed\.', r'backbone.patch_embed.'),
    (r'blocks\.', r'backbone.layers.'),
    (r'llama_dim_mapper1\.', r'backbone.llama_in.'),
    (r'llama\.layers\.', r'backbone.llama.layers.'),
    (r'llama_dim_mapper2\.', r'backbone.llama_out.'),
    (r'norm\.', r'backbone.norm{last}.'),
    (r'head\.', r'head.fc.'),
)
NORM = 'llama.norm.weight'  # behind the block: the originals leave it at one, and so it is not here


def convert_vit_llama(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the original classifier's weights to those of mmpretrain's ImageClassifier.

    Args:
        state_dict: the original's names -> tensors, the block of LLaMA among them or not; one that
            has our names already stays as it is.

    Returns:
        Our names ('backbone.' and 'head.fc.') -> the same tensors.

    Raises:
        CheckpointError: names that no checkpoint of the original's classifier has, or a norm behind
            the block that was trained.
    """
    if any(name.startswith('backbone.layers.') for name in state_dict):
        return dict(state_dict)
    if NORM in state_dict and not (state_dict[NORM] == 1).all():
        raise CheckpointError(
            f'{NORM} is not one everywhere as in the original, where LLaMA is frozen and never '
            'given its last norm; what trained it is another model'
        )
    layers = [int(name.split('.')[1]) for name in state_dict if re.match(r'blocks\.\d', name)]
    last = max(layers, default=-1)
    renamed = {name: _rename(name, last) for name in state_dict if name != NORM}
    unknown = [name for name, ours in renamed.items() if ours is None]
    if unknown:
        raise CheckpointError(
            f'{len(unknown)} of {len(state_dict)} names are not those of the original ViT-LLaMA '
            f'classifier, such as {", ".join(unknown[:3])}'
        )
    return {ours: state_dict[name] for name, ours in renamed.items()}


def read_vit_llama_arch(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    """Read ViTLLaMA's `arch` off the shapes of converted weights.

    The heads leave no trace in them: they are taken to be 64 wide, or one where 64 does not divide
    the width.

    Raises:
        CheckpointError: a weight that the widths are read from is missing.
    """
    width = _shape(state_dict, 'backbone.cls_token')[-1]
    stem = 'backbone.layers.'
    layers = [int(n.removeprefix(stem).split('.')[0]) for n in state_dict if n.startswith(stem)]
    return dict(
        embed_dims=width,
        num_layers=max(layers, default=-1) + 1,
        num_heads=1 if width % 64 else width // 64,
        feedforward_channels=_shape(state_dict, f'{stem}0.mlp.fc1.weight')[0],
    )


def read_vit_llama_settings(state_dict: Mapping[str, Tensor]) -> dict:
    """Read ViTLLaMA's other arguments off the shapes of converted weights.

    Images are taken to be square, and the heads of LLaMA, which leave no trace, to be one.

    Raises:
        CheckpointError: a weight that they are read from is missing.
    """
    patches = _shape(state_dict, 'backbone.pos_embed.weight')[1] - 1
    _, in_channels, patch_size, _ = _shape(state_dict, 'backbone.patch_embed.proj.weight')
    width = _shape(state_dict, 'backbone.llama_in.weight')[0]
    stem = 'backbone.llama.layers.'
    blocks = [int(n.removeprefix(stem).split('.')[0]) for n in state_dict if n.startswith(stem)]
    w1 = state_dict.get(f'{stem}0.feed_forward.w1.weight')
    return dict(
        img_size=max(isqrt(patches), 1) * patch_size,
        patch_size=patch_size,
        in_channels=in_channels,
        llama=dict(
            embed_dims=width,
            num_heads=1,
            feedforward_channels=1 if w1 is None else w1.shape[0],
            num_blocks=max(blocks, default=0) + 1,
        ),
    )


def _shape(state_dict: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in state_dict:
        raise CheckpointError(f'{name} is missing: this is not a whole ViT-LLaMA')
    return tuple(state_dict[name].shape)


def _rename(name: str, last: int) -> str | None:
    for pattern, replacement in RENAMES:
        renamed, matches = re.subn(rf'^{pattern}', replacement.format(last=last), name)
        if matches:
            return renamed
    return None
