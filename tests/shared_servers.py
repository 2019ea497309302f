"""Servers that many tests share, one for each configuration and pytest process: a pytest plugin.

A test that takes one uses users, names and ids of its own, and neither stops it nor changes its settings. A test that
needs another configuration, an empty database or a server to kill starts its own (`tests.servers`).
"""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.servers import WITH_EXAMPLES, Server, new_database, running_server

JWT_SECRET: Final = "correct-horse-battery-staple-0123456789"
PRIVATE_WEBHOOKS: Final = {
    "AIPARTNERUPFLOW_WEBHOOKS_ALLOW_PRIVATE": "true",
    "AIPARTNERUPFLOW_WEBHOOKS_TIMEOUT_SECONDS": "120",
}
"""Allows webhooks to this machine. The timeout is longer than a test, so a hanging receiver is never retried."""
QUICK_STOP: Final = {"AIPARTNERUPFLOW_WORKER_DRAIN_SECONDS": "1"}
"""What tests left behind has so long to end when the server stops."""


@pytest.fixture(scope="session")
def open_server() -> Iterator[Server]:
    """Without authentication, with a worker and the examples, and otherwise with the default settings."""
    with new_database() as database_url, running_server(database_url, env=QUICK_STOP | WITH_EXAMPLES) as server:
        yield server


@pytest.fixture(scope="session")
def auth_server() -> Iterator[Server]:
    """With authentication by tokens that JWT_SECRET signs; webhooks may lead to this machine."""
    settings = {"AIPARTNERUPFLOW_JWT_SECRET": JWT_SECRET} | PRIVATE_WEBHOOKS | QUICK_STOP
    with new_database() as database_url, running_server(database_url, env=settings) as server:
        yield server
