"""Features of ViTLLaMA only; those of all backbones are in test_backbones.py."""

import copy

import pytest
import torch
from goldens import load_golden, relative_error
from llama_files import LAYOUTS, LLAMA, llama_weights
from mmengine.hooks import Hook
from mmengine.runner import Runner
from test_models.test_backbones.cases import VIT_LLAMA
from tiny_run import tiny_config
from torch import nn

from mmvitlin.checkpoints.converters.vit_llama import convert_vit_llama
from mmvitlin.engine.launcher import check_resumed
from mmvitlin.errors import CheckpointError
from mmvitlin.models import ViTLLaMA

GOLDEN = load_golden('vit_llama')
BLOCK = [name for name in GOLDEN.weights if name.startswith('llama.layers.')]


def golden_classifier(**llama):
    from mmpretrain.models import ImageClassifier

    settings = GOLDEN.kwargs
    backbone = dict(
        type='mmvitlin.ViTLLaMA',
        arch=dict(
            embed_dims=settings['embed_dim'],
            num_layers=settings['depth'],
            num_heads=settings['num_heads'],
            feedforward_channels=settings['mlp_ratio'] * settings['embed_dim'],
        ),
        img_size=settings['img_size'],
        patch_size=settings['patch_size'],
        llama=LLAMA | dict(dtype='float64') | llama,
    )
    head = dict(type='LinearClsHead', num_classes=settings['num_classes'], in_channels=48)
    return ImageClassifier(backbone=backbone, head=head).double()


# The original's numbers


@pytest.mark.usefixtures('mmpretrain_scope')
@pytest.mark.parametrize('dtype', ['float64', 'float32'])
def test_classifier_gives_the_originals_numbers(dtype):
    model = golden_classifier(dtype=dtype)
    model.load_state_dict(convert_vit_llama(GOLDEN.weights), strict=True)
    model.eval()
    with torch.no_grad():
        outputs = {'logits': model(GOLDEN.images, mode='tensor')}
        model.backbone.format_output = lambda x, tokens: x
        (outputs['tokens'],) = model.backbone(GOLDEN.images)
    assert outputs.keys() == GOLDEN.outputs.keys()
    for key, expected in GOLDEN.outputs.items():
        assert relative_error(outputs[key], expected) <= 1e-5, key


def test_converter_takes_a_checkpoint_without_the_block_and_one_of_ours():
    without = {name: value for name, value in GOLDEN.weights.items() if name not in BLOCK}
    converted = convert_vit_llama(without)
    assert not any('backbone.llama.' in name for name in converted)
    assert convert_vit_llama(converted) == converted


def test_converter_refuses_what_the_original_does_not_have():
    with pytest.raises(CheckpointError, match=r'such as layers\.0\.weight'):
        convert_vit_llama(GOLDEN.weights | {'layers.0.weight': torch.zeros(1)})
    trained = GOLDEN.weights['llama.norm.weight'] + 0.1
    with pytest.raises(CheckpointError, match=r'llama\.norm\.weight is not one everywhere'):
        convert_vit_llama(GOLDEN.weights | {'llama.norm.weight': trained})


# Structure


@pytest.mark.parametrize(
    ('arch', 'millions'), [('tiny', 7.290280), ('small', 25.196392), ('base', 92.859112)]
)
@pytest.mark.parametrize('patch_size', [16, 32])
def test_parameters_of_the_classifier_are_as_many_as_published(arch, millions, patch_size):
    """With patches of 16, 7.3, 25.2 and 92.9M, and beside them LLaMA's 202.4M."""
    with torch.device('meta'):
        model = ViTLLaMA(arch, patch_size=patch_size)
        head = nn.Linear(model.embed_dims, 1000)
    count = sum(p.numel() for module in (model, head) for p in module.parameters())
    patches = (224 // patch_size) ** 2
    larger = (patch_size**2 - 16**2) * 3 + patches - 196  # of a patch, and fewer positions
    assert count == round(millions * 1e6) + larger * model.embed_dims
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.llama.num_weights == 202_383_360


def test_the_block_is_behind_the_last_layer_alone():
    without = VIT_LLAMA.build(out_indices=(0, 1))
    assert not any('llama' in name for name, _ in without.named_modules())
    model = VIT_LLAMA.build(out_indices=(0, 2), out_type='raw')
    model.eval()
    with torch.no_grad():
        before = model(VIT_LLAMA.images())
        model.llama_out.weight.mul_(-1)
        after = model(VIT_LLAMA.images())
    assert torch.equal(after[0], before[0])
    assert relative_error(after[1], before[1]) > 1


def test_layers_of_llama_at_rest_leave_the_way_around_them_to_learn():
    model = VIT_LLAMA.build(frozen_stages=3)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        'llama_in.weight',
        'llama_out.weight',
    }


def test_copies_share_the_storage_of_the_block_and_nothing_else():
    model = VIT_LLAMA.build()
    model.llama.prepare()
    copied = copy.deepcopy(model)

    def storages(module):
        (block,) = module.llama._weights.blocks
        return {name: weight.data_ptr() for name, weight in block.items()}

    assert storages(copied) == storages(model)
    for own, other in zip(copied.parameters(), model.parameters(), strict=True):
        assert own.data_ptr() != other.data_ptr()


def test_attention_is_softmax_attention_everywhere(monkeypatch):
    calls = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def counting(q, k, v):
        calls.append(q.shape)
        return fused(q, k, v)

    monkeypatch.setattr(torch.nn.functional, 'scaled_dot_product_attention', counting)
    images = VIT_LLAMA.images(32, 32)
    VIT_LLAMA.build()(images)
    assert [tuple(shape) for shape in calls] == [(2, 2, 17, 12)] * 3 + [(2, 4, 17, 8)]


# Starting from another checkpoint


@pytest.mark.parametrize('save', [False, True])
@pytest.mark.parametrize('held', [False, True])
def test_a_pretrained_checkpoint_brings_the_block_if_it_has_it(held, save, tmp_path):
    file = str(LAYOUTS['consolidated.00.pth'](tmp_path, llama_weights()))
    settings = VIT_LLAMA.kwargs | dict(llama=LLAMA | dict(checkpoint=file, save=held))
    source = ViTLLaMA(**settings)
    source.init_weights()
    torch.save(source.state_dict(), tmp_path / 'backbone.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth'))
    named = '/nowhere.pth' if held else file
    model = ViTLLaMA(
        **settings | dict(llama=LLAMA | dict(checkpoint=named, save=save), init_cfg=pretrained)
    )
    model.init_weights()
    assert torch.equal(model(VIT_LLAMA.images())[0], source(VIT_LLAMA.images())[0])


def test_a_pretrained_block_of_another_size_is_refused(tmp_path):
    source = VIT_LLAMA.build(llama=LLAMA | dict(checkpoint='random', save=True))
    source.llama.prepare()
    weights = source.state_dict()
    weights['llama.layers.0.ffn_norm.weight'] = torch.ones(3)
    torch.save(weights, tmp_path / 'backbone.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth'))
    model = VIT_LLAMA.build(llama=LLAMA | dict(checkpoint='random'), init_cfg=pretrained)
    with pytest.raises(CheckpointError, match=r'block of LLaMA does not fit: .*ffn_norm\.weight'):
        model.init_weights()


def test_the_block_is_not_the_memory_that_it_was_loaded_from():
    source = VIT_LLAMA.build(llama=LLAMA | dict(checkpoint='random', save=True))
    source.llama.prepare()
    weights = {name: value.clone() for name, value in source.state_dict().items()}
    model = VIT_LLAMA.backbone(**VIT_LLAMA.kwargs | dict(llama=LLAMA))
    model.load_state_dict(weights)
    for value in weights.values():
        value.zero_()
    assert model.llama._weights.equal(source.llama._weights.blocks)


# In a run


class Blocks(Hook):
    """Hook that stores the block before training."""

    def before_train(self, runner):
        self.before = copy.deepcopy(runner.model.backbone.llama._weights.blocks)


def config(work_dir, llama, **options):
    cfg = tiny_config(work_dir, **options)
    cfg.model.backbone = dict(
        type='mmvitlin.ViTLLaMA',
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        img_size=32,
        patch_size=16,
        drop_path_rate=0.1,
        llama=LLAMA | llama,
    )
    cfg.model.neck = None
    cfg.model.head.in_channels = 16
    return cfg


def finish(cfg, check=True):
    """Run and return the last checkpoint."""
    runner = Runner.from_cfg(cfg)
    if check:  # as tools/train.py does, and the hosts' do not
        check_resumed(runner)
    runner.train()
    return torch.load(f'{cfg.work_dir}/epoch_3.pth', weights_only=True)


@pytest.fixture
def llama_file(tmp_path):
    return str(LAYOUTS['consolidated.00.pth'](tmp_path, llama_weights()))


@pytest.mark.slow
@pytest.mark.parametrize('save', [False, True], ids=['without', 'with'])
def test_training_leaves_the_block_alone_and_resumes_bit_for_bit(save, llama_file, tmp_path):
    """With an average of the weights; where the checkpoint holds the block, without its file."""
    straight = tmp_path / 'straight'
    keep = dict(default_hooks__checkpoint__max_keep_ckpts=-1)
    runner = Runner.from_cfg(config(straight, dict(checkpoint=llama_file, save=save), **keep))
    blocks = Blocks()
    runner.register_hook(blocks)
    runner.train()
    after = runner.model.backbone.llama._weights.blocks
    assert all(torch.equal(after[0][name], value) for name, value in blocks.before[0].items())

    expected = torch.load(straight / 'epoch_3.pth', weights_only=True)
    held = {name for name in expected['state_dict'] if '.llama.' in name}
    assert len(held) == (9 if save else 0)
    assert not any('.llama.' in name for name in expected['ema_state_dict'])
    trained = len(list(runner.model.parameters()))
    assert len(expected['optimizer']['param_groups']) == trained
    assert len(expected['optimizer']['state']) == trained

    for check in (True, False):
        cfg = config(
            tmp_path / f'resumed, {check}',
            dict(checkpoint='/nowhere.pth' if save else llama_file, save=save),
            resume=True,
            load_from=str(straight / 'epoch_1.pth'),
        )
        resumed = finish(cfg, check)
        for key in ('state_dict', 'ema_state_dict'):
            assert resumed[key].keys() == expected[key].keys()
            for name, value in expected[key].items():
                assert torch.equal(resumed[key][name], value), name


@pytest.mark.parametrize(
    ('file', 'message'),
    [
        (None, 'has no weights: there is no checkpoint to take it from'),
        ('/nowhere.pth', r'there is no file of LLaMA at /nowhere\.pth'),
    ],
)
def test_training_from_scratch_without_a_file_is_an_error(file, message, tmp_path):
    with pytest.raises(CheckpointError, match=f'{message}.*come from Meta'):
        finish(config(tmp_path, dict(checkpoint=file)))


@pytest.mark.slow
def test_resuming_a_checkpoint_without_the_block_needs_the_file(llama_file, tmp_path):
    options = dict(train_cfg__max_epochs=1)
    Runner.from_cfg(config(tmp_path, dict(checkpoint=llama_file), **options)).train()
    with pytest.raises(CheckpointError, match='the checkpoint was saved without it'):
        finish(config(tmp_path, dict(checkpoint=None), resume=True, experiment_name='resumed'))


@pytest.mark.slow
def test_testing_takes_no_file_where_the_checkpoint_holds_the_block(llama_file, tmp_path):
    options = dict(train_cfg__max_epochs=1, custom_hooks=[])
    runner = Runner.from_cfg(config(tmp_path, dict(checkpoint=llama_file, save=True), **options))
    runner.train()
    expected = runner.val()
    for llama in (dict(checkpoint=None), dict(checkpoint='/nowhere.pth')):
        cfg = config(tmp_path, llama, experiment_name=f'test {llama}', **options)
        cfg.load_from = str(tmp_path / 'epoch_1.pth')
        assert Runner.from_cfg(cfg).test() == expected
