"""Ports for the servers of tests."""

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import SystemRandom
from typing import Final

PORTS: Final = range(20_000, 32_000)
"""Lower than the ports of connections and of port 0, which begin at 32,768 or later."""


def free_port() -> int:
    """A port that nothing else gets while this process lives, even if its server starts much later."""
    return next(_claimed())


@cache
def _claimed() -> Iterator[int]:
    return (port for port in SystemRandom().sample(PORTS, len(PORTS)) if _claim(port) and _is_unused(port))


def _claim(port: int) -> bool:
    """Claim it among all processes that run tests here. The kernel frees it when this one ends."""
    with suppress(OSError):
        fcntl.lockf(_claims(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        return True
    return False


@cache
def _claims() -> int:
    """A file in which the byte with the number of a port is locked."""
    return os.open(Path(tempfile.gettempdir(), f"apflow-ports-of-tests-{os.getuid()}"), os.O_RDWR | os.O_CREAT)


def _is_unused(port: int) -> bool:
    with suppress(OSError), socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
        return True
    return False
