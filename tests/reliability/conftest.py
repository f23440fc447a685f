"""Campaigns of minutes, collected only where a command names this folder or a file in it."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the campaigns out of `pytest` and `pytest tests`."""
    given = [Path(argument.partition('::')[0]).resolve() for argument in config.args]
    if not any(path == FOLDER or FOLDER in path.parents for path in given):
        return True
    return None
