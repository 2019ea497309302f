"""A stored tree that is edited as a new one has the ids that it was sent with, also where others are stored."""

from typing import Any

import pytest

from accounts.callers import LOCAL
from tasks.models import Task
from tasks.services import trees
from tasks.services.trees.copies import copy_tree
from tasks.services.trees.persist import written_down

pytestmark = pytest.mark.django_db(transaction=True)
ECHO: dict[str, Any] = {"schemas": {"method": "echo_executor"}}
SENT: list[dict[str, Any]] = [
    {"id": "end", "name": "End", "inputs": {"n": "{{t.a.n}}", "m": "{{named.x}}"}, **ECHO}
    | {"dependencies": ["t", {"id": "other", "required": True, "as": "named"}]},
    {"id": "other", "name": "Other", "parent_id": "end", "inputs": {"x": 1}, **ECHO},
    {
        "id": "t",
        "name": "T",
        "parent_id": "end",
        "params": {"repeat": {"until": {"path": "/a/n", "op": "ge", "value": 2}}},
    },
    {"id": "a", "name": "A", "parent_id": "t", "inputs": {"n": "{{round}}"}, **ECHO},
    {"id": "b", "name": "B", "parent_id": "t", "inputs": {"of": "{{a.n}}"}, "dependencies": ["a"], **ECHO},
]


def stored(root_id: str) -> list[Task]:
    return list(Task.objects.tree(root_id))


def test_it_has_the_ids_of_its_request() -> None:
    first, second = (trees.create_tree(caller=LOCAL, tasks=SENT).root for _ in range(2))
    assert first.id == "end"
    assert second.id != "end"
    assert written_down(stored(first.id)) == written_down(stored(second.id)) == SENT


def test_a_copy_has_them_too() -> None:
    trees.create_tree(caller=LOCAL, tasks=SENT)
    second = trees.create_tree(caller=LOCAL, tasks=SENT).root
    copy = copy_tree(caller=LOCAL, task_id=second.id, children=True).root
    assert [task["id"] for task in written_down(stored(copy.id))] == [task["id"] for task in SENT]
