# ImageNet-22k (mmpretrain calls it ImageNet-21k): the 21,841 classes of the autumn 2011 release, at
# 224 x 224, augmented as ImageNet-1k. It has no validation images, so training does not validate.
# To test, hold some out in data/imagenet21k/val, in as many class folders as there are in train/.
_base_ = './imagenet_224.py'

data_preprocessor = dict(num_classes=21841)

data_root = 'data/imagenet21k'
train_dataloader = dict(dataset=dict(type='ImageNet21k', data_root=data_root))
val_dataloader = None
val_evaluator = None
test_dataloader = dict(
    dataset=dict(type='ImageNet21k', data_root=data_root, split='', data_prefix='val')
)
