# DeiT's 300 epochs with a linear warm-up for 20 of them; the cosine runs from the first epoch on.
_base_ = './imagenet_adamw_deit_300e.py'

param_scheduler = dict(warmup=20)
