"""Containers on a real server, with a real Docker daemon: they do what the page says, and end with their task and their worker."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.docker_daemon import DockerDaemon, docker_daemon
from tests.docs_site import merged
from tests.documents import text
from tests.servers import Server, new_database, running_server, until

Json = dict[str, Any]
PAGE: Final = ("docs/how-to/run-commands.md", "Run containers")
IMAGE: Final = "busybox:1.37"
"""That of the page, which our image is nearly the same as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    server: Server
    daemon: DockerDaemon

    def begun(self, task_id: str) -> None:
        """Start a container that runs until it is stopped, and wait until it does."""
        inputs = {"image": IMAGE, "command": ["sh", "-c", "echo begun; sleep 600"]}
        task = {"id": task_id, "name": task_id, "schemas": {"method": "docker_executor"}, "inputs": inputs}
        self.server.rpc("tasks.execute", {"tasks": task})
        with self.server.events(task_id) as events:
            assert next(event["message"] for event in events if event["type"] == "log") == "begun"

    def is_empty(self) -> bool:
        return self.daemon.containers() == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    config: Path = tmp_path_factory.mktemp("containers") / "config.yaml"
    with docker_daemon() as daemon, new_database() as database:
        daemon.load(IMAGE)
        theirs = {"executors": {"docker": {"daemon": daemon.address}}, "worker": {"processes": 1}}
        config.write_text(json.dumps(merged(yaml.safe_load(text(*PAGE, "yaml")), theirs)))
        with running_server(database, env={"AIPARTNERUPFLOW_CONFIG": str(config)}) as server:
            yield Site(server=server, daemon=daemon)


def test_the_page_is_true(site: Site) -> None:
    task = site.server.rpc("tasks.execute", {"tasks": json.loads(text(*PAGE, "json")), "wait": True})["task"]
    assert (task["status"], task["result"]) == ("completed", {"exit_code": 0, "logs": "42\n"})


def test_a_named_secret_reaches_the_container_and_nothing_else(site: Site) -> None:
    site.server.rpc("secrets.set", {"name": "token", "value": "a-canary-of-containers"}, path="/system")
    script = 'echo "$TOKEN"; sleep 1; [ "$TOKEN" = a-canary-of-containers ]'
    inputs = {
        "image": IMAGE,
        "command": ["sh", "-c", script.replace("canary", "can''ary")],
        "env": {"TOKEN": "{{secret.token}}"},
    }
    task = {"id": "secret", "name": "secret", "schemas": {"method": "docker_executor"}, "inputs": inputs}
    site.server.rpc("tasks.execute", {"tasks": task, "wait": True})
    assert site.server.rpc("tasks.get", {"task_id": "secret"})["result"] == {"exit_code": 0, "logs": "…\n"}
    assert "canary" not in json.dumps(site.server.finished("secret"))


@pytest.mark.parametrize("force", [False, True])
def test_a_cancelled_container_leaves_nothing_but_its_logs(site: Site, force: bool) -> None:
    name = f"cancelled-{force}"
    site.begun(name)
    [answer] = site.server.rpc("tasks.cancel", {"task_ids": [name], "force": force})
    assert answer["status"] == "cancelled"
    assert site.server.rpc("tasks.get", {"task_id": name})["result"] == {"exit_code": None, "logs": "begun\n"}
    until(site.is_empty, seconds=60, what="the end of the container")


def test_a_container_does_not_outlive_its_worker(site: Site) -> None:
    site.begun("orphan")
    site.server.kill(*site.server.pids().workers)
    [error] = [event["error"] for event in site.server.finished("orphan") if event["type"] == "task_failed"]
    assert error.startswith("Interrupted")
    until(site.is_empty, seconds=60, what="the end of the container")
