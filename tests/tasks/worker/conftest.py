"""A server for the tests of webhooks."""

from collections.abc import Iterator

import pytest

from tests.servers import Server, new_database, running_server
from tests.shared_servers import PRIVATE_WEBHOOKS


@pytest.fixture(scope="package")
def private_webhooks_server() -> Iterator[Server]:
    """Without authentication; webhooks may lead to this machine. Its files run in one process (`tests.distribution`)."""
    with new_database() as database_url, running_server(database_url, env=PRIVATE_WEBHOOKS) as server:
        yield server
