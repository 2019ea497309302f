"""A tree that is deleted while something else is done with it: each statement may be the last that finds it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from django.db import OperationalError, connection

from apflow_site.db.connections import IS_SQLITE
from tasks.models import Run, Task
from tasks.rules.exceptions import RunNotFound, TaskNotFound
from tasks.services import flows, trees
from tasks.services.messages import webhooks
from tasks.services.runs import cancels
from tasks.services.trees import copies, editing, forks
from tasks.status import Status
from tests.tasks.trees import ALICE, ROOT, ends, finish, start, step, store

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
MOST_STATEMENTS = 60


def stored() -> Run:
    store(ROOT, step("a", inputs={"x": 1}), step("b", "a"))
    run = start()
    ends(Status.COMPLETED, "root", "a", "b", result={"x": 1})
    finish(run)
    return run


def delete() -> None:
    """Delete the tree from another connection, unless the test's transaction has locked it."""
    try:
        if not IS_SQLITE:
            connection.cursor().execute("SET lock_timeout = 20")
        with suppress(OperationalError):
            editing.delete_task(caller=ALICE, task_id="root", force=True)
    finally:
        connection.close()


@pytest.mark.parametrize(
    "act",
    [
        lambda _run: copies.copy_tree(caller=ALICE, task_id="a"),
        lambda _run: forks.fork(caller=ALICE, task_id="a", start=(), inputs={}),
        lambda _run: trees.execute_task(caller=ALICE, task_id="root", copy_execution=True),
        lambda _run: cancels.ask(caller=ALICE, task_ids=["root", "a"], force=False, message="No longer"),
        lambda _run: flows.save_flow(caller=ALICE, name="tea", task_id="root"),
        lambda run: webhooks.add_webhook(run=run, url="https://example.com/"),
    ],
    ids=["copy", "fork", "execute a copy", "cancel", "save a flow", "add a webhook"],
)
def test_a_tree_may_be_deleted_before_any_statement(act: Callable[[Run], Any]) -> None:
    """On SQLite one transaction ends before the other one begins."""
    for moment in range(1 if IS_SQLITE else MOST_STATEMENTS):
        run = stored()
        before = _Before(moment, delete)
        with connection.execute_wrapper(before), suppress(TaskNotFound, RunNotFound):
            act(run)
        Task.objects.all().delete()
        Run.objects.all().delete()
        if before.statements <= moment:
            break
    else:
        assert IS_SQLITE, "more statements than were tried"


class _Before:
    """Calls a function in another thread before one of the statements."""

    def __init__(self, moment: int, act: Callable[[], None]) -> None:
        self._moment = moment
        self._act = act
        self.statements = 0

    def __call__(self, proceed: Callable[..., Any], *query: Any) -> Any:
        if self.statements == self._moment:
            with ThreadPoolExecutor(1) as other:
                other.submit(self._act).result(timeout=60)
        self.statements += 1
        return proceed(*query)
