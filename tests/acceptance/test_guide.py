"""The commands of the API server guide, as they stand there (port and host aside), typed into a shell."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.documents import text
from tests.fork_server import DATABASE, FORKS, fork_server_for
from tests.ports import free_port
from tests.servers import ROOT, WITH_EXAMPLES, Server, new_database, query, running, running_server
from tests.shell import Shell

pytestmark = pytest.mark.both_engines_nightly

Json = dict[str, Any]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with new_database(is_bare=True) as url, running_server(url, env=WITH_EXAMPLES) as server:
        yield server


def typed(shell: Shell, command: str, server: Server) -> str:
    return shell.run(f"{command.strip().replace('http://localhost:8000', server.url)} -s")


def answer(shell: Shell, command: str, server: Server) -> Json:
    reply: Json = json.loads(typed(shell, command, server))
    assert "error" not in reply, reply
    return reply


# --- starting ---


def test_web_and_worker_may_be_two_commands(shell: Shell, database: str) -> None:
    """Those of the page on deploying."""
    web, worker = text("docs/how-to/deploy.md", "Several machines", "sh").splitlines()
    port = free_port()
    with shell.server(web, database=database, port=port, is_ready="/health") as server:
        assert not query(database, "SELECT 1 FROM tasks_workerprocess")
        assert server.http.get("/ready").status_code == 200
        assert server.http.get("/ready?workers=1").json()["checks"]["worker"]["ok"] is False
        with shell.server(worker, database=database, port=port):
            done = server.rpc("tasks.execute", {"tasks": [{"id": "a", "name": "echo_executor"}], "wait": True})
            assert done["status"] == "completed"


CONFIG_FILE = """\
server:
  host: 127.0.0.1
  port: PORT
  workers: 4

database:
  url: DATABASE

auth:
  enabled: true
  jwt_secret: your-secret-key
"""
LOGIN = """
# Get token
curl -X POST http://localhost:8000/auth/login \\
  -H "Content-Type: application/json" \\
  -d '{"username": "user", "password": "pass"}'
"""
USE_TOKEN = """
# Use token
curl -X POST http://localhost:8000/ \\
  -H "Authorization: Bearer {token}" \\
  -H "Content-Type: application/json" \\
  -d '{...}'
"""


def test_the_configuration_file_of_the_guide_and_its_login(shell: Shell, database: str) -> None:
    port = free_port()
    (shell.folder / "config.yaml").write_text(CONFIG_FILE.replace("PORT", str(port)).replace("DATABASE", database))
    command = ["sh", "-c", "exec aipartnerupflow serve --config config.yaml"]
    shell.run("aipartnerupflow users create user --password pass --allow-weak --config config.yaml")
    env = shell.environment | {FORKS: fork_server_for({DATABASE: database}).address}
    with running(command, port=port, database_url="", env=env, cwd=shell.folder) as server:
        assert "auth.jwt_secret: it is an example" in " ".join(server.log.read_text().replace("│", "").split())
        assert query(database, "SELECT 1 FROM tasks_workerprocess")
        count = json.dumps({"jsonrpc": "2.0", "method": "tasks.list", "params": {}, "id": 1})
        assert (
            server.http.post("/tasks", content=count, headers={"Content-Type": "application/json"}).status_code == 401
        )
        token = answer(shell, LOGIN, server)["token"]
        assert answer(shell, USE_TOKEN.replace("{token}", token).replace("{...}", count), server)["result"] == []


def test_a_busy_port_names_who_has_it(shell: Shell, server: Server, database: str) -> None:
    port = server.url.rpartition(":")[2]
    printed = shell.run(f"aipartnerupflow serve --port {port}", code=2, AIPARTNERUPFLOW_DATABASE_URL=database)
    assert f"127.0.0.1:{port}" in printed
    assert f"by process {server.pid}" in printed


# --- examples ---


def test_an_empty_database_is_filled_and_examples_may_be_made_anew(shell: Shell, database: str) -> None:
    def roots() -> int:
        ((count,),) = query(database, "SELECT count(*) FROM tasks_task WHERE parent_id IS NULL")
        return int(count)

    shell.run("aipartnerupflow examples init", AIPARTNERUPFLOW_DATABASE_URL=database)
    stored = roots()
    assert stored >= 3
    query(database, "DELETE FROM tasks_task WHERE id = 'example-machine'")
    printed = shell.run("aipartnerupflow examples init --force", AIPARTNERUPFLOW_DATABASE_URL=database)
    assert "example-machine" in printed
    assert roots() == stored


def test_the_examples_of_an_empty_database_are_named(shell: Shell) -> None:
    with new_database(is_bare=True) as database:
        init = "export AIPARTNERUPFLOW_SERVER_EXAMPLES=store; aipartnerupflow examples init"
        first = shell.run(init, AIPARTNERUPFLOW_DATABASE_URL=database)
        assert "example-machine" in first.splitlines()
        again = shell.run(init, AIPARTNERUPFLOW_DATABASE_URL=database)
        assert again.startswith("All examples exist already.")


def test_djangos_command_for_tests_hands_its_labels_and_options_over_to_pytest(shell: Shell) -> None:
    labels = "tests/tasks/rules/test_tree.py tests.tasks.rules.test_schema"
    ran = shell.run(f"{sys.executable} {ROOT}/manage.py test {labels} -k 'level_by_level or is_short'")
    assert " 2 passed, " in ran


def test_the_first_start_shows_examples(server: Server) -> None:
    assert {"example-machine", "example-diamond"} <= {task["id"] for task in server.rpc("tasks.list", {"limit": 1000})}


# --- requests ---

EXECUTE = """
curl -X POST http://localhost:8000/ \\
  -H "Content-Type: application/json" \\
  -d '{
    "jsonrpc": "2.0",
    "method": "tasks.execute",
    "params": {
      "tasks": [
        {
          "id": "task1",
          "name": "my_task",
          "user_id": "user123",
          "inputs": {"key": "value"}
        }
      ]
    },
    "id": "request-123"
  }'
"""
CREATE = """
curl -X POST http://localhost:8000/tasks \\
  -H "Content-Type: application/json" \\
  -d '{
    "jsonrpc": "2.0",
    "method": "tasks.create",
    "params": {
      "tasks": [...]
    },
    "id": "request-123"
  }'
"""
STREAM = """
curl -N -H "Content-Type: application/json" \\
  -d '{"jsonrpc": "2.0", "method": "tasks.execute", "params": {"task_id": "task-123", "use_streaming": true}, "id": 1}' \\
  http://localhost:8000/tasks
"""
COPY = """
curl -X POST http://localhost:8000/tasks \\
  -H "Content-Type: application/json" \\
  -d '{"jsonrpc": "2.0", "method": "tasks.execute", "params": {"task_id": "task-123", "copy_execution": true}, "id": 1}'
"""
COPY_CHILDREN = """
curl -X POST http://localhost:8000/tasks \\
  -H "Content-Type: application/json" \\
  -d '{"jsonrpc": "2.0", "method": "tasks.execute", "params": {"task_id": "task-123", "copy_execution": true, "copy_children": true}, "id": 1}'
"""
PYTHON_CLIENT = """
import httpx
import json

# Execute task via API
async with httpx.AsyncClient() as client:
    response = await client.post(
        "http://localhost:8000/",
        json={
            "jsonrpc": "2.0",
            "method": "tasks.execute",
            "params": {
                "tasks": [
                    {
                        "id": "task1",
                        "name": "my_task",
                        "user_id": "user123",
                        "inputs": {"key": "value"}
                    }
                ]
            },
            "id": "request-123"
        }
    )
    result = response.json()
    print(result)
"""


@pytest.fixture(scope="module")
def task_123(shell: Shell, server: Server) -> str:
    """The task that the guide's commands name, with a child."""
    tasks = [
        {"id": "task-123", "name": "task"},
        {"id": "child-123", "name": "echo_executor", "parent_id": "task-123", "inputs": {"a": 1}},
    ]
    created = answer(shell, CREATE.replace("[...]", json.dumps(tasks)), server)
    assert created["id"] == "request-123"
    assert (created["result"]["id"], created["result"]["status"]) == ("task-123", "pending")
    return "task-123"


@pytest.mark.parametrize("method", ["tasks.execute", "execute_task_tree"])
def test_the_first_request_runs_to_the_result_that_the_guide_expects(shell: Shell, server: Server, method: str) -> None:
    reply = answer(shell, EXECUTE.replace("tasks.execute", method), server)
    assert reply["id"] == "request-123"
    task = reply["result"]
    assert task["kind"] == "task"
    root_id = task["metadata"]["root_task_id"]
    assert server.finished(root_id)[-2]["result"] == {"key": "value"}
    stored = server.rpc("tasks.get", {"task_id": root_id})
    assert (stored["user_id"], stored["status"]) == ("user123", "completed")


def test_created_tasks_wait_and_are_listed(server: Server, task_123: str) -> None:
    assert task_123 in {task["id"] for task in server.rpc("tasks.list", {"limit": 1000})}
    assert server.rpc("tasks.get", {"task_id": "child-123"})["inputs"] == {"a": 1}


def test_a_stream_shows_the_run_to_its_end(shell: Shell, server: Server, task_123: str) -> None:
    printed = typed(shell, STREAM, server)
    frames = [json.loads(line.removeprefix("data: ")) for line in printed.splitlines() if line.startswith("data: ")]
    assert frames[0]["result"]["task_id"] == task_123
    assert [frame["type"] for frame in frames[-2:]] == ["final", "stream_end"]
    assert frames[-2]["status"] == "completed"


@pytest.mark.parametrize(("command", "size"), [(COPY, 1), (COPY_CHILDREN, 2)], ids=["alone", "with children"])
def test_a_copy_runs_and_the_original_keeps_its_history(
    shell: Shell, server: Server, task_123: str, command: str, size: int
) -> None:
    before = server.rpc("tasks.get", {"task_id": task_123})
    result = answer(shell, command, server)["result"]
    assert result["original_task_id"] == task_123
    assert result["task_id"] != task_123
    assert server.finished(result["task_id"])[-1]["status"] == "completed"
    tree = server.rpc("tasks.tree", {"task_id": result["task_id"]})
    assert 1 + len(tree["children"]) == size
    after = server.rpc("tasks.get", {"task_id": task_123})
    assert {name: after[name] for name in ("status", "result", "started_at")} == {
        name: before[name] for name in ("status", "result", "started_at")
    }


def test_the_python_client_of_the_guide_works(shell: Shell, server: Server) -> None:
    body = PYTHON_CLIENT.replace("http://localhost:8000", server.url).replace(
        "AsyncClient()", "AsyncClient(timeout=60)"
    )
    body = body.replace("\n", "\n    ")
    (shell.folder / "client.py").write_text(f"import asyncio\n\nasync def main():{body}\n\nasyncio.run(main())\n")
    assert "'id': 'request-123'" in shell.run("python client.py")


def test_the_command_line_runs_a_file_and_its_code_tells_the_end(shell: Shell, server: Server, tmp_path: Path) -> None:
    hello, bad = ROOT / "docs/examples/hello.json", tmp_path / "bad.json"
    bad.write_text('[{"id": "bad", "name": "scripted_executor", "inputs": {"then": "fail"}}]')
    assert shell.typed(f"aipartnerupflow run {hello} --url {server.url}").endswith("Run completed\n")
    assert json.loads(shell.run(f"aipartnerupflow run {bad} --json --url {server.url}", code=1))["status"] == "failed"


@pytest.mark.parametrize("path", ["agent-card.json", "agent-card", "agent.json"])
def test_the_agent_card_says_what_the_server_can_do(shell: Shell, server: Server, path: str) -> None:
    card = json.loads(typed(shell, f"curl http://localhost:8000/.well-known/{path}", server))
    assert card["name"]
    assert card["skills"]


def test_health_and_readiness_answer(shell: Shell, server: Server) -> None:
    assert json.loads(typed(shell, "curl http://localhost:8000/health", server))["status"] == "ok"
    ready = json.loads(typed(shell, "curl http://localhost:8000/ready", server))
    assert ready["ready"] is True
    assert set(ready["checks"]) == {"database", "migrations"}
