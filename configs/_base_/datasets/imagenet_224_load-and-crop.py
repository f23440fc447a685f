# imagenet_224.py with JPEG files decoded by libjpeg-turbo, as small as each crop allows. Run
# `pip install simplejpeg`, and put this file into the `_base_` of a config in place of
# imagenet_224.py. Without simplejpeg the host decodes. ImageNetTar takes the same pipeline.
_base_ = './imagenet_224.py'

train_pipeline = [
    dict(type='mmvitlin.LoadAndCrop', crop=_base_.train_pipeline[1]),
    *_base_.train_pipeline[2:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
