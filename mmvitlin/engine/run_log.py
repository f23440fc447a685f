"""Short start of a run's log: a few lines instead of hundreds.

MMEngine writes the environment, the whole config, the hooks at every point, and the settings of
every parameter: 570 lines before the first iteration of L2ViT. Here the terminal gets one line for
each; the log file keeps the environment, and the work directory has the config as a file.
"""

import logging
from typing import Any

from mmengine.logging import MMLogger
from mmengine.runner import Runner

# Beginnings of records that are dropped, in the terminal and in the log file.
DROPPED = ('paramwise_options -- ', 'Hooks will be executed in the following order', 'Config:\n')
# The same, at any level: messages of MMEngine about its own calls, on which nobody can act.
NOISE = (
    'Exp name: ',
    'Distributed training is not used, all SyncBatchNorm',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
)
ENVIRONMENT = 'System environment:'  # in the record that goes to the log file only


def keeps(record: logging.LogRecord) -> bool:
    """Return whether a record is kept in the log."""
    message = record.getMessage()
    if message.startswith(NOISE):
        return False
    return record.levelno > logging.INFO or not message.startswith(DROPPED)


def keeps_in_terminal(record: logging.LogRecord) -> bool:
    """Return whether a kept record is shown in the terminal as well."""
    return record.levelno > logging.INFO or ENVIRONMENT not in record.getMessage()


class ConciseRunner(Runner):
    """MMEngine's Runner with a short start of the log."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger as MMEngine does, and filter it; arguments as there."""
        logger = super().build_logger(*args, **kwargs)
        logger.addFilter(keeps)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(keeps_in_terminal)
        return logger
