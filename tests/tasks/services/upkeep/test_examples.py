"""The examples: stored once, run at the first start, and each ends as its name says."""

import pytest
from pytest_django import Settings

from apflow_site.prepare import prepare
from tasks.executors import executor_ids
from tasks.models import Run, Task
from tasks.services.upkeep import examples
from tasks.services.upkeep.examples import EXAMPLES, init_examples
from tests.fork_server import MODELS
from tests.sections import replace
from tests.servers import Server, new_database, running_server, until

ROOTS = [example.root_id for example in EXAMPLES]
AT_ONCE = {example.root_id for example in EXAMPLES if example.is_run_at_once}
ENDS = {
    "example-diamond": "completed",
    "example-fan-out": "completed",
    "example-failure": "failed",
    "example-map": "completed",
    "example-loop": "completed",
    "example-crew": "completed",
}


@pytest.mark.crews
@pytest.mark.django_db
@pytest.mark.both_engines
def test_examples_are_stored_once_and_by_force_anew() -> None:
    assert init_examples() == ROOTS
    assert init_examples() == []
    Task.objects.filter(root_id="example-machine").delete()
    assert init_examples() == ["example-machine"]
    Task.objects.filter(id="example-diamond").update(name="changed")
    assert init_examples(force=True) == ROOTS
    assert not Task.objects.filter(name="changed").exists()
    assert not Run.objects.exists()


@pytest.mark.crews
@pytest.mark.django_db
@pytest.mark.both_engines
def test_one_that_runs_is_left_alone_even_by_force() -> None:
    init_examples(run=True)
    running = set(Run.objects.unfinished().values_list("root_id", flat=True))
    assert running == AT_ONCE
    assert set(init_examples(force=True)) == set(ROOTS) - running


@pytest.mark.django_db
def test_one_whose_executor_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = executor_ids() - {"crewai_executor"}
    monkeypatch.setattr(examples, "executor_ids", lambda: installed)
    assert init_examples() == [root_id for root_id in ROOTS if root_id != "example-crew"]


def test_the_newest_stands_for_what_a_newcomer_should_see_first() -> None:
    assert ROOTS[-1] == "example-progress"
    assert len({task["id"] for example in EXAMPLES for task in example.tasks}) == sum(
        len(example.tasks) for example in EXAMPLES
    )


@pytest.mark.crews
@pytest.mark.timeout(600)
def test_the_first_start_runs_them_and_the_second_does_not() -> None:
    runs = {"AIPARTNERUPFLOW_SERVER_EXAMPLES": "run", MODELS: "yes"}
    with new_database() as database_url:
        with running_server(database_url, env=runs) as server:
            assert statuses(server)["example-machine"] == "pending"
            server.rpc("tasks.execute", {"task_id": "example-crew"})
            until(lambda: ENDS.items() <= statuses(server).items(), seconds=90, what=f"the ends {ENDS}")
            attempts = server.rpc("tasks.get", {"task_id": "example-failure-call"})["attempt"]
            assert attempts == 3
            server.rpc("tasks.answer", {"task_id": "example-approval-question", "answer": "yes"})
            until(lambda: statuses(server)["example-approval"] == "completed", seconds=60, what="the approved end")
            server.rpc("tasks.cancel", {"task_id": "example-progress"})
            number = server.rpc("tasks.count", {})["total"]
        with running_server(database_url, env=runs) as server:
            assert server.rpc("tasks.count", {})["total"] == number
            assert server.rpc("tasks.running.count", {})["count"] == 0


@pytest.mark.crews
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("wanted", "stored"), [("none", 0), ("store", len(ROOTS))])
def test_an_operator_may_want_fewer(wanted: str, stored: int, settings: Settings) -> None:
    settings.APFLOW = replace(settings.APFLOW, server=replace(settings.APFLOW.server, examples=wanted))
    prepare()
    assert (Task.objects.filter(parent_id=None).count(), Run.objects.count()) == (stored, 0)


def statuses(server: Server) -> dict[str, str]:
    """Root id → the status of its newest run, or of itself."""
    states = server.rpc("tasks.running.status", {"task_ids": ROOTS})
    return {state["task_id"]: state["status"] for state in states}
