"""ShardedStrategy trains over two processes, and its checkpoints are those of the whole model."""

import os
from copy import deepcopy

import pytest
import torch
import torch.distributed as dist
from fresh_python import SERVER
from mmengine.config import Config
from mmengine.registry import MODELS, RUNNERS, DefaultScope
from same_states import assert_same
from tiny_run import ROOT, tiny_config
from torch import nn

from mmvitlin.checkpoints.safe_load import load_checkpoint
from mmvitlin.engine.run_settings import set_exact_resume
from mmvitlin.engine.strategies import ShardedStrategy
from mmvitlin.errors import ConfigError

TINY_LLAMA = dict(embed_dims=16, num_heads=2, feedforward_channels=16, checkpoint='random')
VIT_LLAMA = dict(
    _delete_=True,
    type='mmvitlin.ViTLLaMA',
    arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16),
    img_size=32,
    patch_size=8,
    out_type='featmap',
    llama=TINY_LLAMA | dict(save=True),
)
RUNS = {'whole': None, 'resumed': 'whole/epoch_1.pth'}  # name -> checkpoint to resume from
OPTIONS: dict[str, dict] = {'L2ViT': {}, 'ViT-LLaMA': dict(model__backbone=VIT_LLAMA)}


def train(rank: int, folder: str) -> None:
    """Train two epochs as one of two processes, then resume after the first; for each model."""
    os.environ |= dict(LOCAL_RANK=str(rank), GLOO_SOCKET_IFNAME='lo')
    store = dist.FileStore(f'{folder}/store', 2)
    dist.init_process_group('gloo', store=store, rank=rank, world_size=2)
    strategy = Config.fromfile(ROOT / 'configs/_base_/strategies/fsdp.py').to_dict()
    for name, options in OPTIONS.items():
        for run, checkpoint in RUNS.items():
            cfg = tiny_config(f'{folder}/{name}/{run}', custom_hooks=None, **options)
            cfg.merge_from_dict(strategy)
            cfg.train_cfg.max_epochs = 2
            cfg.update(launcher='pytorch', val_cfg=None, val_dataloader=None, val_evaluator=None)
            if checkpoint is not None:
                cfg.update(resume=True, load_from=f'{folder}/{name}/{checkpoint}')
            set_exact_resume(cfg)
            RUNNERS.build(cfg).train()
    dist.destroy_process_group()


@pytest.mark.slow
def test_a_sharded_training_resumes_bit_for_bit_and_saves_the_whole_model(tmp_path):
    processes = [SERVER.Process(target=train, args=(rank, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    for name, options in OPTIONS.items():
        whole, resumed = (load_checkpoint(tmp_path / name / run / 'epoch_2.pth') for run in RUNS)
        for part in ('state_dict', 'optimizer', 'random_states'):
            assert_same(whole[part], resumed[part])
        cfg = tiny_config(tmp_path, **options)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
        drawn = deepcopy(model.state_dict())
        model.load_state_dict(whole['state_dict'])
        assert not torch.equal(model.head.fc.weight, drawn['head.fc.weight'])
        for weight in filter(lambda weight: '.llama.' in weight, drawn):
            assert torch.equal(whole['state_dict'][weight], drawn[weight])


def test_classes_to_wrap_are_of_the_model(tmp_path):
    strategy = ShardedStrategy(wrap=['NoLayer'], work_dir=str(tmp_path))
    with pytest.raises(ConfigError, match=r"wrap=\['NoLayer'\] names no class"):
        strategy.build_model(nn.Linear(2, 2))
