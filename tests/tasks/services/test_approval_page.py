"""docs/how-to/approvals.md: its tree runs, waits and goes on, and its executor asks."""

import json
import re
from pathlib import Path

from tests.servers import ROOT, new_database, running_server, until

PAGE = (ROOT / "docs/how-to/approvals.md").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def test_what_the_page_shows_works(tmp_path: Path) -> None:
    (tmp_path / "budget.py").write_text(block("python"))
    env = {
        "AIPARTNERUPFLOW_EXECUTORS_MODULES": "budget",
        "PYTHONPATH": str(tmp_path),
    }
    with new_database() as database, running_server(database, env=env) as server:
        release = json.loads(block("json"))
        budget = {"id": "budget", "name": "budget_executor", "inputs": {"item": "A chair"}}
        for tasks in (release, [budget]):
            server.rpc("tasks.execute", {"tasks": tasks})

        def asks(task_id: str) -> str | None:
            question: dict[str, str] | None = server.rpc("tasks.detail", {"task_id": task_id})["question"]
            return question["text"] if question else None

        until(lambda: asks("approve"), seconds=60, what="the first question")
        until(lambda: asks("budget"), seconds=60, what="the second question")
        assert asks("approve") == "Publish the announcement?"
        assert asks("budget") == "How much may A chair cost?"
        response = server.http.post("/api/tasks/approve/answer", json={"answer": "yes"})
        assert response.status_code == 200
        server.rpc("tasks.answer", {"task_id": "budget", "answer": 120})
        assert server.finished("release")[-1]["status"] == "completed"
        server.finished("budget")
        published = server.rpc("tasks.get", {"task_id": "publish"})["result"]
        assert published["approve"] == {"answer": "yes", "by": "local"}
        assert server.rpc("tasks.get", {"task_id": "budget"})["result"] == {"limit": 120, "allowed_by": "local"}
