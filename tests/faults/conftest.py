"""Faults that take minutes: `make nightly` runs these, and nothing else does. What they measured is printed."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.acceptance.effects import Effects
from tests.faults.hosts import why_impossible
from tests.faults.rows import Report, reporter
from tests.servers import new_database


@pytest.fixture(scope="package", autouse=True)
def product_as_it_is() -> Iterator[None]:
    """Without `tests.patient` and with leases as they are: the limits of the product decide what these tests measure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers, "MODULES", servers.EXECUTORS)
        patch.setattr(servers, "LEASE", {})
        yield


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


@pytest.fixture
def host_folder() -> Iterator[Path]:
    """The folder of an installation on several hosts; PostgreSQL's user may enter it, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="apflow-hosts-") as folder:
        yield Path(folder)


@pytest.hookimpl(trylast=True)  # after `-m` has left out what is not wanted
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say before the first test that the tests with hosts cannot run."""
    need_hosts = [item for item in items if "host_folder" in getattr(item, "fixturenames", ())]
    if need_hosts and (reason := why_impossible()):
        raise pytest.UsageError(reason)
