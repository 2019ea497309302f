"""Workers are killed with SIGKILL in the middle of an experiment with judges and a person: each case is scored, and judged, once for each version."""

import re
from collections import Counter
from typing import Any

import pytest

from tests.acceptance.test_killed_calls import kill_workers
from tests.servers import new_database, running_server, until

pytestmark = [pytest.mark.both_engines, pytest.mark.timeout(600)]

Json = dict[str, Any]
ROWS = 12
COUNTS = {
    "evaluate_executor": 2 * ROWS,
    "compare_executor": ROWS,
    "llm_executor": 4 * ROWS,
    "approval_executor": ROWS,
}
SCORED = "SELECT COUNT(*) FROM tasks_task WHERE executor_id = 'evaluate_executor' AND status = 'completed'"


def test_a_killed_experiment_scores_each_case_once() -> None:
    with new_database() as database, running_server(database) as server:
        for text in ("Hello {{run.inputs.who}}", "Bye {{run.inputs.who}}"):
            tasks = [
                {"id": "greet", "name": "echo_executor", "inputs": {"text": text}, "dependencies": ["nap"]},
                {"id": "nap", "name": "sleep_executor", "parent_id": "greet", "inputs": {"seconds": 0.2}},
            ]
            server.rpc("flows.save", {"name": "greet", "tasks": tasks})
        rows = [{"inputs": {"who": f"n{number}"}, "expected": f"Hello n{number}"} for number in range(ROWS)]
        server.rpc("datasets.save", {"name": "people", "rows": rows, "flow": "greet"})
        asks = {"rubric": "Is it kind?", "model": "demo/demo"}
        evaluators = [
            {"name": "accuracy", "with": {"exact": {"path": "/text"}}},
            {"name": "kind", "with": {"judge": asks}},
            {"name": "kinder", "with": {"pair_judge": asks}},
            {"name": "kindest", "with": {"person": {"question": "Which is kinder?", "pair": True}}},
        ]
        experiment_id = server.rpc("evals.run", {"dataset": "people", "evaluators": evaluators, "at_once": 4})[
            "task_id"
        ]

        def scored() -> int:
            ((count,),) = server.query(SCORED)
            return int(count)

        for enough in (4, 10):
            until(lambda enough=enough: scored() >= enough, seconds=240, what=f"{enough} scores")  # type: ignore[misc]
            kill_workers(server)
        page = {"experiment_id": experiment_id}
        until(lambda: server.rpc("evals.get", page)["questions"] == ROWS, seconds=300, what="a question for each row")
        for question in server.rpc("questions.list", {})["questions"]:
            _, first, _ = re.split("Answer [AB]:", question["text"])
            server.rpc("tasks.answer", {"task_id": question["task_id"], "answer": "A" if "Hello" in first else "B"})
        until(lambda: server.rpc("evals.get", page)["status"] == "completed", seconds=300, what="the end")
        found = server.rpc("evals.get", page)
        assert [(each["completed"], each["failed"]) for each in found["variants"]] == [(ROWS, 0)] * 2
        means = {
            each["name"]: [variant["scores"][each["name"]]["estimate"]["mean"] for variant in found["variants"]]
            for each in evaluators
        }
        assert means == {"accuracy": [1, 0], "kind": [1, 1], "kinder": [0.5, 0.5], "kindest": [1, 0]}
        for executor_id, count in COUNTS.items():
            ended = server.query(
                "SELECT task_id FROM tasks_taskevent WHERE type = 'task_completed' AND task_id IN "
                f"(SELECT id FROM tasks_task WHERE executor_id = '{executor_id}')"
            )
            assert Counter(Counter(task_id for (task_id,) in ended).values()) == {1: count}, executor_id
        ((children,),) = server.query("SELECT COUNT(*) FROM tasks_run WHERE wait_id IS NOT NULL")
        assert children == 2 * ROWS
