"""YOLOS-small on COCO with token expansion, on half of the patches from epoch 5, all from 100.

tools/dist_train.sh configs/yolos/yolos-small_toe_8xb1-150e_coco.py 8
"""

_base_ = './yolos-small_8xb1-150e_coco.py'

custom_hooks = [dict(type='mmvitlin.TokenExpansionHook', expansion_step=(5, 50, 100))]
