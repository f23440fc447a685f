"""Classify your own images, from a converted checkpoint to ONNX."""

# %% [markdown]
# # Classify your own images
#
# From a checkpoint of another code base to a tested classifier of your own images and an ONNX file.
# The images are real handwritten digits here, so that nothing has to be downloaded. With `--small`
# the script takes seconds, and learns accordingly.

# %%
import subprocess
import sys
from pathlib import Path

import matplotlib
import mmengine
import numpy as np
import timm
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

from mmvitlin.checkpoints.safe_load import load_checkpoint
from mmvitlin.checkpoints.state_dicts import load_whole
from mmvitlin.datasets import Digits

matplotlib.use('Agg')
SMALL = '--small' in sys.argv
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'work_dirs/tutorials/classify'
FOLDER.mkdir(parents=True, exist_ok=True)


def run(tool: str, *arguments: object) -> None:
    """Run a tool as on the command line."""
    command = [sys.executable, ROOT / 'tools' / tool, *arguments]
    subprocess.run([str(part) for part in command], cwd=FOLDER, check=True)


# %% [markdown]
# ## The images
#
# One folder per class, 40 images of each of the digits 0 to 4.

# %%
digits = list(Digits('train'))
for label in range(5):
    (FOLDER / f'images/digit{label}').mkdir(parents=True, exist_ok=True)
    scans = [digit['img'] for digit in digits if digit['gt_label'] == label][:40]
    for number, scan in enumerate(scans):
        Image.fromarray(scan).save(FOLDER / f'images/digit{label}/{number:02}.png')

# %% [markdown]
# ## A checkpoint of another code base
#
# Usually you have one. Here it is a small vision transformer of timm, which a plain PyTorch loop
# trains on the *other* digits, 5 to 9.

# %%
torch.manual_seed(0)
original = timm.models.VisionTransformer(
    img_size=32, patch_size=4, embed_dim=96, depth=6, num_heads=3, num_classes=10
)
others = [digit for digit in digits if digit['gt_label'] >= 5]
images = torch.stack([torch.as_tensor(digit['img']).permute(2, 0, 1) for digit in others]).float()
images = torch.nn.functional.interpolate((images - 127.5) / 127.5, size=32, mode='bicubic')
labels = torch.tensor([digit['gt_label'] for digit in others])
optimizer = torch.optim.AdamW(original.parameters(), lr=1e-3)
for _ in range(5 if SMALL else 150):
    batch = torch.randint(len(images), (32,))
    loss = torch.nn.functional.cross_entropy(original(images[batch]), labels[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
torch.save(dict(model=original.state_dict()), FOLDER / 'original.pth')

# %% [markdown]
# One command renames its weights to those of mmpretrain's `VisionTransformer`. `l2vit`, `lion`,
# `vit-llama` and `lvvit` convert the checkpoints of those projects.

# %%
run('convert_checkpoint.py', 'deit', 'original.pth', 'converted.pth', '--force')

# %% [markdown]
# ## A config for the images
#
# `new_config.py` looks at the images and writes a config that inherits from one of ours: classes, a
# split, batch size, learning rate and length that fit 200 images. `--no-flip`, because a mirrored
# digit is none.

# %%
length = ('--length', 2 if SMALL else 20)
model = ('--model', 'vit-micro_1xb64_digits', '--checkpoint', 'converted.pth')
run('new_config.py', 'cls', 'images', *model, '--no-flip', '--overwrite', *length)
print((FOLDER / 'own_configs/images.py').read_text())

# %% [markdown]
# ## Train, test, report
#
# The commands are those that `new_config.py` prints.

# %%
run('train.py', 'own_configs/images.py', '--overwrite')
checkpoint = Path((FOLDER / 'work_dirs/images/last_checkpoint').read_text())
run('test.py', 'own_configs/images.py', checkpoint, '--out', 'predictions.pkl')
run('analysis_tools/report.py', 'work_dirs/images')

# %% [markdown]
# ## Look at the predictions

# %%
predictions = mmengine.load(FOLDER / 'predictions.pkl')
right = [int(p['pred_label']) == int(p['gt_label']) for p in predictions]
figure = Figure(figsize=(8, 3.4), layout='constrained')
for axis, prediction in zip(figure.subplots(3, 8).flat, predictions[:: len(predictions) // 24]):
    is_right = int(prediction['pred_label']) == int(prediction['gt_label'])
    axis.imshow(np.array(Image.open(FOLDER / prediction['img_path'])))
    axis.set_title(f'digit{int(prediction["pred_label"])}', color='g' if is_right else 'r', size=8)
    axis.axis('off')
figure.suptitle(f'{sum(right)} of {len(right)} held-out digits are right')
figure.savefig(FOLDER / 'classify.png', dpi=100)

# %% [markdown]
# ## Export to ONNX
#
# Backbone, neck and head are one module; the batch is dynamic.

# %%
cfg = Config.fromfile(FOLDER / 'own_configs/images.py')
load_checkpoint(str(checkpoint))  # refuses a file that is damaged or not to be trusted
with DefaultScope.overwrite_default_scope('mmpretrain'):
    classifier = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
load_whole(classifier, str(checkpoint))
classifier.eval()
torch.onnx.export(
    classifier,
    (torch.zeros(2, 3, 32, 32),),
    str(FOLDER / 'classifier.onnx'),
    input_names=['images'],
    output_names=['scores'],
    dynamic_shapes=({0: 'batch'},),
    dynamo=True,
)
print(f'{(FOLDER / "classifier.onnx").stat().st_size / 1e6:.1f} MB')
