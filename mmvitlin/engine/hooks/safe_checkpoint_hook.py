"""Hook that saves checkpoints atomically and as plain data."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import BaseStorageBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmvitlin.checkpoints.atomic_backend import BACKEND, AtomicLocalBackend
from mmvitlin.checkpoints.plain_data import from_plain, to_plain
from mmvitlin.compat import is_resuming
from mmvitlin.engine.hooks.random_state_hook import RandomStateHook
from mmvitlin.engine.loops import ResumableEpochLoop
from mmvitlin.errors import CheckpointError, ConfigError
from mmvitlin.registry import HOOKS, register


@register(HOOKS)
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's CheckpointHook, same arguments, with two promises added.

    - The file loads with `torch.load(weights_only=True)`: values that are neither tensors nor plain
      data are converted to plain data on saving and back on loading.
    - A checkpoint is written to a partial file and renamed. The checkpoint that it replaces is
      removed afterwards, so that a kill at any moment leaves a whole one.

    With RandomStateHook, a resumed training ends with the same bits as one without a stop. Entries
    that a validation adds to the log's history after its epoch's checkpoint are not in that
    checkpoint.

    Use it instead of the default hook:
    `default_hooks = dict(checkpoint=dict(type='mmvitlin.SafeCheckpointHook', interval=1))`.
    """

    # MMEngine's, which does not declare them.
    backend_args: dict | None
    best_ckpt_path: str | None
    file_backend: BaseStorageBackend | None = None  # where training saves, set when it begins

    def __init__(self, *args: Any, **kwargs: Any):
        """Take the arguments of MMEngine's hook.

        Raises:
            ConfigError: an argument that neither the hook nor `Runner.save_checkpoint` has.
        """
        super().__init__(*args, **kwargs)
        # MMEngine passes unknown arguments to `save_checkpoint`, at the first save.
        known = signature(Runner.save_checkpoint).parameters
        for name in self.args:
            if name not in known:
                settings = [*signature(CheckpointHook).parameters, *known]
                nearest = ', '.join(get_close_matches(name, settings)) or 'none like it'
                raise ConfigError(f'the checkpoint hook has no setting {name!r}; it has {nearest}')

    def before_train(self, runner: Runner) -> None:
        """Write local files atomically; look for best checkpoints where this run saves."""
        folder = str(self.out_dir or runner.work_dir)
        if self.backend_args is None and self.file_client_args is None and '://' not in folder:
            self.backend_args = dict(backend=BACKEND)
        super().before_train(runner)
        # The work directory may have been moved or copied since.
        best = getattr(self, 'best_ckpt_path', None)
        if best:
            self.best_ckpt_path = self._here(best)
        for metric, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[metric] = path and self._here(path)

    def save_now(self, runner: Runner) -> str:
        """Save after any iteration; every process calls it in `after_train_iter`.

        In loops by epoch the file is named epoch_E_iter_I.pth, after E whole epochs and I
        iterations of the next. It counts as one of `max_keep_ckpts`.

        Returns:
            The path of the checkpoint.
        """
        if not self.by_epoch:
            self._save_checkpoint(runner)
            return self.last_ckpt
        loop = runner.train_loop
        step = f'{runner.epoch}_iter_{loop.position}'
        self._save_checkpoint_with_step(
            runner, step, meta=dict(epoch=runner.epoch, iter=runner.iter + 1)
        )
        return self.last_ckpt

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the position in the epoch; convert everything except weights to plain data."""
        if isinstance(runner.train_loop, ResumableEpochLoop):
            checkpoint['meta']['position'] = runner.train_loop.position
        for key, value in checkpoint.items():
            if not _is_weights(key):
                checkpoint[key] = to_plain(value, key)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Undo `before_save_checkpoint`.

        Raises:
            CheckpointError: the plain data is damaged.
        """
        for key, value in checkpoint.items():
            if not _is_weights(key):
                try:
                    checkpoint[key] = from_plain(value)
                except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
                    raise CheckpointError(
                        f'{key} of the checkpoint is damaged ({type(error).__name__}: {error}); '
                        'use an earlier one'
                    ) from error
        position = checkpoint.get('meta', {}).get('position', 0)
        if not is_resuming(runner) or not position:
            return
        if isinstance(runner.train_loop, ResumableEpochLoop):
            runner.train_loop.position = position
        elif isinstance(runner.train_loop, EpochBasedTrainLoop):
            runner.logger.log(
                logging.WARNING,
                f'The checkpoint was saved after {position} batches of an epoch, and '
                f'{type(runner.train_loop).__name__} begins that epoch again: resume by '
                "tools/train.py, or with train_cfg.type='mmvitlin.ResumableEpochLoop'",
            )

    def _save_checkpoint_with_step(self, runner: Runner, step: int | str, meta: dict) -> None:
        """Save, update `last_checkpoint`, and remove checkpoints beyond `max_keep_ckpts`."""
        for hook in runner.hooks:
            if isinstance(hook, RandomStateHook):
                hook.gather()
        with self._removing_afterwards():
            try:
                super()._save_checkpoint_with_step(runner, step, meta)
            except UnicodeEncodeError:  # MMEngine's pointer under LC_ALL=C
                if not self.file_backend.isfile(self.last_ckpt):
                    raise
            if is_main_process():
                pointer = Path(runner.work_dir) / 'last_checkpoint'
                AtomicLocalBackend().put_text(self.last_ckpt, pointer)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save the new best checkpoint before the previous one is removed.

        A validation without training saves no checkpoint.
        """
        if self.file_backend is None:
            return
        with self._removing_afterwards():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _removing_afterwards(self) -> Iterator[None]:
        """Delay MMEngine's removals until the body has ended without an error."""
        backend, self.file_backend = self.file_backend, _LateRemoval(self.file_backend)
        try:
            yield
            outdated = self.file_backend.outdated
        finally:
            self.file_backend = backend
        best = getattr(self, 'best_ckpt_path_dict', None)
        best = best or {None: getattr(self, 'best_ckpt_path', None)}
        for path in outdated:
            if path in (self.last_ckpt, *best.values()):  # written again since
                continue
            if backend.isfile(path):
                backend.remove(path)
            elif backend.isdir(path):  # DeepSpeed's checkpoints are folders
                backend.rmtree(path)

    def _here(self, path: str) -> str:
        return self.file_backend.join_path(self.out_dir, Path(path).name)


class _LateRemoval:
    """File backend that records removals instead of doing them."""

    def __init__(self, backend: BaseStorageBackend):
        self._backend = backend
        self.outdated: list[str] = []

    def __getattr__(self, name: str):
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self.outdated.append(path)

    rmtree = remove


def _is_weights(key: str) -> bool:
    return key == 'optimizer' or key.endswith('state_dict')
