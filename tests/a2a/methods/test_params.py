from typing import Any

import pytest

from a2a.core.parsing import EventId, Params
from a2a.methods import METHODS, SYSTEM_METHODS
from a2a.methods.crud import Create
from a2a.methods.execute import Execute
from a2a.methods.notifications import SetNotification
from a2a.methods.params import Get
from a2a.methods.queries import GetTree as Tree
from a2a.methods.queries import ListTasks as List
from a2a.methods.schedules import PreviewSchedule
from tasks.rules.exceptions import InvalidParams
from tasks.status import Status

ONE = {"name": "a"}
HOOK = {"url": "https://example.com/hook"}


@pytest.mark.parametrize(
    ("kind", "given", "field", "reason"),
    [
        (Get, {}, "task_id", "required"),
        (Get, {"task_id": None}, "task_id", "required"),
        (Get, {"task_id": 7}, "task_id", "expected string, got integer"),
        (Get, {"task_id": ""}, "task_id", "expected string of length >= 1"),
        (Get, {"task_id": "x" * 256}, "task_id", "expected string of length <= 255"),
        (Get, {"taskid": "a"}, "taskid", "unknown parameter, did you mean 'task_id'?"),
        (Get, {"task_id": "a", "verbose": True}, "verbose", "unknown parameter, known are task_id, id"),
        (Get, {"task_id": "a", "id": "b"}, "id", "is an alias of 'task_id', but has another value"),
        (Get, ["a"], "params", "must be an object with the parameters by name"),
        (Tree, {"root_id": "a", "id": "b"}, "id", "is an alias of 'root_id', but has another value"),
        (List, {"user_id": 7}, "user_id", "expected string or null, got integer"),
        (List, {"limit": 0}, "limit", "expected integer >= 1"),
        (List, {"limit": 1001}, "limit", "expected integer <= 1000"),
        (List, {"limit": True}, "limit", "expected integer, got boolean"),
        (List, {"offset": -1}, "offset", "expected integer >= 0"),
        (List, {"order": "name"}, "order", "expected one of -created_at, created_at"),
        (SetNotification, {"name": "a", "about": ["answers"]}, "about[0]", "expected one of failures, questions"),
        (
            List,
            {"status": "done"},
            "status",
            "expected one of pending, in_progress, completed, failed, cancelled, skipped",
        ),
        (
            List,
            {"status": ["failed", "done"]},
            "status[1]",
            "expected one of pending, in_progress, completed, failed, cancelled, skipped",
        ),
        (
            List,
            {"cursor": "", "offset": 5},
            "offset",
            "cannot be combined with cursor, which already contains the position",
        ),
        (Create, {}, "tasks", "required"),
        (
            Create,
            {"tasks": [ONE], "name": "a"},
            "name",
            "unknown parameter, known are tasks, id_conflict, execute, tags, webhook_config",
        ),
        (
            Create,
            {"tasks": [ONE], "webhook_config": HOOK},
            "webhook_config",
            "only with execute: without a run there are no events",
        ),
        (Execute, {"tasks": [ONE], "webhook_config": {}}, "webhook_config.url", "required"),
        (Execute, {"tasks": [ONE], "webhook_config": "x"}, "webhook_config", "expected object or null, got string"),
        (
            Execute,
            {"tasks": [ONE], "webhook_config": HOOK | {"methd": "PUT"}},
            "webhook_config.methd",
            "unknown parameter, did you mean 'method'?",
        ),
        (
            Execute,
            {"tasks": [ONE], "webhook_config": HOOK | {"method": "GET"}},
            "webhook_config.method",
            "expected one of PATCH, POST, PUT",
        ),
        (
            Execute,
            {"tasks": [ONE], "webhook_config": HOOK | {"token": ""}},
            "webhook_config.token",
            "must be 1 to 4,096 printable ASCII characters",
        ),
        (
            Execute,
            {"tasks": [ONE], "webhook_config": HOOK | {"headers": {"Host": "x"}}},
            "webhook_config.headers.Host",
            "is set by the server: leave it out",
        ),
        (
            Execute,
            {"tasks": [ONE], "webhook_config": HOOK | {"headers": {"X-A": 1}}},
            "webhook_config.headers[...]",
            "expected string, got integer",
        ),
        (Create, {"tasks": [ONE], "id_conflict": "replace"}, "id_conflict", "expected one of error, rename"),
        (Create, "tasks", "params", "must be an object with the parameters by name"),
        (Execute, {}, "tasks", "required, or task_id for a stored task"),
        (Execute, {"tasks": [ONE], "task_id": "a"}, "task_id", "cannot be combined with tasks: send one of them"),
        (
            Execute,
            {"tasks": [ONE], "copy_execution": True},
            "copy_execution",
            "only with task_id: new tasks need no copy",
        ),
        (Execute, {"id": "a", "copy_children": True}, "copy_children", "only with copy_execution"),
        (
            Execute,
            {"id": "a", "wait": True, "use_streaming": True},
            "wait",
            "cannot be combined with use_streaming: choose one",
        ),
        (Execute, {"id": "a", "wait_timeout_seconds": 3601}, "wait_timeout_seconds", "expected number <= 3600.0"),
        (Execute, {"id": "a", "last_event_id": 3}, "last_event_id", "only with use_streaming"),
        (
            Execute,
            {"tasks": [ONE], "use_streaming": True, "last_event_id": 3},
            "last_event_id",
            "resume with the task_id of the reply; this request would start another run",
        ),
        (
            Execute,
            {"id": "a", "copy_execution": True, "use_streaming": True, "last_event_id": 3},
            "last_event_id",
            "resume with the task_id of the reply; this request would start another run",
        ),
        (
            Execute,
            {"id": "a", "hurry": {}},
            "hurry",
            "unknown parameter, known are use_streaming, tags, use_demo, last_event_id, wait, wait_timeout_seconds, webhook_config, "
            "run_inputs, replace_inputs, tasks, task_id, id_conflict, copy_execution, copy_children, id",
        ),
    ],
)
def test_a_wrong_parameter_is_named_with_the_reason(kind: type[Params], given: Any, field: str, reason: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        kind.parse(given)
    assert caught.value.problems == [(field, reason)]
    assert caught.value.data == [{"field": field, "reason": reason}]


def test_all_unknown_parameters_are_named_at_once() -> None:
    with pytest.raises(InvalidParams) as caught:
        List.parse({"limitt": 1, "statos": "failed"})
    assert [field for field, _ in caught.value.problems] == ["limitt", "statos"]


def test_many_long_names_are_cut_short() -> None:
    with pytest.raises(InvalidParams) as caught:
        List.parse({f"{number}" + "x" * 10_000: 1 for number in range(1000)})
    assert len(caught.value.problems) == 100
    assert max(len(field) for field, _ in caught.value.problems) == 100


@pytest.mark.parametrize("name", ["task_id", "id"])
def test_a_task_has_more_than_one_name(name: str) -> None:
    assert Get.parse({name: "a"}).task_id == Execute.parse({name: "a"}).task_id == "a"


@pytest.mark.parametrize("name", ["task_id", "id", "root_id"])
def test_a_tree_has_one_name_more(name: str) -> None:
    assert Tree.parse({name: "a"}).task_id == "a"


def test_the_same_value_under_two_names_is_fine() -> None:
    assert Get.parse({"task_id": "a", "id": "a"}).task_id == "a"


@pytest.mark.parametrize("given", [ONE, [ONE], {"tasks": [ONE]}, {"tasks": ONE}])
def test_tasks_are_created_from_an_object_a_list_or_one_task(given: Any) -> None:
    assert Create.parse(given).tasks in (ONE, [ONE])


@pytest.mark.parametrize(
    ("given", "statuses"),
    [
        (None, ()),
        ("failed", (Status.FAILED,)),
        (["failed", "pending"], (Status.FAILED, Status.PENDING)),
        ([], ()),
    ],
)
def test_a_status_is_one_or_a_list(given: Any, statuses: tuple[Status, ...]) -> None:
    assert List.parse({"status": given}).statuses == statuses


def test_null_stands_for_the_default() -> None:
    assert List.parse({"limit": None, "cursor": None, "root_only": None}) == List()


def test_an_empty_cursor_is_not_an_absent_one() -> None:
    assert List.parse({"cursor": ""}).cursor == ""


@pytest.mark.parametrize(
    ("given", "event_id"),
    [(17, EventId(seq=17)), ("17", EventId(seq=17)), ("17:0198-ab", EventId(seq=17, run_id="0198-ab"))],
)
def test_an_event_id_is_a_number_perhaps_as_text_perhaps_with_its_run(given: Any, event_id: EventId) -> None:
    assert Execute.parse({"id": "a", "use_streaming": True, "last_event_id": given}).after == event_id
    assert str(event_id) == str(given)


@pytest.mark.parametrize("given", ["", "x", "-1", "1.5", "١", "9" * 19, -1, "17:", ":a", "17:a b", "17:\0", "x:a"])
def test_other_texts_are_not_event_ids(given: Any) -> None:
    with pytest.raises(InvalidParams, match="must be the id of an event"):
        EventId.parse(given)


def test_every_parameter_object_refuses_what_it_does_not_know() -> None:
    kinds = {method.params for method in [*METHODS.values(), *SYSTEM_METHODS.values()]}
    assert all(kind.__struct_config__.forbid_unknown_fields and kind.__struct_config__.frozen for kind in kinds)


def test_one_task_is_known_by_any_of_its_fields() -> None:
    """So that the check of its fields, which knows better, names the misspelt one."""
    task = {"nam": "a", "priority": 9}
    assert Create.named(task) == {"tasks": task}


@pytest.mark.parametrize("sent", [60, 60.0])
def test_a_whole_number_with_a_point_is_an_integer(sent: float) -> None:
    parsed = PreviewSchedule.parse({"every_seconds": sent})
    assert (parsed.every_seconds, type(parsed.every_seconds)) == (60, int)


def test_another_number_with_a_point_is_none() -> None:
    with pytest.raises(InvalidParams, match="every_seconds: expected integer or null, got number"):
        PreviewSchedule.parse({"every_seconds": 60.5})
