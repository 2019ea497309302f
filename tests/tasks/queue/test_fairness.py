"""Many users and few workers: whose run is next, and how many one of them may have in the queue."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.db.models.functions import Now
from pytest_django import Settings

from accounts.callers import LOCAL, Caller
from tasks.models import Run, Task
from tasks.queue import leases
from tasks.rules.exceptions import LimitReached
from tasks.services import trees
from tasks.services.runs import cancels
from tasks.services.trees import pending_runs
from tasks.services.trees.editing import delete_task
from tests.sections import replace
from tests.tasks.trees import ADMIN, ALICE, BOB

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
TREE = [{"id": "t", "name": "echo_executor"}]


def queue(caller: Caller, times: int = 1) -> None:
    for _ in range(times):
        trees.execute_tree(caller=caller, tasks=TREE)


def served(times: int) -> list[str]:
    """Whose runs a worker with room for one run at a time takes, one after the other."""
    order = []
    for _ in range(times):
        (claim,) = leases.claim(owner="worker/1/1", limit=1)
        run = Run.objects.get(id=claim.run_id)
        order.append(run.user_id)
        Run.objects.filter(id=run.id).update(finished_at=Now(), lease_owner=None, lease_expires_at=None)
    return order


def test_users_are_served_one_after_the_other_however_much_one_of_them_wants() -> None:
    queue(ALICE, 5)
    queue(BOB, 2)
    assert served(7) == ["alice", "bob", "alice", "bob", "alice", "alice", "alice"]


def test_who_comes_later_waits_for_what_has_begun_and_for_one_run_of_each_other_user() -> None:
    queue(ALICE, 20)
    assert served(3) == ["alice"] * 3
    queue(BOB, 3)
    assert served(6) == ["alice", "bob"] * 3


def test_a_claim_takes_no_more_of_a_user_than_there_is_room_for() -> None:
    queue(ALICE, 4)
    queue(BOB, 4)
    queue(Caller(user_id="carol"), 2)
    assert claimed(limit=6, rooms={"alice": 1, "bob": 6, "carol": 0}) == ["alice", "bob", "bob", "bob", "bob"]
    assert claimed(limit=6, rooms={"alice": 2}) == ["carol", "alice", "carol", "alice"]
    assert claimed(limit=6) == ["alice"]


def claimed(**options: Any) -> list[str]:
    """The users of the runs that a worker claims at once, in turn."""
    ids = [claim.run_id for claim in leases.claim(owner="worker/1/1", **options)]
    return list(Run.objects.filter(id__in=ids).order_by("turn", "created_at").values_list("user_id", flat=True))


def test_what_a_worker_holds_counts_as_served() -> None:
    queue(ALICE, 4)
    assert len(leases.claim(owner="worker/1/1", limit=3)) == 3
    queue(BOB)
    queue(ALICE)
    assert served(3) == ["alice", "bob", "alice"]


def test_nobody_waits_for_ever_behind_users_who_come_again_at_once() -> None:
    queue(ALICE, 10)
    others = [Caller(user_id=f"user{number}") for number in range(3)]
    for caller in others:
        queue(caller)
    order: list[str] = []
    for _ in range(40):
        (user_id,) = served(1)
        order.append(user_id)
        if user_id != "alice":
            queue(Caller(user_id=user_id))
    assert order.count("alice") == 10


def test_one_users_runs_are_served_in_their_order() -> None:
    made = [trees.execute_tree(caller=ALICE, tasks=TREE).run.id for _ in range(4)]
    assert [leases.claim(owner="worker/1/1", limit=1)[0].run_id for _ in made] == made


def test_a_run_that_gets_its_tree_later_gets_its_turn_then() -> None:
    run = pending_runs.reserve(caller=BOB, context_id="talk")
    queue(ALICE, 3)
    assert served(2) == ["alice", "alice"]
    trees.execute_tree(caller=BOB, tasks=TREE, reserved_id=run.id)
    assert Run.objects.get(id=run.id).turn == 3


def test_the_place_that_turns_are_counted_from_does_not_go_back_when_trees_are_deleted() -> None:
    for _ in range(3):
        queue(ALICE, 5)
        served(5)
    queue(BOB, 2)
    for task in list(Task.objects.filter(user_id="alice")):
        delete_task(caller=ALICE, task_id=task.id, force=True)
    queue(ALICE)  # would otherwise come before what Bob has queued
    assert served(3) == ["bob", "alice", "bob"]


# --- how many ---


@pytest.fixture
def at_most_two(settings: Settings) -> None:
    ours = settings.APFLOW
    settings.APFLOW = replace(ours, auth=replace(ours.auth, enabled=True), limits=replace(ours.limits, runs_per_user=2))


@pytest.mark.usefixtures("at_most_two")
def test_who_has_as_many_unfinished_runs_as_one_may_is_refused_and_nothing_is_stored() -> None:
    queue(ALICE, 2)
    stored = Task.objects.count()
    with pytest.raises(
        LimitReached, match=r"This user already has 2 unfinished runs \(limits\.runs_per_user\)"
    ) as refused:
        queue(ALICE)
    assert refused.value.data == {"retry_after_seconds": 5}
    assert Task.objects.count() == stored
    queue(BOB)
    assert served(1) == ["alice"]
    queue(ALICE)


@pytest.mark.usefixtures("at_most_two")
def test_requests_of_the_same_instant_do_not_pass_the_limit() -> None:
    start = threading.Barrier(8)

    def attempt(number: int) -> bool:
        start.wait(60)
        try:
            if number % 2:
                queue(ALICE)
            else:
                pending_runs.reserve(caller=ALICE, context_id="talk")
        except LimitReached:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 2
    assert Run.objects.count() == 2


@pytest.mark.usefixtures("at_most_two")
async def test_what_is_cancelled_before_a_worker_takes_it_makes_room() -> None:
    runs_of_alice = [await sync_to_async(trees.execute_tree)(caller=ALICE, tasks=TREE) for _ in range(2)]
    (answer,) = await cancels.cancel_tasks(ALICE, task_ids=[runs_of_alice[0].task.id])
    assert (answer["status"], answer["current_status"]) == ("cancelled", "cancelled")
    await sync_to_async(queue)(ALICE)
    with pytest.raises(LimitReached):
        await sync_to_async(queue)(ALICE)


@pytest.mark.usefixtures("at_most_two")
def test_it_is_the_owner_of_the_tree_who_counts() -> None:
    trees.create_tree(caller=ALICE, tasks=TREE)
    queue(ALICE, 2)
    with pytest.raises(LimitReached):
        trees.execute_task(caller=ADMIN, task_id="t")
    queue(ADMIN, 2)


@pytest.mark.usefixtures("at_most_two")
def test_a_reserved_run_that_gets_its_tree_is_no_further_one() -> None:
    run = pending_runs.reserve(caller=ALICE, context_id="talk")
    queue(ALICE)
    trees.execute_tree(caller=ALICE, tasks=TREE, reserved_id=run.id)
    with pytest.raises(LimitReached):
        pending_runs.reserve(caller=ALICE, context_id="talk")


@pytest.mark.usefixtures("at_most_two")
def test_without_authentication_nobody_is_told_apart_and_nobody_is_limited(settings: Settings) -> None:
    ours = settings.APFLOW
    settings.APFLOW = replace(ours, auth=replace(ours.auth, enabled=False))
    queue(LOCAL, 3)
