"""The flow of a check belongs to the owner of the tree: that of another user is not there."""

from typing import Any

import pytest

from accounts.callers import Caller
from tasks.rules.exceptions import InvalidParams
from tasks.services import flows, trees
from tests.tasks.trees import ALICE, BOB

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]

OK = [{"name": "echo_executor", "inputs": {"ok": True, "of": "{{run.inputs.value}}"}}]


def created(caller: Caller, flow: str) -> str:
    """Store a task whose output the flow checks. Returns why it is refused; empty if it is not."""
    task: dict[str, Any] = {"name": "echo_executor", "params": {"checks": [{"on": "output", "with": f"flow:{flow}"}]}}
    try:
        trees.create_tree(caller=caller, tasks=[task])
    except InvalidParams as error:
        return error.message
    return ""


def test_the_flow_of_another_user_is_refused_as_if_it_were_not_there() -> None:
    flows.save_flow(caller=ALICE, name="moderate", tasks=OK)
    assert created(ALICE, "moderate") == ""
    refused = created(BOB, "moderate")
    assert "you have no flow 'moderate'" in refused
    assert refused.replace("moderate", "absent") == created(BOB, "absent")
