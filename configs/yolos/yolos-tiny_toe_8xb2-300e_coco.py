"""YOLOS-tiny on COCO with token expansion, on half of the patches from epoch 5, all from 200.

tools/dist_train.sh configs/yolos/yolos-tiny_toe_8xb2-300e_coco.py 8
"""

_base_ = './yolos-tiny_8xb2-300e_coco.py'

custom_hooks = [dict(type='mmvitlin.TokenExpansionHook', expansion_step=(5, 100, 200))]
