"""Workers are killed five times in the middle of an experiment: each case is scored once for each variant and repeat, also by a flow."""

from collections import Counter
from typing import Any, Final

import pytest

from tests.acceptance.test_killed_calls import kill_workers
from tests.servers import new_database, running_server, until
from tests.sizes import size

pytestmark = [pytest.mark.both_engines, pytest.mark.sized, pytest.mark.timeout(1800)]

Json = dict[str, Any]
KILLS: Final = 5
REPEATS: Final = 2
SCORED: Final = "SELECT COUNT(*) FROM tasks_task WHERE executor_id = 'evaluate_executor' AND status = 'completed'"
ENDED: Final = (
    "SELECT task_id FROM tasks_taskevent WHERE type = 'task_completed' AND task_id IN "
    "(SELECT id FROM tasks_task WHERE executor_id = 'evaluate_executor')"
)


def test_a_killed_experiment_scores_each_case_once() -> None:
    rows = size(6, full=300)
    expected = rows * REPEATS * 2
    with new_database() as database, running_server(database) as server:
        greet: list[Json] = [
            {
                "id": "greet",
                "name": "echo_executor",
                "inputs": {"text": "Hello {{run.inputs.who}}"},
                "dependencies": ["nap"],
            },
            {"id": "nap", "name": "sleep_executor", "parent_id": "greet", "inputs": {"seconds": 0.2}},
        ]
        given = {
            "text": "{{run.inputs.result.text}}",
            "expected": "{{run.inputs.expected}}",
            "select": "text == expected",
        }
        server.rpc("flows.save", {"name": "greet", "tasks": greet})
        server.rpc("flows.save", {"name": "grade", "tasks": [{"name": "transform_executor", "inputs": given}]})
        people = [{"inputs": {"who": f"n{number}"}, "expected": f"Hello n{number}"} for number in range(rows)]
        server.rpc("datasets.save", {"name": "people", "rows": people, "flow": "greet"})
        wanted = {
            "dataset": "people",
            "variants": [{"name": "hello"}, {"name": "bye", "task": "greet", "inputs": {"text": "Bye"}}],
            "repeats": REPEATS,
            "at_once": 4,
            "evaluators": [
                {"name": "accuracy", "with": {"exact": {"path": "/text"}}},
                {"name": "grade", "with": {"flow": "grade"}},
            ],
            "budget": {"tasks": 1_000_000},
        }
        page = {"experiment_id": server.rpc("evals.run", wanted)["task_id"]}

        def scored() -> int:
            ((count,),) = server.query(SCORED)
            return int(count)

        for kill in range(1, KILLS + 1):
            enough = kill * expected // (KILLS + 2)
            until(lambda enough=enough: scored() >= enough, seconds=300, what=f"{enough} scores")  # type: ignore[misc]
            kill_workers(server)
        until(lambda: server.rpc("evals.get", page)["status"] in ("completed", "failed"), seconds=600, what="the end")
        found = server.rpc("evals.get", page)
        assert found["status"] == "completed"
        assert [(each["completed"], each["failed"]) for each in found["variants"]] == [(rows * REPEATS, 0)] * 2
        for name in ("accuracy", "grade"):
            assert [each["scores"][name]["estimate"]["mean"] for each in found["variants"]] == [1, 0]
        assert Counter(Counter(task_id for (task_id,) in server.query(ENDED)).values()) == {1: expected}
        ((children,),) = server.query("SELECT COUNT(*) FROM tasks_run WHERE wait_id IS NOT NULL")
        assert children == 2 * expected
        tasks = server.rpc("tasks.tree", {"task_id": page["experiment_id"]})["budget"][0]["spent"]
        # An answer, its two tasks, its evaluation, its grade and the task of that: each counts once, whoever died.
        assert tasks == 6 * expected
