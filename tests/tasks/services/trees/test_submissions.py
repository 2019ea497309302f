"""Submissions that share a transaction: each gets what it would have got alone."""

import asyncio
from typing import Any

import pytest
from django.db import connection
from django_q.models import OrmQ
from pytest_django import Settings

from accounts.callers import Caller, Role
from tasks.models import Run, Task
from tasks.rules.exceptions import ExecutorNotFound, LimitReached
from tasks.services.trees import RENAME, Execution
from tasks.services.trees.submissions import Outcomes, Submission, execute_trees, submit
from tests.tasks.services.test_limits_of_users import MOST, limited

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
ALICE, ADMIN = Caller(user_id="alice"), Caller(user_id="admin", role=Role.ADMIN)


def submission(task: dict[str, Any], *, caller: Caller = ALICE) -> Submission:
    return Submission(caller=caller, tasks=[{"name": "echo_executor"} | task], id_conflict=RENAME)


def executed(*submissions: Submission) -> list[Execution | Exception]:
    outcomes: Outcomes = execute_trees("", submissions)
    return [outcomes[each] for each in submissions]


def test_many_take_as_many_statements_as_one_and_a_question_for_their_turns() -> None:
    connection.ensure_connection()
    seen = list[str]()

    def note(execute: Any, sql: str, *rest: Any) -> Any:
        seen.append(sql.split()[0])
        return execute(sql, *rest)

    with connection.execute_wrapper(note):
        executed(*(submission({}) for _ in range(10)))
    savepoints = {"BEGIN", "SAVEPOINT", "RELEASE"}
    assert [word for word in seen if word not in savepoints] == ["INSERT", "SELECT", "INSERT", "INSERT"]
    assert Task.objects.count() == Run.objects.count() == OrmQ.objects.count() == 10
    assert sorted(Run.objects.values_list("turn", flat=True)) == list(range(1, 11))


def test_a_bad_one_fails_alone_with_its_own_error() -> None:
    first, bad, last = executed(submission({}), submission({"schemas": {"method": "unknown"}}), submission({}))
    assert isinstance(bad, ExecutorNotFound)
    assert isinstance(first, Execution)
    assert isinstance(last, Execution)
    assert set(Run.objects.values_list("root_id", flat=True)) == {first.task.id, last.task.id}


def test_one_that_the_database_refuses_leaves_the_others_alone() -> None:
    first, second, third = executed(submission({"id": "same"}), submission({"id": "same"}), submission({}))
    assert isinstance(first, Execution)
    assert isinstance(second, Execution)
    assert isinstance(third, Execution)
    assert first.ids == {"same": "same"}
    assert second.ids == {"same": second.task.id} != first.ids
    assert sorted(Run.objects.values_list("turn", flat=True)) == [1, 2, 3]
    assert set(Run.objects.values_list("root_id", flat=True)) == {each.task.id for each in (first, second, third)}


def test_each_owner_has_turns_of_their_own() -> None:
    executed(*(submission({"user_id": name}, caller=ADMIN) for name in ("alice", "bob", "alice")))
    assert sorted(Run.objects.values_list("user_id", "turn")) == [("alice", 1), ("alice", 2), ("bob", 1)]


def test_together_they_do_not_pass_the_limit_of_a_user(settings: Settings) -> None:
    limited(settings, runs_per_user=MOST)
    outcomes = executed(*(submission({}) for _ in range(MOST + 2)))
    assert [type(each) for each in outcomes] == [Execution] * MOST + [LimitReached] * 2
    assert Run.objects.count() == MOST


async def test_each_that_is_submitted_at_once_gets_its_own_run() -> None:
    names = [f"tree {number}" for number in range(20)]
    tasks = [[{"name": name, "schemas": {"method": "echo_executor"}}] for name in names]
    executions = await asyncio.gather(*(submit(caller=ALICE, tasks=each) for each in tasks))
    assert [each.task.name for each in executions] == names
    assert [each.run.root_id for each in executions] == [each.task.id for each in executions]
    with pytest.raises(ExecutorNotFound):
        await submit(caller=ALICE, tasks=[{"name": "x", "schemas": {"method": "unknown"}}])
