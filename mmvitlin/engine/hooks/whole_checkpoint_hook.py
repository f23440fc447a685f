"""Hook that refuses checkpoints of other models or without the parts that resuming needs."""

from collections.abc import Mapping
from numbers import Integral

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from mmvitlin.checkpoints.state_dicts import describe, extract_state_dict, load_and_compare
from mmvitlin.compat import is_resuming
from mmvitlin.errors import CheckpointError, ConfigError

# Entries of an optimizer's state that have the shape of their parameter.
PER_WEIGHT = ('exp_avg', 'exp_avg_sq', 'momentum_buffer')


class WholeCheckpointHook(Hook):
    """Refuse checkpoints of another model, and resuming from incomplete ones.

    MMEngine loads the parts that match and continues, with random weights and a new optimizer for
    the rest. The launcher registers this hook, which sees a loaded checkpoint before other hooks
    change it.

    Args:
        path: of the checkpoint, for the errors.
    """

    priority = 'HIGHEST'

    def __init__(self, path: str):
        self.path = path

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the loaded checkpoint with the run.

        Raises:
            ConfigError: a weight is missing, unexpected or mismatched.
            CheckpointError: there are no weights, or a part that resuming needs is missing or
                damaged.
        """
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        weights = extract_state_dict(checkpoint, self.path)
        differences = load_and_compare(model, weights)
        if differences:
            raise ConfigError(
                f'{self.path} is not a checkpoint of this config: of {len(model.state_dict())} '
                f'weights {describe(differences)}. Check that the two belong together.'
            )
        if is_resuming(runner):
            self._check_parts(runner, checkpoint)
            self._check_optimizer(runner, checkpoint['optimizer'])
        else:
            checkpoint.setdefault('state_dict', weights)  # of a bare state dict, for EMAHook

    def _check_parts(self, runner: Runner, checkpoint: Mapping) -> None:
        needed = ['state_dict', 'optimizer', 'message_hub', 'meta']
        if runner.param_schedulers:
            needed.append('param_schedulers')
        missing = [part for part in needed if part not in checkpoint]
        meta = checkpoint.get('meta', {})
        for key in ('epoch', 'iter'):
            if 'meta' not in missing and not isinstance(meta.get(key), Integral):
                missing.append(f'meta.{key}')
        if missing:
            raise CheckpointError(
                f'{self.path} lacks {", ".join(missing)}, which resuming needs: resume from a '
                'checkpoint of a training, or begin a training with these weights by '
                f'--cfg-options load_from={self.path}'
            )

    def _check_optimizer(self, runner: Runner, saved: Mapping) -> None:
        """Check the shapes of the optimizer's saved state per parameter."""
        if isinstance(runner.optim_wrapper, OptimWrapperDict):
            return
        # Not those of the wrapper, which has one more for the learning rate in the log.
        groups = runner.optim_wrapper.optimizer.param_groups
        count = [len(group['params']) for group in groups]
        params = [param for group in groups for param in group['params']]
        try:
            saved_count = [len(group['params']) for group in saved['param_groups']]
            indices = [index for group in saved['param_groups'] for index in group['params']]
            shapes = [
                [
                    tuple(value.shape)
                    for name, value in saved['state'].get(index, {}).items()
                    if name in PER_WEIGHT
                ]
                for index in indices
            ]
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f'{self.path}: the state of its optimizer is damaged ({error!r}); resume from an '
                'earlier checkpoint'
            ) from error
        if saved_count != count:
            found = f'{sum(saved_count)} parameters in {len(saved_count)} groups'
            wanted = f'{sum(count)} in {len(count)}'
        else:
            differing = [
                (shape, tuple(param.shape))
                for param, kept in zip(params, shapes)
                for shape in kept
                if shape != tuple(param.shape)
            ]
            if not differing:
                return
            found, wanted = (f'a parameter of shape {shape}' for shape in differing[0])
        raise CheckpointError(
            f'{self.path} holds the state of another optimizer, with {found}, and this config has '
            f'{wanted}: resume with the config of that training, or begin a new one with these '
            f'weights by --cfg-options load_from={self.path}'
        )
