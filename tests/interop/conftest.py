"""One server for all clients."""

from collections.abc import Iterator

import pytest

from tests.ports import free_port
from tests.servers import Server, new_database, running_server

ALLOW = {"AIPARTNERUPFLOW_WEBHOOKS_ALLOW_PRIVATE": "true"}


@pytest.fixture(scope="package")
def server() -> Iterator[Server]:
    port = str(free_port())
    with new_database() as database, running_server(database, "--grpc-port", port, env=ALLOW) as server:
        yield server
