"""ViT-small tested on ImageNet-Sketch. The paper reports 28.9 top-1.

tools/dist_test.sh configs/robustness/vit-small_imagenet-sketch.py CHECKPOINT 4
"""

_base_ = [
    '../vit_llama/vit-small_4xb256-300e_in1k.py',
    '../_base_/evaluation/imagenet-sketch.py',
]

test_dataloader = dict(dataset=dict(_delete_=True, **_base_.robustness_data))
test_evaluator = _base_.robustness_evaluator
