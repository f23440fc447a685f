"""Hook that saves random states in checkpoints and restores them."""

import logging

from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmvitlin.checkpoints.random_state import capture_random_state, restore_random_state
from mmvitlin.compat import is_resuming
from mmvitlin.engine.loops import sampler_of
from mmvitlin.errors import CheckpointError
from mmvitlin.registry import HOOKS, register


@register(HOOKS)
class RandomStateHook(Hook):
    """Save the random state of every process, and restore it on resume.

    Validation does not change the states, so that training draws the same numbers with it as
    without. Dropout, drop path, Mixup and CutMix use these generators. Augmentation uses them only
    if the dataset is not a SeededDataset and there are no loader workers.

    Attributes:
        states: of all processes, between `gather` and the end of a save.
    """

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.states: list[dict] | None = None
        self._before_val: dict | None = None
        self._resumed: dict | None = None

    def gather(self) -> None:
        """Collect the states of all processes for the next checkpoint; every process calls it."""
        self.states = all_gather_object(self._before_val or capture_random_state())

    def before_train(self, runner: Runner) -> None:
        """Restore the resumed state."""
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._restore()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Restore the resumed state in loops by iteration, after their replay of the loader."""
        self._restore()

    def before_val(self, runner: Runner) -> None:
        """Store the state of training."""
        self._before_val = capture_random_state()

    def after_val(self, runner: Runner) -> None:
        """Restore the state from before validation."""
        assert self._before_val is not None  # since `before_val`
        restore_random_state(self._before_val)
        self._before_val = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the states."""
        if self.states is not None:
            checkpoint['random_states'] = self.states
            self.states = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Read this process's state, and the seed of the order of samples.

        Raises:
            CheckpointError: the state is damaged.
        """
        if not is_resuming(runner):
            return
        seed = checkpoint.get('meta', {}).get('seed')
        sampler = sampler_of(runner.train_dataloader)
        if seed is not None and hasattr(sampler, 'seed'):
            sampler.seed = seed  # MMEngine built it with this process's own, where none is set
        states = checkpoint.get('random_states', [])
        if len(states) != get_world_size():
            runner.logger.log(
                logging.WARNING,
                f'The checkpoint holds the random states of {len(states)} processes, and '
                f'{get_world_size()} are running: training goes on with newly seeded ones',
            )
            return
        now = capture_random_state()
        try:
            restore_random_state(states[get_rank()])
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise CheckpointError(
                f'the random states of the checkpoint are damaged ({type(error).__name__}: '
                f'{error}); resume from an earlier one'
            ) from error
        finally:
            restore_random_state(now)
        self._resumed = states[get_rank()]

    def _restore(self) -> None:
        if self._resumed is not None:
            restore_random_state(self._resumed)
            self._resumed = None
