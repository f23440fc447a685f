"""All that touches private attributes of hosts, with the versions that it was tried on."""

from typing import TYPE_CHECKING

from mmengine.runner import checkpoint as mmengine_checkpoint

if TYPE_CHECKING:
    from mmengine.infer import BaseInferencer

# mmengine 0.10.7: renames the weights of mmcls's model zoo, which its loader of 'mmcls://' does.
process_mmcls_checkpoint = mmengine_checkpoint._process_mmcls_checkpoint


def set_dataset_meta(inferencer: 'BaseInferencer', checkpoint: dict) -> None:
    """Give mmpretrain's inferencer the classes in a checkpoint, as its own loading does.

    mmpretrain 1.2.0: models keep them in `_dataset_meta`, and nothing public sets that.

    Args:
        inferencer: an ImageClassificationInferencer.
        checkpoint: what the file holds; without classes, the config's data set has named them.
    """
    meta = checkpoint.get('meta') or {}
    if 'dataset_meta' in meta:
        inferencer.model._dataset_meta = meta['dataset_meta']
        inferencer.classes = meta['dataset_meta'].get('classes')
