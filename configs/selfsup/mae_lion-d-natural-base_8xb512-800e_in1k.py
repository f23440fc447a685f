"""LION-D♮-base as a masked autoencoder on ImageNet-1k, 800 epochs. No paper reports it.

tools/dist_train.sh configs/selfsup/mae_lion-d-natural-base_8xb512-800e_in1k.py 8
"""

_base_ = './mae_lion-d-natural-base_8xb512-300e_in1k.py'

train_cfg = dict(max_epochs=800)
