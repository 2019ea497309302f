"""Workers are killed in the middle while a judge scores runs of a flow by another flow: each run is scored once."""

from collections import Counter
from typing import Any, Final

import pytest

from tests.acceptance.test_killed_calls import kill_workers
from tests.servers import new_database, running_server, until

pytestmark = [pytest.mark.nightly, pytest.mark.both_engines, pytest.mark.timeout(1800)]

Json = dict[str, Any]
KILLS: Final = 5
RUNS: Final = 60
ENDED: Final = (
    "SELECT task_id FROM tasks_taskevent WHERE type = 'task_completed' AND task_id IN "
    "(SELECT id FROM tasks_task WHERE executor_id = 'evaluate_executor')"
)


def test_each_run_is_scored_once() -> None:
    with new_database() as database, running_server(database) as server:
        greet = {"name": "echo_executor", "inputs": {"text": "{{run.inputs.text}}"}}
        grade: list[Json] = [
            {
                "id": "grade",
                "name": "transform_executor",
                "inputs": {"text": "{{run.inputs.result.text}}", "select": "length(text)"},
                "dependencies": ["nap"],
            },
            {"id": "nap", "name": "sleep_executor", "parent_id": "grade", "inputs": {"seconds": 0.3}},
        ]
        server.rpc("flows.save", {"name": "greet", "tasks": [greet]})
        server.rpc("flows.save", {"name": "grade", "tasks": grade})
        given = {"flow": "greet", "name": "length", "evaluator": {"flow": "grade"}, "sample": 100}
        server.rpc("judges.set", given | {"cost_usd_per_day": 1})
        for number in range(RUNS):
            server.rpc("flows.run", {"name": "greet", "inputs": {"text": "x" * number}})

        def ended() -> int:
            return len(server.query(ENDED))

        for kill in range(1, KILLS + 1):
            enough = kill * RUNS // (KILLS + 2)
            until(lambda enough=enough: ended() >= enough, seconds=600, what=f"{enough} scores")  # type: ignore[misc]
            kill_workers(server)

        def judged() -> bool:
            (found,) = server.rpc("judges.list", {"flow": "greet"})["judges"]
            return bool(found["judged"] + found["not_scored"] == RUNS)

        until(judged, seconds=600, what="the end")
        (found,) = server.rpc("judges.list", {"flow": "greet"})["judges"]
        assert (found["judged"], found["not_scored"], found["in_progress"]) == (RUNS, 0, 0)
        scores = server.query("SELECT value FROM tasks_score WHERE source = 'judge' AND name = 'length'")
        assert sorted(int(value) for (value,) in scores) == [*range(RUNS)]
        assert Counter(Counter(task_id for (task_id,) in server.query(ENDED)).values()) == {1: RUNS}
        ((inner,),) = server.query("SELECT COUNT(*) FROM tasks_run WHERE wait_id IS NOT NULL")
        assert inner == RUNS
