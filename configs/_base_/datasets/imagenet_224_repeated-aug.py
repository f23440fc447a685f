# ImageNet-1k at 224 x 224 as DeiT trains on it: 256 images a GPU, every image three times an epoch,
# each time augmented anew, and a third of the images not at all (repeated augmentation).
_base_ = './imagenet_224.py'

train_dataloader = dict(
    batch_size=256, sampler=dict(_delete_=True, type='RepeatAugSampler', num_repeats=3)
)
val_dataloader = dict(batch_size=256)
test_dataloader = val_dataloader
