"""docs/how-to/limits.md: its limits are valid, its task runs, and its commands show and change what waits."""

import json
from hashlib import sha256

import pytest
import yaml

from tests.documents import text, texts
from tests.servers import new_database, running_server, until
from tests.shell import Shell, new_shell

PAGE = "docs/how-to/limits.md"


@pytest.fixture
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return new_shell(tmp_path_factory)


def test_what_the_page_shows_works(shell: Shell) -> None:
    limits = yaml.safe_load(text(PAGE, "Set a limit", "yaml"))["limits"]["shared"]
    env = {"AIPARTNERUPFLOW_LIMITS_SHARED": json.dumps(limits)}
    with new_database() as database, running_server(database, env=env) as server:

        def typed(command: str) -> str:
            return shell.run(command, AIPARTNERUPFLOW_URL=server.url)

        digest = shell.run(text(PAGE, "Set a limit", "sh"), OPENAI_API_KEY="sk-0123456789")
        assert digest.strip() == sha256(b"sk-0123456789").hexdigest()[:16]
        assert '"name":"my-reports"' in typed(text(PAGE, "Limit yourself", "sh"))
        paused = typed(text(PAGE, "Pause", "sh"))
        assert paused.count('"is_paused":true') == 2
        assert server.rpc("limits.list", {})["pauses"] == []
        server.rpc("tasks.execute", {"tasks": [json.loads(text(PAGE, "Set a limit", "json"))]})
        assert server.finished("label")[-1]["status"] == "completed"
        (shows,) = texts(PAGE, "See what waits, and why", "sh")
        (changes,) = texts(PAGE, "Change a limit while workers run", "sh")
        pauses, deletes = changes.strip().splitlines()
        typed(pauses)
        # A worker reads the limits with its heartbeat, and goes by the former limit until then.
        for number in range(1_000):
            server.rpc("tasks.execute", {"tasks": [{"id": f"echo-{number}", "name": "echo_executor"}]})
            until(
                lambda: server.query(
                    "SELECT 1 FROM tasks_task WHERE id = %s AND status = 'completed' "
                    "UNION SELECT 1 FROM tasks_question WHERE task_id = %s",
                    f"echo-{number}",  # noqa: B023
                    f"echo-{number}",  # noqa: B023
                ),
                seconds=60,
                what="the end of the task or its wait",
            )
            if server.query("SELECT 1 FROM tasks_question WHERE kind = 'limit' AND event LIKE %s", "fair%"):
                break
        waiting = f"echo-{number}"
        said = typed(shows)
        assert '"at_once":0' in said.replace(" ", "")
        assert waiting in said
        assert " for limit fair, " in typed(f"aipartnerupflow explain {waiting}")
        typed(deletes)
        assert server.finished(waiting)[-1]["status"] == "completed"
