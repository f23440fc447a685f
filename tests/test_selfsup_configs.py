"""Pre-training follows mmpretrain's own configs, and fine-tuning starts from its checkpoints."""

from pathlib import Path

import mmpretrain
import pytest
from config_reading import learning_rates, load, steps
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from reduced_configs import reduce

from mmvitlin.apis import get_inferencer, list_models

HOSTS = Path(mmpretrain.__file__).parent / '.mim/configs'
MAE, SIMMIM = 'mae/mae_vit-base-p16_8xb512-amp-coslr', 'simmim/simmim_swin-base-w6'
PRE_TRAINING = {
    'mae_lion-d-natural-base_8xb512-300e_in1k': f'{MAE}-300e_in1k',
    'mae_lion-d-natural-base_8xb512-800e_in1k': f'{MAE}-800e_in1k',
    'simmim_l2vit-base_8xb256-100e_in1k-192px': f'{SIMMIM}_8xb256-amp-coslr-100e_in1k-192px',
    'simmim_l2vit-base_8xb256-800e_in1k-192px': f'{SIMMIM}_16xb128-amp-coslr-800e_in1k-192px',
    'mocov3_lion-d-natural-small_16xb256-300e_in1k': (
        'mocov3/mocov3_vit-small-p16_16xb256-amp-coslr-300e_in1k'
    ),
}
FINE_TUNING = {
    'lion-d-natural-base_mae-pre_8xb128-100e_in1k': (
        'mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k'
    ),
    'l2vit-base_simmim-pre_8xb256-100e_in1k': (
        'simmim/benchmarks/swin-base-w7_8xb256-coslr-100e_in1k'
    ),
}
STEPS = ('RandomResizedCrop', 'RandomFlip', 'SimMIMMaskGenerator', 'ColorJitter', 'RandomGrayscale')

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(('name', 'hosts'), {**PRE_TRAINING, **FINE_TUNING}.items())
def test_recipes_are_mmpretrains(name, hosts):
    ours, theirs = load(f'configs/selfsup/{name}.py'), Config.fromfile(HOSTS / f'{hosts}.py')
    epochs = ours.train_cfg.max_epochs
    assert epochs == theirs.train_cfg.max_epochs
    found, expected = learning_rates(ours, epochs, 2), learning_rates(theirs, epochs, 2)
    assert found == pytest.approx(expected, abs=1e-3 * max(expected))
    found, expected = ours.optim_wrapper, theirs.optim_wrapper
    assert found.get('clip_grad') == expected.get('clip_grad')
    for key in ('type', 'lr', 'weight_decay'):
        assert found.optimizer[key] == pytest.approx(expected.optimizer[key])
    betas = (0.9, 0.999)  # torch's
    assert found.optimizer.get('betas', betas) == expected.optimizer.get('betas', betas)
    rate = 'layer_decay_rate'
    paramwise = theirs.optim_wrapper.get('paramwise_cfg', {})
    assert ours.optim_wrapper.get('paramwise_cfg', {}).get(rate) == paramwise.get(rate)
    for step in STEPS:
        assert steps(ours, step) == steps(theirs, step)
    if name in PRE_TRAINING:
        batch = ours.auto_scale_lr.base_batch_size
        assert batch == theirs.auto_scale_lr.base_batch_size
        assert ours.model.type == theirs.model.type
        assert ours.model.head == theirs.model.head


PAIRS = [
    (
        'selfsup/mae_lion-d-natural-base_8xb512-300e_in1k',
        'selfsup/lion-d-natural-base_mae-pre_8xb128-100e_in1k',
    ),
    (
        'selfsup/simmim_l2vit-base_8xb256-100e_in1k-192px',
        'selfsup/l2vit-base_simmim-pre_8xb256-100e_in1k',
    ),
    (
        'quickstart/mae_lion-d-natural-micro_1xb64_digits',
        'quickstart/lion-d-natural-micro_1xb64_digits',
    ),
    ('quickstart/simmim_l2vit-micro_1xb64_digits', 'quickstart/l2vit-micro_1xb64_digits'),
]


@pytest.mark.parametrize(('first', 'then'), PAIRS)
def test_a_pre_trained_encoder_has_all_weights_of_the_classifiers_backbone(first, then, tmp_path):
    encoder, classifier = (
        MODELS.build(reduce(f'configs/{name}.py', tmp_path).model.backbone)
        for name in (first, then)
    )
    missing, unexpected = classifier.load_state_dict(encoder.state_dict(), strict=False)
    assert missing == [] and set(unexpected) <= {'mask_token'}


def test_tokens_norms_and_biases_do_not_decay(tmp_path):
    for name in (
        'mae_lion-d-natural-base_8xb512-300e_in1k',
        'simmim_l2vit-base_8xb256-100e_in1k-192px',
    ):
        cfg = reduce(f'configs/selfsup/{name}.py', tmp_path)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model = MODELS.build(cfg.model)
        groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
        decaying = {id(p) for group in groups if group['weight_decay'] for p in group['params']}
        names = {n for n, p in model.named_parameters() if id(p) in decaying}
        assert names and not any('mask_token' in n or 'cls_token' in n for n in names)
        assert not any(n.endswith('.bias') or '.norm' in n for n in names)


def test_pre_training_is_listed_by_its_task_and_predicts_nothing():
    name = 'mae_lion-d-natural-micro_1xb64_digits'
    assert name in list_models(task='Self-Supervised Learning')
    with pytest.raises(ValueError, match=f'{name} is for pre-training and predicts nothing'):
        get_inferencer(name)
