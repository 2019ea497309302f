"""Runs that wait for their tree: no worker takes them, their log goes on with the tree's, and each gets one tree at most."""

from datetime import UTC, datetime

import pytest

from accounts.callers import LOCAL
from tasks import events
from tasks.models import Run
from tasks.queue import leases
from tasks.rules.exceptions import StatusConflict
from tasks.services import trees
from tasks.services.trees import pending_runs, queries
from tasks.status import Status

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db]

TREE = [{"id": "a", "name": "a"}]


@pytest.fixture
def reserved() -> Run:
    return pending_runs.reserve(caller=LOCAL, context_id="context")


def ask(run: Run) -> None:
    pending_runs.ask(run_id=run.id, question_id="q", text="Which?")


def test_no_worker_takes_it_and_no_count_of_running_trees_has_it(reserved: Run) -> None:
    assert reserved.is_reserved
    assert not leases.is_any_waiting()
    assert leases.claim(owner="somebody", limit=10) == []
    assert leases.sweep() == 0
    assert queries.running_count(caller=LOCAL) == 0


def test_its_tree_runs_under_its_id_and_its_log_goes_on(reserved: Run) -> None:
    ask(reserved)
    ask(reserved)
    execution = trees.execute_tree(caller=LOCAL, tasks=TREE, context_id="context", reserved_id=reserved.id)
    assert (execution.run.id, execution.run.last_seq, execution.run.is_reserved) == (reserved.id, 2, False)
    assert [event["seq"] for event in events.read(run_id=reserved.id)] == [1, 2]
    assert [claim.run_id for claim in leases.claim(owner="somebody", limit=10)] == [reserved.id]


def test_it_gets_one_tree_and_the_second_stores_nothing(reserved: Run) -> None:
    trees.execute_tree(caller=LOCAL, tasks=TREE, reserved_id=reserved.id)
    with pytest.raises(StatusConflict):
        trees.execute_tree(caller=LOCAL, tasks=[{"id": "b", "name": "b"}], reserved_id=reserved.id)
    assert queries.count(caller=LOCAL)["total"] == 1
    with pytest.raises(StatusConflict):
        ask(reserved)


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.FAILED])
def test_it_is_called_off_once(reserved: Run, status: Status) -> None:
    assert pending_runs.end(run_id=reserved.id, status=status, message="No more")
    assert not pending_runs.end(run_id=reserved.id, status=status, message="No more")
    reserved.refresh_from_db()
    assert (reserved.status, reserved.lease_owner) == (status, None)
    assert reserved.finished_at is not None and reserved.finished_at <= datetime.now(UTC)
    assert [event["type"] for event in events.read(run_id=reserved.id)] == ["final"]
    with pytest.raises(StatusConflict):
        trees.execute_tree(caller=LOCAL, tasks=TREE, reserved_id=reserved.id)
