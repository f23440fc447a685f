"""Choice of batch, learning rate, length, warm-up and average for a number of images."""

import math
from dataclasses import dataclass

from mmengine.config import Config

# Optimizer steps that a run takes where the data is small, from random weights and from a
# checkpoint. The 690 steps of the quickstarts (30 epochs of 23) do not suffice for 160 images.
SCRATCH_STEPS, FINE_TUNING_STEPS = 1500, 600
# Smallest and largest numbers of epochs, whatever the data.
SCRATCH_EPOCHS, FINE_TUNING_EPOCHS, MOST_EPOCHS = 30, 10, 300
STEPS_PER_EPOCH = 10  # at least, if batches can be made smaller
SMALLEST_BATCH = 4  # per GPU: BatchNorm learns badly from fewer
WARM_UP_SHARE = 0.05
FINE_TUNING_SHARE = 0.25  # of the learning rate of training from random weights
VALIDATIONS = 20  # about, in a run
LEAST_MOMENTUM = 1e-4  # of the average, in the longest runs; ImageNet recipes have it


@dataclass(frozen=True)
class RunPlan:
    """Settings of a run that depend on the number of images.

    Attributes:
        batch_size: images of one GPU in one step.
        gpus: processes.
        lr: the largest learning rate.
        by_epoch: whether `length`, `warm_up` and `val_interval` count epochs, else iterations.
        length, warm_up, val_interval: of the run.
        steps: optimizer steps of the whole run.
        drop_last: whether to leave out an epoch's last batch, which is of a single image.
    """

    batch_size: int
    gpus: int
    lr: float
    by_epoch: bool
    length: int
    warm_up: int
    val_interval: int
    steps: int
    drop_last: bool


def plan_run(
    base: Config, images: int, gpus: int, fine_tuning: bool, length: int | None = None
) -> RunPlan:
    """Plan a run of a config's recipe on other data.

    The learning rate is proportional to the square root of the batch size, as Adam's noise is.

    Args:
        base: config of the recipe.
        images: to train on.
        gpus: processes, each with its own batch.
        fine_tuning: whether the run starts from a checkpoint.
        length: epochs, or iterations where the base counts those; by default from `images`.
    """
    by_epoch = 'max_iters' not in base.train_cfg
    batch_size = choose_batch(base.train_dataloader.batch_size, images, gpus)
    total = batch_size * gpus
    steps_per_epoch = max(images // total, 1)
    if length is None:
        wanted = FINE_TUNING_STEPS if fine_tuning else SCRATCH_STEPS
        least = FINE_TUNING_EPOCHS if fine_tuning else SCRATCH_EPOCHS
        epochs = min(max(math.ceil(wanted / steps_per_epoch), least), MOST_EPOCHS)
        length = epochs if by_epoch else epochs * steps_per_epoch
    steps = length * steps_per_epoch if by_epoch else length
    lr = base.optim_wrapper.optimizer.lr * math.sqrt(total / base.auto_scale_lr.base_batch_size)
    if fine_tuning and not starts_from_checkpoint(base):
        lr *= FINE_TUNING_SHARE
    return RunPlan(
        batch_size=batch_size,
        gpus=gpus,
        lr=round_to_digits(lr, 2),
        by_epoch=by_epoch,
        length=length,
        warm_up=min(max(round(length * WARM_UP_SHARE), 1), length - 1),
        val_interval=max(length // VALIDATIONS, 1),
        steps=steps,
        drop_last=images % total == 1,
    )


def choose_batch(recipe: int, images: int, gpus: int) -> int:
    """Choose the images of one GPU in one step: a power of two, the recipe's at most.

    Args:
        recipe: the batch size per GPU of the recipe.
        images: to train on.
        gpus: processes.
    """
    fitting = images // (STEPS_PER_EPOCH * gpus)
    smallest = min(SMALLEST_BATCH, recipe)
    largest = max(min(recipe, fitting), smallest)
    return 2 ** int(math.log2(largest))


def average_hook() -> dict:
    """Return the hook that averages the weights over about the last tenth of the steps so far.

    At step t the newest weights have the share 9 / (10 + t), so that the initial weights vanish
    after a few steps, whatever the length of the run. With a recipe's constant momentum of 1e-4,
    their share is still 0.992 after 78 steps.
    """
    return dict(type='mmvitlin.AverageHook', momentum=LEAST_MOMENTUM, warmup=True)


def starts_from_checkpoint(base: Config) -> bool:
    """Return whether a recipe fine-tunes a checkpoint, with a learning rate for that."""
    init_cfg = base.model.backbone.get('init_cfg')
    pretrained = isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained'
    return bool(base.get('load_from')) or pretrained


def round_to_digits(number: float, digits: int) -> float:
    """Round to a number of significant digits."""
    return float(f'{number:.{digits}g}')
