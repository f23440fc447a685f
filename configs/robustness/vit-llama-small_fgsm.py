"""ViT-LLaMA-small tested on ImageNet-1k's validation images under attack by FGSM (arXiv 1412.6572).

tools/dist_test.sh configs/robustness/vit-llama-small_fgsm.py CHECKPOINT 4

The original's attack: every value of a pixel moves by 1 of 255 at most. Its paper reports no
number.
"""

_base_ = '../vit_llama/vit-llama-small_4xb256-300e_in1k.py'

test_cfg = dict(type='mmvitlin.AdversarialTestLoop', epsilon=1, step_size=1, steps=1)
