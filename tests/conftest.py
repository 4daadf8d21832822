"""Fixtures that several test files share."""

from pathlib import Path

import pytest

from helpers_cli import FinishedRun, finish_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A small data set and a run on it that went through to the end; not to be changed."""
    folder: Path = tmp_path_factory.mktemp("finished")
    return finish_run(folder)
