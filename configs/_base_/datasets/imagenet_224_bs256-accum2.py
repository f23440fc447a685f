# ImageNet-1k at 224 x 224, 256 images a GPU, in epochs of whole optimizer steps of two iterations.
_base_ = './imagenet_224.py'

train_dataloader = dict(
    batch_size=256,
    sampler=dict(
        _delete_=True,
        type='mmvitlin.WholeStepSampler',
        sampler=dict(type='DefaultSampler', shuffle=True),
        step_size=512,  # images of a process in an optimizer step: 256 x 2
    ),
)
val_dataloader = dict(batch_size=256)
test_dataloader = val_dataloader
