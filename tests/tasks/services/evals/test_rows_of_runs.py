"""Rows of a data set from runs, and experiments on a part of the rows."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.callers import LOCAL, Caller, Role
from tasks.models import DatasetVersion, Run
from tasks.rules.exceptions import FlowNotFound, InvalidParams, RunNotFound
from tasks.services import flows
from tasks.services.evals import datasets, rows_of_runs
from tasks.services.trees import execute_task, execute_tree
from tasks.services.waits.questions import answer as answer_question
from tests.tasks.services.evals.test_experiments import ACCURACY, result, save_flow, save_rows, started, worked
from tests.workers import Json, WorkerThread

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
ASK: Json = {"name": "approval_executor", "inputs": {"question": "Which team for {{run.inputs.who}}?"}}


def ran(worker: WorkerThread, *names: str, flow: str = "greet") -> list[str]:
    """Run the flow with these inputs, and return the ids of the runs."""
    found = [flows.run_flow(caller=LOCAL, name=flow, version=None, inputs={"who": name}).run.id for name in names]
    worker.work()
    return found


def rows() -> list[Json]:
    return list(datasets.get_version(caller=LOCAL, name="people")[1].rows)


def add(run_ids: list[str], **given: Any) -> rows_of_runs.Added:
    return rows_of_runs.add_runs(caller=LOCAL, name="people", run_ids=run_ids, **given)


def test_runs_become_rows_once(worker: WorkerThread) -> None:
    save_flow("Hello {{run.inputs.who}}")
    first, second = ran(worker, "Ada", "Alan")
    added = add([first, Run.objects.get(id=second).root_id, first], expected="result", tags=["train"])
    assert (added.runs, added.known, added.saved.is_new, added.saved.dataset.flow) == (2, 0, True, "greet")
    of_ada, of_alan = rows()
    assert of_ada | {"expected": of_ada["expected"]["text"]} == {
        "inputs": {"who": "Ada", "then": "ok"},
        "expected": "Hello Ada",
        "tags": ["train"],
        "source": {"run_id": first},
    }
    assert of_alan["source"] == {"run_id": second}
    again = add([second, *ran(worker, "Ada")])
    assert (again.runs, again.known, again.saved.is_new) == (2, 2, False)
    assert DatasetVersion.objects.count() == 1
    more = add([*ran(worker, "Grace", "Grace"), first])
    assert (more.runs, more.known, more.saved.version.number, more.saved.version.count) == (3, 2, 2, 3)
    assert rows()[0] == of_ada
    assert "expected" not in rows()[2]


def test_what_a_person_answered_is_expected(worker: WorkerThread) -> None:
    flows.save_flow(caller=LOCAL, name="ask", tasks=[ASK])
    run = Run.objects.get(id=ran(worker, "Ada", flow="ask")[0])
    answer_question(caller=LOCAL, task_id=run.root_id, answer={"team": "billing"})
    worker.work()
    assert rows_of_runs.rows_of(caller=LOCAL, run_ids=[run.id])[1][0]["expected"] == {"team": "billing"}
    add([run.id])
    assert [row["expected"] for row in rows()] == [{"team": "billing"}]


def test_the_newest_runs_of_a_flow_without_those_of_experiments(worker: WorkerThread) -> None:
    save_flow("Hello {{run.inputs.who}}")
    old, *_ = ran(worker, "old", "Ada", "Alan", "Grace")
    Run.objects.filter(id=old).update(created_at=datetime.now(UTC) - timedelta(days=9))
    flows.run_flow(caller=LOCAL, name="greet", version=None, inputs={"who": "not yet"})
    datasets.save_dataset(caller=LOCAL, name="others", rows=[{"inputs": {"who": "x"}}], flow="greet")
    worked(worker, started(ACCURACY, dataset="others"))
    since = datetime.now(UTC) - timedelta(days=7)
    added = rows_of_runs.add_runs(caller=LOCAL, name="people", flow="greet", since=since, limit=3)
    assert added.runs == 3
    assert {row["inputs"]["who"] for row in rows()} <= {"Ada", "Alan", "Grace", "not yet"}
    rows_of_runs.add_runs(caller=LOCAL, name="people", flow="greet")
    assert {row["inputs"]["who"] for row in rows()} == {"old", "Ada", "Alan", "Grace", "not yet"}
    with pytest.raises(InvalidParams, match="has no such runs"):
        rows_of_runs.add_runs(caller=LOCAL, name="people", flow="greet", statuses=["cancelled"])


def test_what_cannot_be_a_row_is_refused_by_name(worker: WorkerThread) -> None:
    save_flow("Hello {{run.inputs.who}}")
    flows.save_flow(
        caller=LOCAL, name="ask", tasks=[{"name": "echo_executor", "inputs": {"text": "{{run.inputs.who}}"}}]
    )
    (of_greet,), (of_ask,) = ran(worker, "Ada"), ran(worker, "Ada", flow="ask")
    tree = execute_tree(caller=LOCAL, tasks=[{"name": "echo_executor"}]).run.id
    for run_ids, problem in (([tree], "of no flow"), ([of_greet, of_ask], "several flows: ask, greet")):
        with pytest.raises(InvalidParams, match=problem):
            add(run_ids)
    for stranger in (Caller(user_id="bob"), Caller(user_id="root", role=Role.ADMIN)):
        with pytest.raises(RunNotFound):
            rows_of_runs.add_runs(caller=stranger, name="people", run_ids=[of_greet])
        with pytest.raises(FlowNotFound):
            rows_of_runs.add_runs(caller=stranger, name="people", flow="greet")
    flows.save_flow(
        caller=LOCAL, name="greet", tasks=[{"name": "echo_executor"}], inputs_schema={"properties": {"whom": {}}}
    )
    with pytest.raises(InvalidParams, match=rf"run {of_greet}\.inputs\.who: "):
        add([of_greet])
    assert not DatasetVersion.objects.exists()
    add([of_ask])
    with pytest.raises(InvalidParams, match="has the inputs of the flow 'ask'"):
        add([of_greet])


def test_of_a_run_that_did_not_complete_nothing_is_expected(worker: WorkerThread) -> None:
    flows.save_flow(caller=LOCAL, name="greet", tasks=[{"name": "scripted_executor", "inputs": {"then": "fail"}}])
    failed = flows.run_flow(caller=LOCAL, name="greet", version=None, inputs={}).run
    worker.work()
    execute_task(caller=LOCAL, task_id=failed.root_id)
    worker.work()
    add([failed.id], expected="result")
    assert rows() == [{"inputs": {}, "source": {"run_id": failed.id}}]


def test_an_experiment_runs_the_rows_of_a_split(worker: WorkerThread) -> None:
    save_flow("Hello {{run.inputs.who}}")
    save_rows("Ada", "Alan")
    tagged = [
        {"inputs": {"who": name}, "tags": tags} for name, tags in (("Alan", ["test"]), ("Grace", ["hard", "test"]))
    ]
    datasets.save_dataset(caller=LOCAL, name="people", rows=tagged, appends=True)
    found = worked(worker, experiment_id := started(split="test"))
    assert (found.experiment.split, found.experiment.cases) == ("test", 2)
    assert [(case.number, case.row["inputs"]["who"]) for case in result(experiment_id).cases] == [
        (1, "Alan"),
        (2, "Grace"),
    ]
    with pytest.raises(InvalidParams, match=r"'tset' is the tag of no row of version 2 .* its tags are: hard, test"):
        started(split="tset")
