"""Train a vision transformer faster by token expansion and EfficientTrain."""

# %% [markdown]
# # Train a ViT faster
#
# Token expansion trains on part of the tokens, EfficientTrain on fewer pixels; both are one line in
# `custom_hooks`, and leave model, checkpoints and evaluation as they are. First the bound for
# DeiT-small on ImageNet, then trainings on digits. With `--small` these take seconds.

# %%
import json
import subprocess
import sys
from pathlib import Path

SMALL = '--small' in sys.argv
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'work_dirs/tutorials/train_faster'
FOLDER.mkdir(parents=True, exist_ok=True)


def run(tool: str, *arguments: object) -> None:
    """Run a tool as on the command line."""
    command = [sys.executable, ROOT / 'tools' / tool, *arguments]
    subprocess.run([str(part) for part in command], cwd=ROOT, check=True)


# %% [markdown]
# ## The bound
#
# Before anything is trained, a tool counts the compute of each stage and draws it: DeiT-small with
# token expansion alone trains at most 1.306 times faster, and with both on 0.546 of the compute.
#
# ![Compute of each stage of DeiT-small with both curricula](pictures/train_faster.png)

# %%
PLAN = 'analysis_tools/plan_token_expansion.py'
BOTH = 'configs/efficient_train/deit-small_efftrain_toe_8xb256-accum2-300e_in1k.py'
run(PLAN, 'configs/toe/deit-small_toe_4xb256-300e_in1k.py', '--out', FOLDER / 'expansion.png')
run(PLAN, BOTH, '--out', FOLDER / 'train_faster.png')

# %% [markdown]
# ## A config
#
# mmpretrain's own `VisionTransformer`, as the quickstart has it, with one hook more. Stages begin
# at fractions of the training, so any length works.

# %%
config = FOLDER / 'vit-micro_toe_digits.py'
config.write_text(f"""_base_ = '{ROOT}/configs/quickstart/vit-micro_1xb64_digits.py'

custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmvitlin.TokenExpansionHook', expansion_step=(0, 1 / 3, 2 / 3)),
]
train_cfg = dict(max_epochs={3 if SMALL else 12})
train_dataloader = dict(dataset=dict(indices={96 if SMALL else None}))
""")

# %% [markdown]
# ## Train
#
# The log has the plan at its start, and a line whenever a stage begins; each line has the stage and
# the images per second, which fall as the tokens come back.

# %%
run('train.py', config, '--work-dir', FOLDER / 'run', '--overwrite')
log = max(FOLDER.glob('run/*/vis_data/scalars.json'), key=lambda file: file.stat().st_mtime)
for line in map(json.loads, log.read_text().splitlines()):
    if 'token_expansion_stage' in line:
        print(f'epoch {line["epoch"]}: stage {line["token_expansion_stage"]}', end=', ')
        print(f'{line["images_per_second"]} images per second, loss {line["loss"]:.3f}')
    elif 'accuracy/top1' in line:
        print(f'accuracy: {line["accuracy/top1"]:.1f}%')

# %% [markdown]
# The checkpoint is that of a dense model, and tests like one:
# `python tools/test.py configs/quickstart/vit-micro_1xb64_digits.py CHECKPOINT`. On a model of this
# size everything beside the layers takes time too: [benchmarks](../../benchmarks/README.md) measure
# training steps of DeiT-small, and whole trainings on digits.
