"""ViT-small tested on ImageNet-R. The paper reports 42.1 top-1.

tools/dist_test.sh configs/robustness/vit-small_imagenet-r.py CHECKPOINT 4
"""

_base_ = [
    '../vit_llama/vit-small_4xb256-300e_in1k.py',
    '../_base_/evaluation/imagenet-r.py',
]

test_dataloader = dict(dataset=dict(_delete_=True, **_base_.robustness_data))
test_evaluator = _base_.robustness_evaluator
