"""Faults that take minutes: `make nightly` runs these, and nothing else does. What they measured is printed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.effects import Effects
from tests.servers import new_database


@pytest.fixture
def database() -> Iterator[str]:
    """The URL of a database without tasks."""
    with new_database() as url:
        yield url


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    return Effects(tmp_path / "effects")
