"""Streams over servers that are killed, and over a Redis that goes away: no gap, no duplicate, nobody held up."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from datetime import datetime
from functools import partial
from typing import Any

import httpx
import psutil
import pytest

from tests.a2a.sockets import socket
from tests.ports import free_port
from tests.servers import (
    MODULES,
    NO_TLS,
    PYTHON,
    SAME_KEYS,
    SERVE,
    Server,
    events_of,
    new_database,
    running,
    running_server,
    until,
)
from tests.sizes import size
from tests.valkey import valkey_server

Json = dict[str, Any]
EVENTS = 200
STREAMS = 10
KILLS = 2
CLIENTS = size(50, full=200)


def long_tree(name: str, *, seconds: float, steps: int = EVENTS - 2) -> Json:
    """A tree of one task; it tells of every step but the last, and of its start, its end and `final`: `steps` + 2 events."""
    return {"tasks": [{"id": name, "name": "sleep_executor", "inputs": {"seconds": seconds, "steps": steps}}]}


def follow_to_the_end(url: str, task_id: str, seen: list[Json]) -> None:
    """As an EventSource does: whenever the connection breaks, come back with the last number."""
    with httpx.Client(base_url=url, transport=httpx.HTTPTransport(retries=3, verify=NO_TLS), timeout=60) as http:
        while not seen or seen[-1]["type"] != "stream_end":
            headers = {"Last-Event-ID": str(seen[-1]["seq"])} if seen else {}
            with suppress(httpx.TransportError), http.stream("GET", f"/tasks/{task_id}/events", headers=headers) as one:
                for event in events_of(one.iter_lines()):
                    seen.append(event)


def have_grown(logs: dict[str, list[Json]], before: dict[str, int]) -> bool:
    """Whether every stream has gone on by some events, or is over: a slow machine takes long to start a server."""
    return all(
        len(seen) > before[name] + 5 or (seen and seen[-1]["type"] == "stream_end") for name, seen in logs.items()
    )


def web(database: str, port: int) -> AbstractContextManager[Server]:
    """The web process alone."""
    command = [*SERVE, "--port", str(port), "--no-worker"]
    return running(command, port=port, database_url=database, env=SAME_KEYS, is_ready="/health")


@pytest.mark.both_engines
def test_clients_resume_over_killed_servers_without_gap_or_duplicate(database: str) -> None:
    port = free_port()
    logs: dict[str, list[Json]] = {f"tree{number}": [] for number in range(STREAMS)}
    with ExitStack() as lives, ThreadPoolExecutor(STREAMS) as clients:
        server = lives.enter_context(web(database, port))
        worker = [PYTHON, "-m", "aipartnerupflow", "worker"]
        lives.enter_context(running(worker, port=port, database_url=database, env=SAME_KEYS))
        for name in logs:
            server.rpc("tasks.execute", long_tree(name, seconds=10))
        ends = [clients.submit(follow_to_the_end, server.url, name, seen) for name, seen in logs.items()]
        for _ in range(KILLS):
            until(
                partial(have_grown, logs, {name: len(seen) for name, seen in logs.items()}),
                seconds=60,
                what="more events in every stream",
            )
            server.kill(server.pid)
            server.process.wait()
            server = lives.enter_context(web(database, port))
        for end in ends:
            end.result(200)
    for seen in logs.values():
        assert [event["seq"] for event in seen] == list(range(1, EVENTS + 2))
        assert [event["type"] for event in seen].count("final") == 1


def threads_of(server: Server) -> int:
    return psutil.Process(server.pid).num_threads()


@pytest.mark.sized
def test_many_open_streams_cost_no_thread_and_end_with_the_server_at_once(database: str) -> None:
    with running_server(database) as server:
        server.rpc("tasks.execute", long_tree("t", seconds=600, steps=600))
        with ExitStack() as streams:
            limits = httpx.Limits(max_connections=None)
            http = streams.enter_context(httpx.Client(base_url=server.url, limits=limits, timeout=60, verify=NO_TLS))
            first = events_of(streams.enter_context(http.stream("GET", "/tasks/t/events")).iter_lines())
            assert next(first)["seq"] == 1
            before = threads_of(server)
            for _ in range(CLIENTS):
                lines = streams.enter_context(http.stream("GET", "/tasks/t/events")).iter_lines()
                assert next(events_of(lines))["seq"] == 1
            assert threads_of(server) <= before
            server.rpc("tasks.cancel", {"task_id": "t"})
            assert [event["type"] for event in first][-1] == "stream_end"


def test_an_open_stream_does_not_keep_the_server_from_stopping(database: str) -> None:
    with web(database, free_port()) as server:
        server.rpc("tasks.execute", long_tree("t", seconds=60))
        with server.http.stream("GET", "/tasks/t/events") as response:
            assert response.status_code == 200
            server.stop()
        assert "timeout graceful shutdown exceeded" not in server.log.read_text()


@pytest.mark.sized
def test_many_sockets_all_get_every_event_in_order(database: str) -> None:
    with running_server(database) as server, ExitStack() as open_sockets:
        clients = [open_sockets.enter_context(socket(server.url)) for _ in range(CLIENTS)]
        for client in clients:
            assert client.silent()
        server.rpc("tasks.execute", long_tree("t", seconds=1, steps=20))
        for client in clients:
            assert [message["data"]["seq"] for message in client.until("final")] == list(range(1, 23))


WIDTH = 100
LOAD_BYTES = 40_000


def wide_tree(number: int) -> Json:
    """A tree that has some 200 events, of 4 MB in all."""
    leaves = [
        {
            "id": f"r{number}leaf{leaf}",
            "name": "echo_executor",
            "parent_id": f"r{number}",
            "inputs": {"x": "x" * LOAD_BYTES},
        }
        for leaf in range(WIDTH)
    ]
    return {"tasks": [{"id": f"r{number}", "name": "r"}, *leaves]}


def memory_of(server: Server) -> int:
    return psutil.Process(server.pid).memory_info().rss


def test_who_does_not_read_holds_nobody_up_costs_no_memory_and_misses_nothing(database: str) -> None:
    # The process itself swings by 25 MB on a busy machine. To keep what is not read would take 80 MB.
    warm, measured = 7, 20
    env = {
        "AIPARTNERUPFLOW_LIMITS_CLIENT_BYTES_PER_SECOND": "0",
        "AIPARTNERUPFLOW_EXECUTORS_MODULES": f"{MODULES},tests.patient_sockets",
    }
    with running_server(database, env=env) as server, socket(server.url) as slow, socket(server.url) as quick:
        assert slow.silent()
        assert quick.silent()
        for number in range(warm + measured):
            if number == warm:  # by now the slow one's queue of 1,000 events is full
                before = memory_of(server)
            server.rpc("tasks.execute", wide_tree(number))
            quick.until("final")  # although the slow one reads nothing
        assert memory_of(server) - before < measured * WIDTH * LOAD_BYTES / 2
        seen: dict[str, list[int]] = {}
        for _ in range(warm + measured):
            for message in slow.until("final"):
                seen.setdefault(message["root_task_id"], []).append(message["data"]["seq"])
    assert set(seen) == {f"r{number}" for number in range(warm + measured)}
    for numbers in seen.values():
        assert numbers == list(range(1, 2 * WIDTH + 4))  # each task's start and end, and `final`


@pytest.mark.both_engines_nightly
def test_a_redis_that_goes_away_and_comes_back_loses_no_event() -> None:
    """On SQLite nothing rings through Redis, and that is what has to show."""
    with (
        valkey_server() as redis,
        new_database() as database,
        running_server(database, env={"AIPARTNERUPFLOW_REDIS_URL": redis.connection_url}) as server,
    ):
        server.rpc("tasks.execute", long_tree("t", seconds=16, steps=160))
        with server.events("t") as events:
            seen = [next(events)]
            redis.stop()
            while events_seen_seconds(seen) < 10:
                seen.append(next(events))
            redis.start(timeout=60)
            seen += events
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert [event["type"] for event in seen][-2:] == ["final", "stream_end"]


def events_seen_seconds(seen: list[Json]) -> float:
    """The time between the first event and the last."""
    first, last = (datetime.fromisoformat(seen[index]["timestamp"]) for index in (0, -1))
    return (last - first).total_seconds()
