"""Detect with LION and a simple feature pyramid."""

# %% [markdown]
# # Detect with LION and a pyramid
#
# A plain vision transformer returns one map. `mmvitlin.SimpleFeaturePyramid` makes the maps of
# several strides of it that detectors want. The scenes are painted from real handwritten digits, so
# that nothing has to be downloaded. With `--small` the script takes seconds, and finds nothing.

# %%
import subprocess
import sys
from pathlib import Path

import matplotlib
import mmengine
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmengine.config import Config

from mmvitlin.datasets import DigitScenes

matplotlib.use('Agg')
SMALL = '--small' in sys.argv
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'work_dirs/tutorials/detect'
FOLDER.mkdir(parents=True, exist_ok=True)


def run(tool: str, *arguments: object) -> None:
    """Run a tool as on the command line."""
    command = [sys.executable, ROOT / 'tools' / tool, *arguments]
    subprocess.run([str(part) for part in command], cwd=ROOT, check=True)


# %% [markdown]
# ## The config
#
# It inherits a RetinaNet with L2ViT, and replaces backbone and neck. `_delete_=True` keeps the
# arguments of the old ones away. The map of LION has stride 8, the pyramid strides 8, 16 and 32.

# %%
scenes = 16 if SMALL else 600
config = FOLDER / 'retinanet_lion_sfp_digit-scenes.py'
config.write_text(f"""_base_ = '{ROOT}/configs/quickstart/retinanet_l2vit-micro_fpn_digit-scenes.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmvitlin.LION',
        arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=192),
        img_size=128,
        patch_size=8,
        order='S',
        pos_emb=True,
        out_type='featmap',
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.1),
    ),
    neck=dict(
        _delete_=True,
        type='mmvitlin.SimpleFeaturePyramid',
        in_channels=96,
        out_channels=64,
        scale_factors=(1, 0.5),
        num_outs=3,
        norm_cfg=dict(type='BN'),
    ),
)
train_dataloader = dict(dataset=dict(num_scenes={scenes}))
val_dataloader = dict(dataset=dict(num_scenes={16 if SMALL else 100}))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs={1 if SMALL else 4})
randomness = dict(seed=0)
""")

# %% [markdown]
# ## Train and test

# %%
work_dir = FOLDER / 'run'
run('train.py', config, '--work-dir', work_dir, '--overwrite')
checkpoint = (work_dir / 'last_checkpoint').read_text()
found = FOLDER / 'predictions.pkl'
run('test.py', config, checkpoint, '--work-dir', FOLDER / 'test', '--out', found)

# %% [markdown]
# ## Look at the detections

# %%
settings = dict(Config.fromfile(config).test_dataloader.dataset, pipeline=(), cache_dir=None)
settings.pop('type')
scenes = DigitScenes(**settings)
detections = {sample['img_id']: sample['pred_instances'] for sample in mmengine.load(found)}
figure = Figure(figsize=(9, 4.8), layout='constrained')
for axis, scene in zip(figure.subplots(2, 4).flat, scenes):
    axis.imshow(scene['img'][..., ::-1])
    instances = detections[scene['img_id']]
    for box, label, score in zip(*(instances[key] for key in ('bboxes', 'labels', 'scores'))):
        if score < 0.4:
            continue
        left, top, right, bottom = box.tolist()
        axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color='w'))
        axis.text(left, top, f'{int(label)} {score:.2f}', color='w', size=7, va='bottom')
    axis.axis('off')
figure.savefig(FOLDER / 'detect.png', dpi=100)

# %% [markdown]
# The same two blocks, backbone and neck, go into any detector or segmentor of the hosts:
# [Mask R-CNN on COCO](../../configs/lion/mask-rcnn_lion-d-natural-small_sfp_1x_coco.py),
# [UPerNet on ADE20K](../../configs/lion/lion-d-natural-small_upernet_8xb2-160k_ade20k-512x512.py).
