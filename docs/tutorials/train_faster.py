"""Train a vision transformer faster by token expansion and EfficientTrain."""

# %% [markdown]
# # Train a ViT faster
#
# Token expansion trains on part of the tokens, EfficientTrain on fewer pixels; both are one line in
# `custom_hooks`, and leave model, checkpoints and evaluation as they are. First the bound, for
# DeiT-small on ImageNet, then a measurement on digits. With `--small` the script takes seconds.

# %%
import json
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

matplotlib.use('Agg')
SMALL = '--small' in sys.argv
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'work_dirs/tutorials/train_faster'
FOLDER.mkdir(parents=True, exist_ok=True)


def run(tool: str, *arguments: object) -> float:
    """Run a tool as on the command line; return its seconds."""
    command = [sys.executable, ROOT / 'tools' / tool, *arguments]
    begun = time.perf_counter()
    subprocess.run([str(part) for part in command], cwd=ROOT, check=True)
    return time.perf_counter() - begun


# %% [markdown]
# ## The bound
#
# Before anything is trained, a tool counts the compute of each stage: at most 1.306 times faster
# with token expansion alone, and 0.546 of the compute with both.

# %%
PLAN = 'analysis_tools/plan_token_expansion.py'
run(PLAN, 'configs/toe/deit-small_toe_4xb256-300e_in1k.py')
run(PLAN, 'configs/efficient_train/deit-small_efftrain_toe_8xb256-accum2-300e_in1k.py')

# %% [markdown]
# ## Three configs
#
# mmpretrain's own `VisionTransformer` with patches of 2 x 2 pixels, 256 of them, so that layers
# take most of the time, as they do in full-size models.

# %%
epochs = 3 if SMALL else 6
BASE = f"""_base_ = '{ROOT}/configs/quickstart/vit-micro_1xb64_digits.py'

model = dict(
    backbone=dict(
        arch=dict(embed_dims=64, num_layers=4, num_heads=2, feedforward_channels=128),
        patch_size=2,
        out_type='cls_token',
    ),
    head=dict(in_channels=64),
)
train_cfg = dict(max_epochs={epochs}, val_interval={epochs})
train_dataloader = dict(dataset=dict(indices={96 if SMALL else None}))
param_scheduler = dict(warmup=1)
default_hooks = dict(checkpoint=dict(interval={epochs}, save_best=None))
"""
HOOKS = {
    'dense': '',
    'token expansion': "dict(type='mmvitlin.TokenExpansionHook', expansion_step=(0, 1 / 3, 2 / 3))",
    'EfficientTrain': "dict(type='mmvitlin.EfficientTrainHook', input_size=(24, 28, 32), "
    'magnitude_level=None)',
}
results = {}
for name, hook in HOOKS.items():
    config = FOLDER / f'{name.replace(" ", "-").lower()}.py'
    config.write_text(f'{BASE}custom_hooks = [*_base_.custom_hooks, {hook}]\n')
    work_dir = FOLDER / config.stem
    run('train.py', config, '--work-dir', work_dir, '--overwrite')
    log = max(work_dir.glob('*/vis_data/scalars.json'), key=lambda file: file.stat().st_mtime)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [line for line in lines if 'time' in line and 'loss' in line]
    seconds = sum(line['time'] for line in steps) / len(steps)  # of a training step, on average
    accuracy = next(line['accuracy/top1'] for line in reversed(lines) if 'accuracy/top1' in line)
    results[name] = (seconds, accuracy)

# %% [markdown]
# ## The measurement
#
# ![Seconds per training step, and accuracies](pictures/train_faster.png)

# %%
figure = Figure(figsize=(7, 2.4), layout='constrained')
axis = figure.subplots()
dense = results['dense'][0]
bars = axis.barh(list(results), [seconds for seconds, _ in results.values()], color='#4c78a8')
captions = [
    f'{dense / seconds:.2f}x faster, {accuracy:.1f}%' for seconds, accuracy in results.values()
]
axis.bar_label(bars, captions, label_type='center', color='w')
axis.invert_yaxis()
axis.set_xlabel('seconds of a training step, average of all stages; accuracy on held-out digits')
figure.savefig(FOLDER / 'train_faster.png', dpi=100)
print(results)

# %% [markdown]
# On a model of this size everything beside the layers counts too; the
# [benchmarks](../../benchmarks/README.md) have the numbers of DeiT-small. Stages begin at
# fractions of the training, so any length works.
