"""Start the processes of a run by torchrun, and exit with their code, without a traceback."""

import sys

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main


def run() -> int:
    """Run torchrun's command line; return the exit code of the run."""
    try:
        main()
    except ChildFailedError as error:  # the process has said what was wrong
        failures = sorted(error.failures.values(), key=lambda failure: failure.timestamp)
        code = failures[0].exitcode
        return code if code > 0 else 128 - code
    except SignalException as error:
        return 128 + error.sigval
    return 0


if __name__ == '__main__':
    sys.exit(run())
