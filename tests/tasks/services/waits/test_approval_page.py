"""docs/how-to/approvals.md: its trees run, wait and go on, and its executor asks."""

import json
from pathlib import Path
from typing import Any

from tests.documents import text
from tests.servers import new_database, running_server, until

PAGE = "docs/how-to/approvals.md"


def tree(heading: str) -> Any:
    return json.loads(text(PAGE, heading, "json"))


def test_what_the_page_shows_works(tmp_path: Path) -> None:
    (tmp_path / "budget.py").write_text(text(PAGE, "Ask from your own executor", "python"))
    env = {
        "AIPARTNERUPFLOW_EXECUTORS_MODULES": "budget",
        "PYTHONPATH": str(tmp_path),
    }
    with new_database() as database, running_server(database, env=env) as server:
        release = tree("Approvals: let a person decide")
        budget = {"id": "budget", "name": "budget_executor", "inputs": {"item": "A chair"}}
        order = tree("Ask with a form")
        order[1]["id"] = "form"
        order[2]["dependencies"] = [{"id": "form", "as": "budget"}]
        offer = tree('Take another branch at "no"')
        invoice = tree("Remind and escalate")
        invoice[0]["inputs"] |= {
            "remind_after_seconds": [0.2],
            "escalate": {"after_seconds": 0.4, "assignees": ["carol"]},
        }
        for tasks in (release, [budget], order, offer, invoice):
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
        until(lambda: asks("ask"), seconds=60, what="the third question")
        assert asks("ask") == "Send the offer of 1200 EUR?"
        server.rpc("tasks.answer", {"task_id": "ask", "answer": "no"})
        assert server.finished("offer")[-1]["status"] == "completed"
        assert server.rpc("tasks.get", {"task_id": "send"})["status"] == "skipped"
        revised = server.rpc("tasks.get", {"task_id": "revise"})["result"]
        assert revised["text"] == "Back to the draft, says local"

        def said() -> list[str]:
            events = server.rpc("tasks.detail", {"task_id": "invoice"})["events"]
            return [event["message"] for event in events if event["type"] == "log"]

        until(lambda: len(said()) == 3, seconds=60, what="the reminder and the escalation")
        beginnings = ("waiting for an answer", "still waiting for an answer", "escalated to carol")
        assert said() == [f"{beginning}: Pay the invoice?" for beginning in beginnings]
        question = server.rpc("tasks.detail", {"task_id": "invoice"})["question"]
        assert question["assignees"] == ["bob", "carol"]
        until(lambda: asks("form"), seconds=60, what="the form")
        server.rpc("tasks.answer", {"task_id": "form", "answer": {"amount": 250, "department": "sales"}})
        assert server.finished("order")[-1]["status"] == "completed"
        paid = server.rpc("tasks.get", {"task_id": "form"})["result"]
        assert paid == {"amount": 250, "department": "sales", "express": False}
        bought = server.rpc("tasks.get", {"task_id": "buy"})["result"]
        assert (bought["limit"], bought["charge"]) == (250, "sales")
