"""Multiply-adds are those that one counts by hand."""

import runpy

import pytest
import tiny_models
import torch
import torch.nn.functional as F
from mmengine.config import Config
from tiny_run import ROOT
from torch import nn

from mmvitlin.engine import cost
from mmvitlin.engine.cost import count_config, count_flops
from mmvitlin.engine.hosts import image_shape
from mmvitlin.layers.linear_attention import LinearAttention
from mmvitlin.layers.onednn_linear import OneDNNLinear
from mmvitlin.layers.window_attention import WindowAttention
from mmvitlin.models import L2ViT

C, HEADS = 12, 3
D = C // HEADS


@pytest.fixture(params=['cpu', 'meta'])
def device(request):
    with torch.device(request.param):
        yield request.param


def test_softmax_attention_counts_both_of_its_products(device):
    """Queries and keys of different lengths; fused, as a CPU computes it, or not."""

    class Attention(nn.Module):
        def forward(self, q, k, v):
            return F.scaled_dot_product_attention(q, k, v)

    q, k, v = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 4)
    assert count_flops(Attention(), q, k, v).total == 2 * 3 * (5 * 4 * 7 + 5 * 7 * 4)


def test_a_torch_without_fused_attention_on_cpus_is_counted_without_its_handle(monkeypatch):
    """As torch 2.1."""
    assert len(cost.HANDLES) == hasattr(
        torch.ops.aten, '_scaled_dot_product_flash_attention_for_cpu'
    )
    monkeypatch.setattr(torch.ops, 'aten', object())
    assert runpy.run_path(cost.__file__)['HANDLES'] == {}


def test_window_attention_counts_its_windows_and_their_padding(device):
    flops = count_flops(WindowAttention(C, HEADS, window_size=4), torch.randn(2, 7, 9, C))
    windows, tokens = 2 * 2 * 3, 16
    assert flops.total == windows * tokens * (4 * C * C + HEADS * 2 * tokens * D)


def test_linear_attention_counts_its_three_products(device):
    tokens = 2 * 7 * 9
    flops = count_flops(LinearAttention(C, HEADS), torch.randn(2, 7, 9, C))
    # k^T v, then q times that and times the sum of k
    assert flops.total == tokens * (4 * C * C + HEADS * (2 * D * D + D))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=['as convolution', 'plain'])
def test_a_linear_layer_counts_once(dtype, device):
    layer = OneDNNLinear(5, 7).to(dtype)
    assert count_flops(layer, torch.randn(2, 3, 5, dtype=dtype)).total == 2 * 3 * 5 * 7


def test_modules_count_what_runs_inside_them_and_uncalled_ones_their_children():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.called = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
            self.uncalled = nn.ModuleDict(dict(one=nn.Linear(4, 5), two=nn.Linear(4, 6)))

        def forward(self, x):
            x = self.called(x)
            return self.uncalled['one'](x), self.uncalled['one'](x), self.uncalled['two'](x)

    flops = count_flops(Model(), torch.randn(1, 3))
    assert flops.by_module == {
        '': 12 + 2 * 20 + 24,
        'called': 12,
        'called.0': 12,
        'called.1': 0,
        'uncalled': 2 * 20 + 24,
        'uncalled.one': 2 * 20,
        'uncalled.two': 24,
    }


@pytest.mark.parametrize(
    ('arch', 'size', 'published'),
    [('tiny', 224, 4.7), ('small', 224, 9.0), ('base', 224, 15.9), ('base', 384, 47.5)],
)
def test_l2vit_counts_what_its_paper_says(arch, size, published):
    with torch.device('meta'):
        model = L2ViT(arch, window_size=7 if size == 224 else 12)
        flops = count_flops(model, torch.zeros(1, 3, size, size)).total
    assert flops / 1e9 == pytest.approx(published, rel=0.02)


def test_stochastic_depth_changes_no_count():
    arch = dict(embed_dims=(8,) * 4, depths=(1,) * 4, num_heads=(1,) * 4)
    totals = {
        count_flops(L2ViT(arch, drop_path_rate=r), torch.randn(1, 3, 32, 32)).total
        for r in (0.0, 0.9)
    }
    assert len(totals) == 1


def test_a_two_stage_detector_counts_what_it_computes():
    """On the meta device as with real tensors and as many proposals."""
    cfg = Config(dict(default_scope='mmdet', model=tiny_models.mask_rcnn()))
    number = cfg.model.test_cfg.rpn.max_per_img = 40
    counted = count_config(cfg, (64, 96)).flops.by_module

    model = tiny_models.build('mmdet')
    with torch.no_grad():
        maps = model.extract_feat(torch.randn(1, 3, 64, 96))
    rois = torch.tensor([[0.0, 4, 4, 60, 60]]).repeat(number, 1)
    pooled = model.roi_head.bbox_roi_extractor(maps[:4], rois)
    assert counted['roi_head.bbox_head'] == count_flops(model.roi_head.bbox_head, pooled).total
    pooled = model.roi_head.mask_roi_extractor(maps[:4], rois)
    assert counted['roi_head.mask_head'] == count_flops(model.roi_head.mask_head, pooled).total
    assert counted['rpn_head'] == count_flops(model.rpn_head, maps).total
    parts = ('backbone', 'neck', 'rpn_head', 'roi_head')
    assert counted[''] == sum(counted[part] for part in parts)


@pytest.mark.parametrize(
    ('config', 'shape'),
    [
        ('l2vit/l2vit-tiny_8xb128-accum4-300e_in1k', (224, 224)),
        ('l2vit/l2vit-base_in21k-pre_8xb64-accum2-30e_in1k-384px', (384, 384)),
        ('l2vit/mask-rcnn_l2vit-tiny_fpn_1x_coco', (800, 1280)),
        ('l2vit/l2vit-tiny_upernet_8xb2-160k_ade20k-512x512', (512, 512)),
        ('quickstart/l2vit-micro_1xb64_digits', (32, 32)),
        ('quickstart/retinanet_l2vit-micro_fpn_digit-scenes', (128, 128)),
        ('quickstart/l2vit-micro_upernet_digit-scenes', (128, 128)),
    ],
)
def test_the_image_is_of_the_size_that_the_config_tests_on(config, shape):
    assert image_shape(Config.fromfile(ROOT / f'configs/{config}.py')) == shape


def test_a_frozen_llama_counts_without_its_file():
    cfg = Config.fromfile(ROOT / 'configs/vit_llama/vit-llama-tiny_4xb256-300e_in1k.py')
    counted = count_config(cfg)
    assert counted.frozen_outside == pytest.approx(202.4e6, rel=1e-3)
    assert counted.flops.by_module['backbone.llama'] > 197 * counted.frozen_outside
    assert counted.parameters < 8e6
