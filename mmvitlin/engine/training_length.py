"""The length of a training, which a config states in epochs or in iterations."""

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
