# scikit-learn's handwritten digits for pre-training, which reads no labels and validates nothing.
_base_ = './digits.py'

data_preprocessor = dict(
    _delete_=True,
    type='SelfSupDataPreprocessor',
    mean=[127.5] * 3,
    std=[127.5] * 3,
    to_rgb=False,
)
train_dataloader = dict(collate_fn=dict(type='default_collate'))
val_dataloader = None
val_evaluator = None
test_dataloader = None
test_evaluator = None
