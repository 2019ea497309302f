"""A database for each test, a shell, and a file in which executors note what they really did."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.effects import Effects
from tests.servers import ROOT, new_database
from tests.shell import Shell, new_shell


@pytest.fixture
def database() -> Iterator[str]:
    """The URL of a database without tasks."""
    with new_database() as url:
        yield url


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    shell = new_shell(tmp_path_factory)
    (shell.folder / "manage.py").symlink_to(ROOT / "manage.py")
    return shell


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    return Effects(tmp_path / "effects")
