"""A2A 1.0, data model: every object that the server sends has the fields of the protocol, and no other."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.a2a.a2a_client import BRIEF, ECHO, FAILING, TREE, Agent, Json, data, message, text
from tests.a2a.schemas import check

pytestmark = pytest.mark.both_engines_nightly

PARTS = [
    {"text": "hi"},
    {"raw": "aGk=", "filename": "hi.txt", "mediaType": "text/plain"},
    {"url": "https://example.com/hi.txt", "mediaType": "text/plain"},
    {"data": {"a": [1, None, True]}},
]
GIVEN = {
    "completed": data(TREE),
    "failed": data(FAILING),
    "asking": text("what?"),
    "parts": data({"skill": "echo_executor", "inputs": {"parts": PARTS}}),
    "number": data({"tasks": [{"name": "scripted", "schemas": {"method": "scripted_executor"}}]}),
}


def values_of(value: Any, name: str) -> Iterator[Any]:
    """What stands under this name, anywhere."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key == name:
                yield item
            if key not in ("data", "metadata"):
                yield from values_of(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from values_of(item, name)


@pytest.mark.requirement(
    "DM-TASK-001",
    "DM-TASK-002",
    "DM-MSG-001",
    "DM-MSG-002",
    "DM-PART-001",
    "DM-ART-001",
    "DM-STATUS-001",
    "DM-SERIAL-004",
)
@pytest.mark.parametrize("name", GIVEN)
def test_a_task_and_all_in_it_are_whole(alice: Agent, name: str) -> None:
    result = alice.call("SendMessage", {"message": GIVEN[name]})
    check(result, "SendMessageResponse")
    check(alice.get(result["task"]["id"]), "Task")
    found = {"contextId": result["task"]["contextId"], "includeArtifacts": True, "historyLength": 10}
    check(alice.call("ListTasks", found), "ListTasksResponse")


@pytest.mark.requirement("DM-SERIAL-001", "DM-SERIAL-002")
def test_names_are_in_camel_case_and_enumerations_by_name(alice: Agent) -> None:
    task = alice.send(data(TREE))
    names = {name for each in (task, *task["artifacts"]) for name in each} | task["metadata"].keys()
    assert all(re.fullmatch("[a-z]+([A-Z][a-z]+)*", name) for name in names), names
    assert set(values_of(task, "state")) == {"TASK_STATE_COMPLETED"}
    assert set(values_of(task, "role")) == {"ROLE_USER"}


@pytest.mark.requirement("DM-SERIAL-003")
def test_times_are_in_utc_and_say_so_with_z(alice: Agent) -> None:
    stream = alice.streamed("SendStreamingMessage", {"message": data(BRIEF)})
    times = list(values_of(stream, "timestamp"))
    assert len(times) >= 4
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time) for time in times)
    assert times == sorted(times)


@pytest.mark.requirement("DM-SERIAL-005")
def test_what_a_later_version_may_say_is_ignored(alice: Agent) -> None:
    part = {"data": ECHO, "novelty": 1}
    params = {"message": message(part, novelty=[2]), "configuration": {"novelty": {}}, "novelty": "x", "tenant": ""}
    task = alice.call("SendMessage", params)["task"]
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert "novelty" not in str(task)
    check(task, "Task")


@pytest.mark.parametrize("absent", ["contextId", "taskId", "metadata", "extensions", "referenceTaskIds"])
def test_null_and_the_empty_value_mean_absent(alice: Agent, absent: str) -> None:
    empty: Any = {"metadata": {}, "extensions": [], "referenceTaskIds": []}.get(absent, "")
    for value in (None, empty):
        assert alice.send(data(ECHO, **{absent: value}))["status"]["state"] == "TASK_STATE_COMPLETED"


@pytest.mark.parametrize("value", [None, 7, "text", [1], {"a": None}, True])
def test_data_is_any_json_value_and_comes_back_as_it_was_sent(alice: Agent, value: Any) -> None:
    asking = alice.send(data(value, metadata={"kept": None}))
    sent: Json = asking["history"][0]
    assert (sent["parts"], sent["metadata"]) == ([{"data": value}], {"kept": None})
