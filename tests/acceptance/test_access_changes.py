"""Open streams of a user who logs out or is disabled end at once, on the host of the change and, with Redis, on all others.

The servers check open streams by themselves once a day only.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.a2a.sockets import socket
from tests.fork_server import run_command
from tests.ports import free_port
from tests.servers import MODULES, SAME_KEYS, SERVE, Server, environment_of, new_database, running
from tests.valkey import valkey_server

SECRET: Final = "wZ0vJm3kq-8TfXc5Rb1nYhLs7DgPeAu4"
PASSWORD: Final = "open sesame 42"
LIVE: Final = {
    "AIPARTNERUPFLOW_JWT_SECRET": SECRET,
    "AIPARTNERUPFLOW_EXECUTORS_MODULES": f"{MODULES},tests.patient_sockets,tests.seldom_checks",
}
UNAUTHENTICATED: Final = 4401
Change = Callable[[Server, str, Callable[..., None]], object]


def log_out(server: Server, token: str, command: Callable[..., None]) -> None:
    assert server.http.post("/auth/logout", headers=bearer(token)).status_code in (200, 204)


def disable(server: Server, token: str, command: Callable[..., None]) -> None:
    command("users", "disable", "alice")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def hosts(number: int, *, more: dict[str, str], folder: Path) -> Iterator[tuple[list[Server], Callable[..., None]]]:
    """Servers of one database without workers, and a command beside them. Alice is a user."""
    with new_database() as url:

        def command(*words: str) -> None:
            done = run_command(*words, env=environment_of(url, folder) | LIVE | more)
            assert done.returncode == 0, done.stdout + done.stderr

        def serving() -> Any:
            port = free_port()
            words = [*SERVE, "--port", str(port), "--no-worker"]
            return running(
                words, port=port, database_url=url, is_ready="/health", env=SAME_KEYS | LIVE | more, data_dir=folder
            )

        command("users", "create", "alice", "--password", PASSWORD)
        with serving() as first:
            if number == 1:
                yield [first], command
            else:
                with serving() as second:
                    yield [first, second], command


def assert_streams_end(server: Server, change: Callable[[str], object]) -> None:
    login = server.http.post("/auth/login", json={"username": "alice", "password": PASSWORD}).json()
    token = login["token"]
    task = {"id": "t", "name": "echo_executor"}
    root_id = server.rpc("tasks.execute", {"tasks": [task]}, **bearer(token))["root_task_id"]
    with (
        server.http.stream("GET", f"/tasks/{root_id}/events", headers=bearer(token)) as events,
        socket(server.url, additional_headers=bearer(token)) as client,
    ):
        assert events.status_code == 200
        assert client.silent()
        change(token)
        assert client.closed() == UNAUTHENTICATED
        assert not any(line.startswith("data:") for line in events.iter_lines())  # to its end


@pytest.mark.parametrize("change", [log_out, disable])
def test_a_change_ends_streams_on_another_host(change: Change, tmp_path: Path) -> None:
    with (
        valkey_server() as valkey,
        hosts(2, more={"AIPARTNERUPFLOW_REDIS_URL": valkey.connection_url}, folder=tmp_path) as (servers, command),
    ):
        assert_streams_end(servers[0], lambda token: change(servers[1], token, command))


def test_a_change_ends_streams_of_the_same_process_without_redis(tmp_path: Path) -> None:
    with hosts(1, more={}, folder=tmp_path) as (servers, command):
        assert_streams_end(servers[0], lambda token: log_out(servers[0], token, command))
