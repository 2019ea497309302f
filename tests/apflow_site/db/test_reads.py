"""Reads that are short: compiled queries, in an event loop or on a thread, and instances of models without their constructor."""

from datetime import UTC, datetime

import pytest
from pytest_django import DjangoAssertNumQueries

from accounts.callers import LOCAL, Caller
from apflow_site.db import pools
from apflow_site.db.at_once import SHORT_BYTES, NotShort, at_once, is_at_once
from apflow_site.db.prepared import unsaved
from tasks.models import Task
from tasks.services import trees
from tasks.services.trees import queries

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_instance_without_the_constructor_is_as_with_it() -> None:
    now = datetime.now(UTC)
    values = {"id": "a", "root_id": "a", "user_id": "local", "name": "one", "created_at": now, "updated_at": now}
    made, other = unsaved(Task, values), Task(**values)
    assert {name: value for name, value in vars(made).items() if name != "_state"} == {
        name: value for name, value in vars(other).items() if name != "_state"
    }
    assert (made._state.adding, made._state.db) == (other._state.adding, other._state.db)
    assert made.dependencies is not unsaved(Task, values).dependencies  # no list that instances share
    made.save()
    assert Task.objects.get() == made


@pytest.mark.both_engines
def test_a_time_is_read_as_it_was_written() -> None:
    times = [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1999, 12, 31, 23, 59, 59, 100_000, tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ]
    for number, time in enumerate(times):
        Task.objects.create(
            id=str(number), root_id=str(number), user_id="local", name="one", created_at=time, updated_at=time
        )
    found = [*Task.objects.order_by("id").values_list("created_at", flat=True)]
    assert found == times
    assert {time.tzinfo for time in found} == {UTC}


@pytest.mark.both_engines
def test_a_page_of_roots_with_their_runs_takes_two_queries(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    ran = trees.execute_tree(caller=LOCAL, tasks={"name": "one"})
    trees.create_tree(caller=LOCAL, tasks={"name": "two"})
    with django_assert_num_queries(2):
        task_ids, _ = queries.list_tasks(caller=LOCAL)
        rows = queries.rows_with_ids(LOCAL, task_ids, summary=True, with_runs=True)
    runs = {row.id: row.run and (row.run.id, row.run.number, row.run.status) for row in rows}
    assert runs[ran.task.id] == (ran.run.id, 1, "pending")
    assert [run for task_id, run in runs.items() if task_id != ran.task.id] == [None]
    eve = Caller(user_id="eve")
    assert {row.run for row in queries.rows_with_ids(eve, task_ids, summary=True, with_runs=True)} == {None}


async def stored(inputs: dict[str, str], owner: Caller = LOCAL) -> str:
    created = await pools.write(trees.create_tree, caller=owner, tasks={"name": "one", "inputs": inputs})
    return created.root.id


async def test_a_short_row_is_read_in_the_event_loop_and_a_long_one_on_a_thread() -> None:
    short, long = await stored({"text": "x"}), await stored({"text": "x" * SHORT_BYTES})
    found = at_once(queries.rows_by_id, LOCAL, [short, long])
    assert found is not None
    assert [*found] == [short]
    on_thread = await pools.read(queries.rows_by_id, LOCAL, [short, long])
    assert {*on_thread} == {short, long}
    assert at_once(queries.list_tasks, caller=LOCAL) is None  # together they are too long
    task_ids, _ = await pools.read(queries.list_tasks, caller=LOCAL)
    assert {*task_ids} == {short, long}


async def test_the_event_loop_sees_what_has_just_been_committed_and_nothing_of_others() -> None:
    bob, eve = Caller(user_id="bob"), Caller(user_id="eve")
    for _ in range(20):
        task_id = await stored({}, bob)
        found = at_once(queries.rows_by_id, bob, [task_id])
        assert found is not None
        assert found[task_id].id == task_id
        assert at_once(queries.rows_by_id, eve, [task_id]) == {}


async def test_what_the_event_loop_may_not_do_is_left_to_a_thread() -> None:
    def refuse() -> None:
        raise NotShort

    assert at_once(refuse) is None
    assert at_once(Task.objects.count) is None
    assert not is_at_once()
