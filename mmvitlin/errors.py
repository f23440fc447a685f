"""Errors that the user can mend: one line each, which a command line prints without a traceback."""


class ConfigError(ValueError):
    """A command, config or data set that cannot be run as given."""


class CheckpointError(ValueError):
    """A file that is not a checkpoint to trust, or a checkpoint of another model."""
