"""For which tasks of a stored tree a client is asked for a key."""

import pytest

from a2a.protocol.credentials import with_key
from accounts.callers import LOCAL
from aipartnerupflow.a2a import AskForKey, RunStored
from tasks.models import Task
from tasks.services import trees

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("is_over", [False, True])
def test_a_model_that_only_the_template_of_a_map_needs_needs_a_key_until_the_map_is_over(
    monkeypatch: pytest.MonkeyPatch, is_over: bool
) -> None:
    monkeypatch.delenv("MISTRAL_API_KEY", raising=False)
    echo = {"schemas": {"method": "echo_executor"}}
    model = {"schemas": {"method": "llm_executor"}, "inputs": {"model": "mistral/small", "prompt": "Hi."}}
    each = {"id": "each", "name": "Each", "parent_id": "group", "params": {"for_each": {"items": [1]}}}
    part = {"id": "part", "name": "Part", "parent_id": "each", "dependencies": ["ask"], **echo}
    group = {"id": "group", "name": "Group", "parent_id": "end"}
    tasks = [{"id": "end", "name": "End"}, {"id": "ask", "name": "Ask", "parent_id": "end", **model}, group, each, part]
    trees.create_tree(caller=LOCAL, tasks=tasks)
    if is_over:
        Task.objects.filter(id="each").update(status="completed", result=[])
        Task.objects.filter(id="part").update(status="skipped")
    decision = with_key(RunStored(task_id="group"), user_id=LOCAL.user_id, sent=None)
    assert isinstance(decision, RunStored if is_over else AskForKey)
