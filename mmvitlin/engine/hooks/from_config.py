"""Hooks of ours as a config has them, for tools that build no runner."""

from mmengine.config import Config
from mmengine.hooks import Hook

from mmvitlin.registry import HOOKS, SCOPE


def build_hook(cfg: Config, hook: type[Hook]) -> Hook | None:
    """Build the first hook of a class among the `custom_hooks` of a config, if it has one."""
    for settings in cfg.get('custom_hooks') or []:
        if settings['type'] in (hook, hook.__name__, f'{SCOPE}.{hook.__name__}'):
            # Without the key that is Runner's.
            return HOOKS.build({key: settings[key] for key in settings if key != 'priority'})
    return None
