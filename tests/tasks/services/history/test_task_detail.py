from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tasks.models import Run, Task, TaskEvent
from tasks.rules.exceptions import TaskNotFound
from tasks.services.history.task_detail import EVENTS_SHOWN, detail
from tasks.status import Status
from tests.tasks.trees import ALICE, BOB, ROOT, ends, finish, start, step, store

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]


def events(run: Run, *task_ids: str) -> None:
    TaskEvent.objects.bulk_create(
        TaskEvent(run_id=run.id, seq=seq, type="log", task_id=each, payload={"seq": seq}, created_at=run.created_at)
        for seq, each in enumerate(task_ids, 1)
    )


def test_a_task_is_shown_with_what_surrounds_it() -> None:
    store(ROOT, step("a"), step("b", "a"), step("c", {"id": "a", "required": False}), step("below", parent="a"))
    found = detail(caller=ALICE, task_id="a")
    assert (found.task.id, found.run, found.events) == ("a", None, [])
    assert [each.id for each in found.children] == ["below"]
    assert [each.id for each in found.dependants] == ["b", "c"]
    assert (found.queued_seconds, found.run_seconds) == (None, None)


def test_inputs_are_shown_as_the_executor_gets_them() -> None:
    schema = {"input_schema": {"type": "object", "properties": {"y": {"type": "number"}}}}
    store(ROOT, step("done"), step("open"), step("a", "done", "open", inputs={"x": 0}, schemas=schema))
    ends(Status.COMPLETED, "done", result={"y": 1, "z": 2})
    assert detail(caller=ALICE, task_id="a").resolved_inputs == {"x": 0, "y": 1, "done": {"y": 1, "z": 2}}


def test_the_events_are_the_last_hundred_of_the_task_in_the_latest_run() -> None:
    store(ROOT, step("a"))
    first = start()
    events(first, "a", "a")
    finish(first)
    second = start()
    events(second, "root", *["a"] * (EVENTS_SHOWN + 20))
    found = detail(caller=ALICE, task_id="a")
    assert found.run == second
    assert [event["seq"] for event in found.events] == list(range(22, 122))
    assert [event["seq"] for event in detail(caller=ALICE, task_id="root").events] == [1]


def test_times_are_counted_from_the_run_in_which_the_task_ran() -> None:
    store(ROOT, step("a"), step("b"))
    run = start()
    waiting = detail(caller=ALICE, task_id="a")
    assert waiting.run_seconds is None
    assert waiting.queued_seconds is not None
    started_at = run.created_at + timedelta(seconds=2)
    Task.objects.filter(id="a").update(
        status=Status.COMPLETED, started_at=started_at, completed_at=started_at + timedelta(seconds=1.5)
    )
    finish(run)
    later = start()
    Run.objects.filter(id=later.id).update(created_at=run.created_at + timedelta(days=1))
    ran = detail(caller=ALICE, task_id="a")
    assert (ran.queued_seconds, ran.run_seconds) == (2.0, 1.5)


def test_another_ones_task_is_not_found() -> None:
    store(ROOT)
    with pytest.raises(TaskNotFound):
        detail(caller=BOB, task_id="root")


def test_a_task_with_thousands_of_children_takes_no_larger_queries() -> None:
    store(ROOT, step("a"), *(step(f"c{n}", parent="a") for n in range(1_100)), step("b"), step("one", parent="b"))
    texts = []
    for task_id in ("a", "b"):
        with CaptureQueriesContext(connection) as captured:
            detail(caller=ALICE, task_id=task_id)
        texts.append([query["sql"].replace(f"'{task_id}'", "") for query in captured])
    large, small = texts
    assert (len(large), max(map(len, large))) == (len(small), max(map(len, small)))
