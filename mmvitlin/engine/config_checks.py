"""Settings of a config that contradict each other, found before anything is built."""

from mmengine.config import Config

from mmvitlin.errors import ConfigError


def check_length(cfg: Config) -> None:
    """Check that the length of a training is given in the unit of its loop.

    Raises:
        ConfigError: it is given in the other one.
    """
    settings = cfg.get('train_cfg') or {}
    by_iteration = settings.get('type') == 'IterBasedTrainLoop' or settings.get('by_epoch') is False
    unit, other = ('max_iters', 'max_epochs') if by_iteration else ('max_epochs', 'max_iters')
    if other in settings:
        raise ConfigError(
            f'train_cfg.{other}={settings[other]} does not go with this config, which counts '
            f'{"iterations" if by_iteration else "epochs"}: set train_cfg.{unit}'
        )


def check_save_best(cfg: Config) -> None:
    """Check that each metric of `save_best` is of a model that is evaluated.

    Raises:
        ConfigError: it is named for the raw model or the average, and no AverageHook evaluates
            that beside the other one.
    """
    names = (cfg.get('default_hooks') or {}).get('checkpoint', {}).get('save_best') or []
    seconds = [
        hook['evaluate'][1]
        for hook in cfg.get('custom_hooks') or []
        if str(hook.get('type')).endswith('AverageHook') and len(hook.get('evaluate', ())) > 1
    ]
    for name in [names] if isinstance(names, str) else names:
        model, slash, _ = name.partition('/')
        if slash and model in ('raw', 'average') and model not in seconds:
            raise ConfigError(
                f'default_hooks.checkpoint.save_best has {name!r}, and no AverageHook of '
                'custom_hooks evaluates that beside the other model: set save_best=accuracy/top1'
            )
