"""What a hostile service that one user calls can do to another user: nothing. See `test_bystanders`."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.a2a.a2a_client import SETTINGS
from tests.acceptance.attacks import Mallory, Row, below, task
from tests.acceptance.test_bystanders import LIMITS, RUN_BYTES, problems
from tests.docker_daemon import IMAGE, docker_daemon
from tests.grpc_server import SERVICE, grpc_server
from tests.lazy_modules import LazyModule
from tests.llm_server import llm_server
from tests.servers import running_server
from tests.sizes import size
from tests.tasks.executors.conftest import Web, serving
from tests.tasks.executors.scrape.test_scrape import ENDLESS
from tests.tasks.executors.websocket.test_websocket import PARTS, PINGS, flooding

ssh = LazyModule("tests.ssh_server")
pytestmark = pytest.mark.timeout(600)
Json = dict[str, Any]
PORTS: Final = "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOWED_PORTS"
TIMES: Final = size(10, full=50)
"""Tasks of an attack."""


def calls(name: str, executor: str, inputs: Json, *, times: int = TIMES) -> Callable[[Mallory], Json]:
    """An attack: so many tasks that call the same service."""

    def attack(mallory: Mallory) -> Json:
        return mallory.execute(below(*(task(f"t{n}", executor, inputs=inputs) for n in range(times))))

    attack.__name__ = name
    return attack


def port_of(url: str) -> str:
    return url.rpartition(":")[2].strip("/")


def pages_that_take_minutes(mallory: Mallory) -> Json:
    mallory.web.answer(200, ENDLESS, Content_Type="text/html")
    inputs = {"url": mallory.web.url, "timeout_seconds": 3}
    return calls("", "scrape_executor", inputs, times=TIMES // 5)(mallory)


def replies_of_another_server(mallory: Mallory) -> Json:
    """Event streams of long lines that contain no event."""
    mallory.web.answer(200, Content_Type="text/event-stream")
    mallory.web.chunks = [b"data: " + b"x" * 2**20] * 30
    inputs = {"base_url": mallory.web.url, "method": "tasks.execute", "params": {"tasks": [{"name": "echo_executor"}]}}
    return calls("", "apflow_api_executor", inputs, times=TIMES * 2 // 5)(mallory)


@contextmanager
def attacks(folder: Path) -> Iterator[tuple[list[Row], dict[str, str]]]:
    """The attacks, and the settings of the server that reach the services that they call."""
    with ExitStack() as peers:
        pings = peers.enter_context(flooding(PINGS))
        parts = peers.enter_context(flooding(PARTS))
        host = peers.enter_context(ssh.ssh_server(folder))
        greeter = peers.enter_context(grpc_server())
        docker = peers.enter_context(docker_daemon())
        printing = {"image": IMAGE, "command": ["yes"], "cpus": 0.5}
        silent = peers.enter_context(socket.create_server(("127.0.0.1", 0)))
        mail = {"to": "ada@example.com", "subject": "Hello", "body": "x" * 100_000}
        flood = {
            "server": f"127.0.0.1:{greeter.port}",
            "service": SERVICE,
            "method": "Flood",
            "max_messages": 1_000,
            "tls": False,
        }
        rows = [
            Row(attack=calls("floods_of_pings", "websocket_executor", {"url": pings}), ends="failed"),
            Row(attack=calls("messages_without_an_end", "websocket_executor", {"url": parts}), ends="failed"),
            Row(attack=pages_that_take_minutes, ends="failed"),
            Row(
                attack=calls(
                    "output_without_an_end", "ssh_executor", {"host": "h", "command": "yes"}, times=TIMES * 2 // 5
                ),
                ends="failed",
            ),
            Row(
                attack=calls("containers_without_an_end", "docker_executor", printing, times=TIMES // 5), ends="failed"
            ),
            Row(attack=calls("floods_of_grpc_messages", "grpc_executor", flood, times=TIMES * 2 // 5), ends="failed"),
            Row(attack=calls("mails_to_a_server_that_says_nothing", "send_email_executor", mail), ends="failed"),
            Row(attack=replies_of_another_server, ends="failed"),
        ]
        others = {
            "AIPARTNERUPFLOW_EXECUTORS_DOCKER_IMAGES": IMAGE,
            "AIPARTNERUPFLOW_EXECUTORS_DOCKER_DAEMON": docker.address,
            "AIPARTNERUPFLOW_EMAIL_HOST": "127.0.0.1",
            "AIPARTNERUPFLOW_EMAIL_PORT": str(silent.getsockname()[1]),
            "AIPARTNERUPFLOW_EMAIL_SECURITY": "none",
            "AIPARTNERUPFLOW_EMAIL_SENDER": "apflow@example.com",
            "AIPARTNERUPFLOW_EMAIL_ALLOW": "*",
            "AIPARTNERUPFLOW_EMAIL_TIMEOUT_SECONDS": "3",
            "AIPARTNERUPFLOW_EXECUTORS_SSH_HOSTS": f"h=deploy@127.0.0.1:{host.port}",
            "AIPARTNERUPFLOW_EXECUTORS_SSH_KEYS": str(host.client_key),
            "AIPARTNERUPFLOW_EXECUTORS_SSH_KNOWN_HOSTS": str(host.known_hosts),
        }
        yield rows, {PORTS: ",".join([port_of(pings), port_of(parts), str(greeter.port)]), **others}


@pytest.mark.both_engines_nightly
@pytest.mark.sized
def test_another_user_notices_nothing_of_hostile_services(database: str, tmp_path: Path) -> None:
    with serving(Web()) as web, llm_server() as llm, attacks(tmp_path) as (rows, given):
        environment = {
            **SETTINGS,
            **LIMITS,
            "AIPARTNERUPFLOW_LIMITS_RUN_BYTES": str(RUN_BYTES),
            "AIPARTNERUPFLOW_EXECUTORS_REST_ALLOW_PRIVATE": "127.0.0.1",
            **given,
            PORTS: f"{web.port},{given[PORTS]}",
        }
        with running_server(database, env=environment) as server:
            mallory = Mallory(server=server, web=web, llm=llm)
            assert [problem for row in rows for problem in problems(mallory, row)] == []
