"""Checkpoints that load anywhere, lose nothing, and resume to the same bits."""

import logging
from collections import deque
from pathlib import Path

from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from mmengine.fileio import BaseStorageBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmvitlin.checkpoints.atomic_backend import BACKEND, AtomicLocalBackend
from mmvitlin.checkpoints.plain_data import from_plain, to_plain
from mmvitlin.checkpoints.random_state import capture_random_state, restore_random_state
from mmvitlin.registry import HOOKS, register


@register(HOOKS)
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's CheckpointHook, same arguments, with three promises added.

    - The file loads with `torch.load(weights_only=True)`: what is neither a tensor nor plain data
      is spelt out on saving and put together on loading.
    - A checkpoint is written beside its final name and renamed, and the one that it replaces goes
      only after that, so a kill at any moment leaves a whole one.
    - The random states of every process travel with it, and validation leaves no trace in them. On
      one CPU process without loader workers, training for k epochs, stopping and resuming ends with
      the same bits as training straight through. In loops by iteration MMEngine replays the loader
      on resume, so augmentation draws other numbers there. What a validation adds to the log's
      history after its epoch's checkpoint is not in that checkpoint.

    Use it in the place of the default hook:
    `default_hooks = dict(checkpoint=dict(type='mmvitlin.SafeCheckpointHook', interval=1))`.
    """

    file_backend: BaseStorageBackend | None = None  # where training saves, once it has begun
    _before_val: dict | None = None  # this process's random state while validation runs
    _random_states: list[dict] | None = None  # every process's, while a checkpoint is written
    _resumed: dict | None = None  # this process's, from the checkpoint, until training starts

    def before_train(self, runner: Runner) -> None:
        """Set the resumed random state; take local files to be written atomically."""
        folder = str(self.out_dir or runner.work_dir)
        if self.backend_args is None and self.file_client_args is None and '://' not in folder:
            self.backend_args = dict(backend=BACKEND)
        super().before_train(runner)
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._restore_resumed()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Set the resumed random state in loops by iteration, which first replay the loader."""
        self._restore_resumed()

    def before_val(self, runner: Runner) -> None:
        """Remember the random state of training."""
        self._before_val = capture_random_state()

    def after_val(self, runner: Runner) -> None:
        """Go on as if validation had drawn no random number."""
        restore_random_state(self._before_val)
        self._before_val = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the random states; spell out all that is not weights."""
        if self._random_states is not None:
            checkpoint['random_states'] = self._random_states
        for key, value in checkpoint.items():
            if not _is_weights(key):
                checkpoint[key] = to_plain(value, key)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Undo `before_save_checkpoint`."""
        for key, value in checkpoint.items():
            if not _is_weights(key):
                checkpoint[key] = from_plain(value)
        if not runner._resume:
            return
        sampler, seed = runner.train_dataloader.sampler, checkpoint.get('meta', {}).get('seed')
        if seed is not None and hasattr(sampler, 'seed'):
            sampler.seed = seed  # MMEngine built it with this process's own, where none is set
        states = checkpoint.get('random_states', [])
        if len(states) == get_world_size():
            self._resumed = states[get_rank()]
        else:
            runner.logger.log(
                logging.WARNING,
                f'The checkpoint holds the random states of {len(states)} processes, and '
                f'{get_world_size()} are running: training goes on with newly seeded ones',
            )

    def _restore_resumed(self) -> None:
        if self._resumed is not None:
            restore_random_state(self._resumed)
            self._resumed = None

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Save, point `last_checkpoint` to it, and drop what `max_keep_ckpts` no longer keeps."""
        outdated = self._keep(runner, step)
        filename = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        self._random_states = all_gather_object(self._before_val or capture_random_state())
        runner.save_checkpoint(
            self.out_dir,
            filename,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self._random_states = None
        if is_main_process():
            pointer = Path(runner.work_dir) / 'last_checkpoint'
            AtomicLocalBackend().put_text(self.last_ckpt, pointer)
            _remove(self.file_backend, outdated)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save the new best checkpoint before the previous one is removed.

        A validation without training has none to save.
        """
        if self.file_backend is None:
            return
        backend, self.file_backend = self.file_backend, _LateRemoval(self.file_backend)
        try:
            super()._save_best_checkpoint(runner, metrics)
            outdated = self.file_backend.outdated
        finally:
            self.file_backend = backend
        if self.save_best and is_main_process():
            best = getattr(self, 'best_ckpt_path_dict', None) or {None: self.best_ckpt_path}
            _remove(backend, [path for path in outdated if path not in best.values()])

    def _keep(self, runner: Runner, step: int) -> list[str]:
        """Enter `step` among the kept checkpoints; return the paths that fall out."""
        if self.max_keep_ckpts <= 0 or step in self.keep_ckpt_ids:
            return []
        kept = [*self.keep_ckpt_ids, step]
        dropped, kept = kept[: -self.max_keep_ckpts], kept[-self.max_keep_ckpts :]
        self.keep_ckpt_ids = deque(kept, self.max_keep_ckpts)
        runner.message_hub.update_info('keep_ckpt_ids', kept)
        return [
            self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old))
            for old in dropped
        ]


class _LateRemoval:
    """A file backend that only writes down what it is told to remove."""

    def __init__(self, backend: BaseStorageBackend):
        self._backend = backend
        self.outdated: list[str] = []

    def __getattr__(self, name: str):
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self.outdated.append(path)

    rmtree = remove


def _remove(backend: BaseStorageBackend, paths: list[str]) -> None:
    for path in paths:
        if backend.isfile(path):
            backend.remove(path)
        elif backend.isdir(path):  # DeepSpeed's checkpoints are folders
            backend.rmtree(path)


def _is_weights(key: str) -> bool:
    return key == 'optimizer' or key.endswith('state_dict')
