"""Two machines with different code of a workflow: a run that began with one waits for that one."""

from pathlib import Path
from typing import Any, Final

import pytest

from tests.servers import COMMAND, ROOT, SAME_KEYS, Server, new_database, running, running_server, until

WORKFLOW: Final = """
from aipartnerupflow.workflows import ask, step, workflow


@step
def shout(text: str) -> str:
    return text.upper()


@workflow
async def greet(name: str) -> str:
    answer = await ask("Well?", options=["yes", "no"])
    return await shout(f"WORDS {name}: {answer}")
"""


@pytest.mark.both_engines
def test_a_run_that_began_with_other_code_waits_for_a_machine_that_has_it(tmp_path: Path) -> None:
    def with_code(words: str) -> dict[str, str]:
        folder = tmp_path / words
        folder.mkdir(exist_ok=True)
        (folder / "greeting.py").write_text(WORKFLOW.replace("WORDS", words))
        path = {"PYTHONPATH": f"{folder}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
        return {"AIPARTNERUPFLOW_EXECUTORS_MODULES": "greeting", **path, **SAME_KEYS}

    def needed(server: Server) -> Any:
        [run] = server.rpc("runs.list", {"task_id": "g"})["runs"]
        return server.rpc("runs.get", {"run_id": run["id"]})["needs_code"]

    task = {"id": "g", "name": "Greet", "schemas": {"method": "workflow:greet"}, "inputs": {"name": "Ada"}}
    with new_database() as database:
        with running_server(database, env=with_code("Hello")) as server:
            server.rpc("tasks.execute", {"tasks": [task]})
            until(lambda: server.rpc("questions.list", {})["questions"], seconds=60, what="its question")
        with running_server(database, env=with_code("Hi")) as server:
            server.rpc("tasks.answer", {"task_id": "g/1", "answer": "yes"})
            until(lambda: needed(server), seconds=60, what="its name")
            [need] = needed(server)
            assert (need["task_id"], need["workflow"], need["difference"]) == ("g", "workflow:greet", None)
            port = int(server.url.rpartition(":")[2])
            with running([*COMMAND, "worker"], port=port, database_url=database, env=with_code("Hello")):
                until(
                    lambda: server.rpc("tasks.get", {"task_id": "g"})["status"] == "completed",
                    seconds=60,
                    what="its end",
                )
            assert server.rpc("tasks.get", {"task_id": "g"})["result"] == "HELLO ADA: YES"
            assert needed(server) == []
