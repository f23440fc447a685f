"""Names in the checkpoints of the original L2ViT and what they are called here."""

import re

# (pattern, replacement), the first that matches wins. Odd blocks of a stage are linear global ones.
RENAMES = (
    (r'downsample_layers\.0\.proj\.proj\.0\.', r'backbone.downsamples.0.conv1.'),
    (r'downsample_layers\.0\.proj\.proj\.1\.', r'backbone.downsamples.0.bn1.'),
    (r'downsample_layers\.0\.proj\.proj\.3\.', r'backbone.downsamples.0.conv2.'),
    (r'downsample_layers\.0\.proj\.proj\.4\.', r'backbone.downsamples.0.bn2.'),
    (r'downsample_layers\.(\d+)\.proj\.', r'backbone.downsamples.\1.conv.'),
    (r'downsample_layers\.(\d+)\.norm\.', r'backbone.downsamples.\1.norm.'),
    (r'stages\.(\d+)\.(\d*[13579])\.cpe\.0\.proj\.', r'backbone.stages.\1.\2.cpe.conv.'),
    (r'stages\.(\d+)\.(\d+)\.cpe\.0\.proj\.', r'backbone.stages.\1.\2.cpe1.conv.'),
    (r'stages\.(\d+)\.(\d+)\.cpe\.1\.proj\.', r'backbone.stages.\1.\2.cpe2.conv.'),
    (r'stages\.(\d+)\.(\d+)\.local_mp\.', r'backbone.stages.\1.\2.concentration.'),
    (r'stages\.', r'backbone.stages.'),
    (r'norm\.', r'backbone.norm3.'),
    (r'head\.', r'head.fc.'),
)


def convert_l2vit(state_dict: dict) -> dict:
    """Rename the original classifier's weights to those of mmpretrain's ImageClassifier.

    Args:
        state_dict: the original's names -> tensors.

    Returns:
        Our names ('backbone.' and 'head.fc.') -> the same tensors.

    Raises:
        ValueError: a name that no checkpoint of the original's classifier has.
    """
    return {_rename(name): tensor for name, tensor in state_dict.items()}


def _rename(name: str) -> str:
    for pattern, replacement in RENAMES:
        renamed, matches = re.subn(rf'^{pattern}', replacement, name)
        if matches:
            return renamed
    raise ValueError(f'{name!r} is not a name in a checkpoint of the original L2ViT classifier')
