from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import connection

from accounts.callers import Caller, Role
from tasks.models import IdempotencyKey, Run, Task
from tasks.rules.exceptions import InvalidParams, InvalidTree, TaskNotFound
from tasks.services.trees import create_tree, execute_task, execute_tree
from tasks.services.trees.editing import delete_task
from tasks.services.trees.idempotency import KEPT_HOURS, Token, keep_response, known_response, once
from tasks.services.upkeep.housekeeping import keep_house
from tests.tasks.trees import ALICE, BOB, finish, group, step

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]

TOKEN = Token(key="k", request_hash="h")
TREE = [group("root", parent=None), step("a")]


def age(hours: float) -> None:
    IdempotencyKey.objects.update(created_at=datetime.now(UTC) - timedelta(hours=hours))


def together(count: int, act: Callable[[], Any]) -> list[Any]:
    """What several threads get that act at the same time."""
    barrier = Barrier(count)

    def one() -> Any:
        try:
            barrier.wait(60)
            return act()
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(one) for _ in range(count)]]


def test_a_repeated_creation_is_the_first_one() -> None:
    first, second = (once(create_tree, caller=ALICE, token=TOKEN, tasks=TREE, execute=True) for _ in range(2))
    assert first.run is not None
    assert (first.root, first.ids, first.warnings, first.run) == (second.root, second.ids, second.warnings, second.run)
    assert first.tasks == second.tasks
    assert (Task.objects.count(), Run.objects.count()) == (2, 1)


def test_a_repeated_execution_is_the_same_run_even_when_it_is_over() -> None:
    first = once(execute_tree, caller=ALICE, token=TOKEN, tasks=TREE)
    finish(first.run)
    second = once(execute_tree, caller=ALICE, token=TOKEN, tasks=TREE)
    assert (first.task, first.run, first.ids, second.started) == (second.task, second.run, second.ids, True)
    again = Token(key="again", request_hash="h2")
    third, fourth = (once(execute_task, caller=ALICE, token=again, task_id="root") for _ in range(2))
    assert (third.run.number, fourth.run) == (2, third.run)


def test_without_a_token_each_is_another() -> None:
    first, second = (once(create_tree, caller=ALICE, token=None, tasks=TREE) for _ in range(2))
    assert first.root != second.root
    assert not IdempotencyKey.objects.exists()


def test_two_at_the_same_time_are_one() -> None:
    executions = together(6, lambda: once(execute_tree, caller=ALICE, token=TOKEN, tasks=TREE))
    assert len({each.run.id for each in executions}) == 1
    assert (Task.objects.count(), Run.objects.count()) == (2, 1)


def test_two_executions_of_one_tree_at_the_same_time_start_one_run() -> None:
    create_tree(caller=ALICE, tasks=TREE)
    executions = together(6, lambda: execute_task(caller=ALICE, task_id="root"))
    assert sorted(each.started for each in executions) == [False] * 5 + [True]
    assert Run.objects.count() == 1


@pytest.mark.parametrize("look", [known_response, lambda **kw: once(create_tree, tasks=TREE, **kw)])
def test_another_request_under_the_same_key_is_refused(look: Callable[..., Any]) -> None:
    once(create_tree, caller=ALICE, token=TOKEN, tasks=TREE)
    with pytest.raises(InvalidParams) as caught:
        look(caller=ALICE, token=Token(key="k", request_hash="other"))
    assert caught.value.problems[0][0] == "Idempotency-Key"
    assert Task.objects.count() == 2


@pytest.mark.parametrize("caller", [BOB, Caller(user_id="carol", role=Role.ADMIN)])
def test_everybody_has_keys_of_their_own(caller: Caller) -> None:
    first = once(create_tree, caller=ALICE, token=TOKEN, tasks=TREE)
    assert known_response(caller=caller, token=TOKEN) is None
    assert once(create_tree, caller=caller, token=TOKEN, tasks=TREE).root != first.root


def test_what_was_refused_may_be_tried_again() -> None:
    for _ in range(2):
        with pytest.raises(InvalidTree):
            once(create_tree, caller=ALICE, token=TOKEN, tasks=[])
    assert not IdempotencyKey.objects.exists()
    assert once(create_tree, caller=ALICE, token=Token(key="k", request_hash="h2"), tasks=TREE).root.id == "root"


def test_the_first_response_is_kept() -> None:
    once(create_tree, caller=ALICE, token=TOKEN, tasks=TREE)
    assert known_response(caller=ALICE, token=TOKEN) is None
    assert keep_response(caller=ALICE, token=TOKEN, response={"x": [1]}) == {"x": [1]}
    assert keep_response(caller=ALICE, token=TOKEN, response={"x": [2]}) == {"x": [1]}
    assert known_response(caller=ALICE, token=TOKEN) == {"x": [1]}


def test_a_key_is_good_for_24_hours() -> None:
    once(create_tree, caller=ALICE, token=TOKEN, tasks=TREE)
    keep_response(caller=ALICE, token=TOKEN, response={})
    age(KEPT_HOURS - 0.1)
    keep_house()
    assert known_response(caller=ALICE, token=TOKEN) == {}
    age(KEPT_HOURS + 0.1)
    assert known_response(caller=ALICE, token=TOKEN) is None
    assert once(create_tree, caller=ALICE, token=TOKEN, tasks=TREE).root.id != "root"
    age(KEPT_HOURS + 0.1)
    keep_house()
    assert not IdempotencyKey.objects.exists()


def test_a_tree_that_was_deleted_since_is_not_found() -> None:
    once(execute_task, caller=ALICE, token=TOKEN, task_id=create_tree(caller=ALICE, tasks=TREE).root.id)
    Run.objects.update(finished_at=datetime.now(UTC))
    delete_task(caller=ALICE, task_id="root")
    with pytest.raises(TaskNotFound):
        once(execute_task, caller=ALICE, token=TOKEN, task_id="root")
