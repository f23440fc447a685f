# COCO boxes and masks with DETR's augmentation.
_base_ = './coco_multi-scale-crop_detection.py'

with_masks = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
train_pipeline = [_base_.train_pipeline[0], with_masks, *_base_.train_pipeline[2:]]
test_pipeline = [*_base_.test_pipeline[:2], with_masks, _base_.test_pipeline[3]]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
val_evaluator = dict(metric=['bbox', 'segm'])
test_dataloader = val_dataloader
test_evaluator = val_evaluator
