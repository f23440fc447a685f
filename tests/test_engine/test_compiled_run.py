"""The runner's `compile` trains a backbone of ours to the weights of a run without it."""

import pytest
import torch
from mmengine.runner import Runner
from test_models.test_backbones.cases import LION
from tiny_run import tiny_config
from torch._dynamo.utils import counters


def weights_after_training(work_dir, **options):
    cfg = tiny_config(
        work_dir,
        val_dataloader=None,
        val_cfg=None,
        val_evaluator=None,
        custom_hooks=[],
        model__head__in_channels=8,
        train_cfg__max_epochs=1,
        **options,
    )
    # Not Adam, which scales up the rounding of gradients that are 0.
    cfg.optim_wrapper.optimizer = dict(type='SGD', lr=0.1, weight_decay=0.0, fused=True)
    cfg.train_dataloader.collate_fn = dict(type='default_collate')
    sizes = dict(img_size=32, patch_size=8, mask_type='Decay', out_type='featmap')
    cfg.model.backbone = dict(type='LION', **sizes, **LION.compiled)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner.model.state_dict()


@pytest.mark.slow
def test_a_compiled_run_trains_to_the_same_weights(tmp_path):
    expected = weights_after_training(tmp_path / 'eager')
    torch._dynamo.reset()
    counters.clear()
    try:
        found = weights_after_training(tmp_path / 'compiled', compile=dict(backend='aot_eager'))
    finally:
        torch._dynamo.reset()
    assert counters['stats']['unique_graphs'] >= 1
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)
