"""A server that is stopped answers all who have connected; one of two behind nginx is restarted without a lost request."""

import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.servers import SAME_KEYS, Server, new_database, running_server, until
from tests.test_deploy import nginx

WAITING = 20
CLIENTS = 4
PATIENCE_SECONDS = 120.0
BODY = b'{"jsonrpc": "2.0", "method": "tasks.running.count", "params": {}, "id": 1}'
REQUEST = (
    b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


def connected(url: str) -> socket.socket | None:
    """A connection on which a request has been sent; None if the server refuses it."""
    host, port = url.removeprefix("http://").split(":")
    try:
        connection = socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS)
    except ConnectionRefusedError:
        return None
    try:
        connection.sendall(REQUEST)
    except OSError:
        connection.close()
        raise
    return connection


def answer(connection: socket.socket) -> str:
    """The first line of the response, or the reason why there is none."""
    with connection:
        try:
            head = connection.recv(65_536)
            while connection.recv(65_536):
                pass
        except OSError as error:
            return type(error).__name__
    return head.partition(b"\r\n")[0].decode() or "closed without a response"


def ask_until(url: str, is_over: Callable[[], bool], answers: Counter[str]) -> None:
    while not is_over():
        try:
            connection = connected(url)
        except OSError as error:
            answers[type(error).__name__] += 1
            continue
        answers["refused" if connection is None else answer(connection)] += 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stop_resets_no_connection(workers: str) -> None:
    """Some wait in the queue of the kernel when the signal comes, others come until the server refuses them."""
    answers: Counter[str] = Counter()
    with new_database() as url, running_server(url, "--no-worker", "--workers", workers) as server:
        every = server.processes()
        for process in every:
            process.suspend()
        waiting = [connected(server.url) for _ in range(WAITING)]
        server.process.terminate()
        for process in every:
            process.resume()
        with ThreadPoolExecutor(CLIENTS) as pool:
            for _ in range(CLIENTS):
                pool.submit(ask_until, server.url, lambda: bool(answers["refused"]), answers)
            assert Counter(answer(each) for each in waiting if each) == {"HTTP/1.1 200 OK": WAITING}
    assert answers.keys() <= {"HTTP/1.1 200 OK", "refused"}, answers


def test_a_server_that_drains_answers_and_is_not_ready() -> None:
    never = {"AIPARTNERUPFLOW_SERVER_DRAIN_SECONDS": "3600"}
    with new_database() as url, running_server(url, "--no-worker", env=never) as server:
        assert server.http.get("/ready").status_code == 200
        server.process.terminate()
        until(lambda: server.http.get("/ready").status_code == 503, seconds=60, what="that it drains")
        server.process.terminate()  # as a service manager that signals every process, and then the parent does
        assert server.http.get("/ready").json()["checks"]["shutdown"]["ok"] is False
        response = server.http.post("/tasks", content=BODY, headers={"Content-Type": "application/json"})
        assert (response.status_code, response.headers["Connection"]) == (200, "close")
        server.process.send_signal(signal.SIGINT)  # Ctrl+C does not wait
        server.assert_gone(within_seconds=60)


def test_a_server_of_two_is_restarted_without_a_lost_request(tmp_path: Path) -> None:
    """The recipe of the page on deploying."""
    ports, settings = (free_port(), free_port()), SAME_KEYS | {"AIPARTNERUPFLOW_SERVER_DRAIN_SECONDS": "5"}
    answers: Counter[str] = Counter()
    is_over = threading.Event()
    with new_database() as url, ExitStack() as stack:

        def start(port: int) -> tuple[Server, ExitStack]:
            own = ExitStack()
            return own.enter_context(running_server(url, "--no-worker", port=port, env=settings)), own

        servers = [start(port) for port in ports]
        upstreams = [server.url.removeprefix("http://") for server, _ in servers]
        proxy = stack.enter_context(nginx(tmp_path, upstreams=upstreams))
        pool = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        stack.callback(is_over.set)
        for _ in range(CLIENTS):  # not as fast as they can: they would take the processors from the servers
            pool.submit(ask_until, proxy, partial(is_over.wait, 0.03), answers)
        for number, port in enumerate(ports):
            before = answers.total()
            until(lambda: answers.total() > before + 100, seconds=60, what="requests")  # noqa: B023
            servers[number][1].close()
            servers[number] = start(port)
        until(lambda: answers.total() > before + 300, seconds=60, what="requests")
        is_over.set()
        pool.shutdown()
        for _, own in servers:
            own.close()
    assert set(answers) == {"HTTP/1.1 200 OK"}, answers
