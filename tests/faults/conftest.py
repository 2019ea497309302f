"""Faults that take minutes: `make nightly` runs these, and nothing else does. What they measured is printed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.effects import Effects
from tests.faults.rows import Report, reporter
from tests.servers import new_database


@pytest.fixture
def database() -> Iterator[str]:
    """The URL of a database without tasks."""
    with new_database() as url:
        yield url


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    return Effects(tmp_path / "effects")


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Stores the row of this test."""
    return reporter(request.node.nodeid, os.environ.get("TEST_ENGINE", "sqlite"))
