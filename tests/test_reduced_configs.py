"""Every config trains two iterations at reduced size, its curricula included."""

from copy import deepcopy

import pytest
import torch
from config_reading import CONFIGS
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, DefaultScope
from reduced_configs import fake_batch, reduce

CURRICULA = ('mmvitlin.TokenExpansionHook', 'mmvitlin.EfficientTrainHook')

pytestmark = pytest.mark.slow


@pytest.mark.parametrize('path', CONFIGS)
def test_a_config_trains_two_iterations(path, tmp_path):
    torch.manual_seed(0)
    cfg = reduce(path, tmp_path)
    MessageHub.get_current_instance().update_info('max_iters', 2)  # averages of MoCo and BYOL
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        for settings in cfg.get('custom_hooks') or []:
            if settings.type in CURRICULA:
                hook = HOOKS.build(settings)
                hook.attach(model)
                hook.set_epoch(0)
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        wrapper.initialize_count_status(model, 0, 2)
        before, batch = deepcopy(model.state_dict()), fake_batch(cfg)
        losses = [model.train().train_step(batch, wrapper)['loss'] for _ in range(2)]
    assert all(loss.isfinite() for loss in losses)
    learning = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    after = model.state_dict()
    moved = [name for name in learning if not after[name].equal(before[name])]
    assert len(moved) > 0.8 * len(learning)
