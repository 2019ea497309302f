"""Signals that another thread gets than the main one, which handles them."""

import ctypes
import signal

import psutil

from tests.ports import free_port
from tests.servers import COMMAND, SAME_KEYS, STOP_SECONDS, Server, running, running_server


def terminate_by_another_thread(server: Server) -> None:
    """Send SIGTERM to a thread that is not the main one. The system does so when a stopped process continues, now and then."""
    other = max(thread.id for thread in psutil.Process(server.pid).threads())
    assert other != server.pid
    assert ctypes.CDLL(None).tgkill(server.pid, other, signal.SIGTERM) == 0


def test_sigterm_ends_a_server_and_a_worker_whichever_thread_gets_it(database: str) -> None:
    port = free_port()
    with (
        running_server(database, "--no-worker", port=port, env=SAME_KEYS) as web,
        running([*COMMAND, "worker"], port=port, database_url=database, env=SAME_KEYS) as worker,
    ):
        for server in (worker, web):
            terminate_by_another_thread(server)
            assert server.process.wait(STOP_SECONDS) == 0
