"""docs/how-to/wait.md: its trees wait and go on, its commands end the waits, and its executor waits."""

import json
from functools import partial
from pathlib import Path

import pytest

from tests.documents import text, texts
from tests.servers import ROOT, new_database, running_server, until
from tests.shell import Shell, new_shell

PAGE = "docs/how-to/wait.md"


@pytest.fixture
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return new_shell(tmp_path_factory)


def test_what_the_page_shows_works(tmp_path: Path, shell: Shell) -> None:
    (tmp_path / "delivery.py").write_text(text(PAGE, "Wait in your own executor", "python"))
    env = {"AIPARTNERUPFLOW_EXECUTORS_MODULES": "delivery", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with new_database() as database, running_server(database, env=env) as server:
        server.rpc("tasks.execute", {"tasks": json.loads(text(PAGE, "Wait until a time", "json"))})
        server.rpc("tasks.execute", {"tasks": json.loads(text(PAGE, "Wait for an event", "json"))})
        hooked = {"id": "hooked", "name": "event_executor", "inputs": {"event": "build.done"}}
        delivery = {"id": "delivery", "name": "delivery_executor", "inputs": {"parcel": 7}}
        for task in (hooked, delivery):
            server.rpc("tasks.execute", {"tasks": [task]})

        def waits_for(task_id: str) -> str | None:
            wait: dict[str, str] | None = server.rpc("tasks.detail", {"task_id": task_id})["wait"]
            return wait["event"] if wait else None

        for task_id in ("payment", "hooked", "delivery"):
            until(lambda: waits_for(task_id), seconds=60, what=f"the wait of {task_id}")  # noqa: B023
            listens = "SELECT 1 FROM tasks_question WHERE task_id = %s AND digest IS NOT NULL"
            until(partial(server.query, listens, task_id), seconds=60, what=f"that {task_id} listens")
        (command,) = texts(PAGE, "Wait for an event", "sh")
        assert json.loads(shell.run(command, AIPARTNERUPFLOW_URL=server.url))["woken"] == 1
        hook = server.rpc("tasks.detail", {"task_id": "hooked"})["wait"]["hook_url"]
        (command,) = texts(PAGE, "The address of a wait", "sh")
        assert json.loads(shell.run(command, HOOK_URL=hook)) == {"success": True}
        sent = {"event": "parcel.arrived", "payload": {"parcel": 7, "signed_by": "Ada"}}
        assert server.http.post("/api/events/", json=sent).json()["woken"] == 1

        for root, status in (("order", "completed"), ("hooked", "completed"), ("delivery", "completed")):
            assert server.finished(root)[-1]["status"] == status
        shipped = server.rpc("tasks.get", {"task_id": "ship"})["result"]
        assert (shipped["order"], shipped["paid_by"]) == ("42", "card")
        assert server.rpc("tasks.get", {"task_id": "hooked"})["result"]["payload"] == {"method": "card"}
        assert server.rpc("tasks.get", {"task_id": "delivery"})["result"] == {"signed_by": "Ada"}
        assert server.finished("reminder")[-1]["status"] == "completed"
        said = server.rpc("tasks.get", {"task_id": "again"})["result"]["text"]
        waited = server.rpc("tasks.get", {"task_id": "pause"})["result"]
        assert said == f"Asked again at {waited['waited_until']}."
        assert waited["seconds"] == 3
