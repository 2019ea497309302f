"""No list calls a failed tree completed: roots have the status of their latest run, which is a filter; and lists are light."""

from typing import Any
from uuid import uuid4

import pytest

from tests.a2a.conftest import Rpc
from tests.servers import Server

pytestmark = pytest.mark.both_engines_nightly

Json = dict[str, Any]
ECHO: Json = {"schemas": {"method": "echo_executor"}}
JSON_FIELDS = {"inputs", "schemas", "params", "result"}


def grown(name: str, **child: Any) -> list[Json]:
    return [{"id": "all", "name": name}, {"id": "one", "name": "One", "parent_id": "all", **ECHO, **child}]


FAILING: Json = {"inputs": {"n": "{{run.inputs.n}}"}}


@pytest.fixture
def name() -> str:
    return f"night {uuid4().hex}"


def executed(rpc: Rpc, tasks: list[Json]) -> str:
    root_id: str = rpc("tasks.execute", {"tasks": tasks, "wait": True})["task_id"]
    return root_id


def names(found: list[Json], name: str) -> list[str]:
    return [task["id"] for task in found if task["name"] == name]


def test_a_root_has_the_status_of_its_latest_run(rpc: Rpc, name: str) -> None:
    root_id = executed(rpc, grown(name, **FAILING))
    (listed,) = rpc("tasks.list", {"name": name})
    assert (listed["status"], listed["run_status"], listed["run_number"]) == ("completed", "failed", 1)
    assert rpc("tasks.get", {"task_id": root_id})["run_status"] == "failed"
    assert rpc("tasks.tree", {"task_id": root_id})["run_status"] == "failed"
    rpc("tasks.execute", {"task_id": root_id, "run_inputs": {"n": 1}, "wait": True})
    (listed,) = rpc("tasks.list", {"name": name})
    assert (listed["run_status"], listed["run_number"]) == ("completed", 2)
    assert listed["run_id"] == rpc("runs.list", {"task_id": root_id})["runs"][0]["id"]


def test_before_its_first_run_it_has_none(rpc: Rpc, name: str) -> None:
    rpc("tasks.create", {"tasks": grown(name)})
    (listed,) = rpc("tasks.list", {"name": name})
    assert (listed["run_status"], listed["run_id"], listed["run_number"]) == (None, None, None)
    everything = rpc("tasks.list", {"root_only": False, "limit": 10})
    assert ["run_status" in task for task in everything if task["name"] == "One"][:1] == [False]


@pytest.mark.both_engines
def test_the_status_of_the_latest_run_is_a_filter(open_server: Server, rpc: Rpc, name: str) -> None:
    failed, mended, well = (executed(rpc, grown(name, **child)) for child in (FAILING, FAILING, {}))
    rpc("tasks.execute", {"task_id": mended, "run_inputs": {"n": 1}, "wait": True})
    assert names(rpc("tasks.list", {"run_status": "failed"}), name) == [failed]
    assert names(rpc("tasks.list", {"run_status": "completed"}), name) == [mended, well]  # the newest run first
    both = {"run_status": ["failed", "completed"], "name": name}
    assert names(rpc("tasks.list", both), name) == [mended, well, failed]
    assert names(rpc("tasks.list", both | {"order": "created_at"}), name) == [failed, well, mended]
    assert rpc("tasks.list", both | {"status": "failed"}) == []  # of the root itself
    first = rpc("tasks.list", both | {"limit": 2, "cursor": ""})
    rest = rpc("tasks.list", both | {"limit": 2, "cursor": first["next_cursor"]})
    assert [names(page["tasks"], name) for page in (first, rest)] == [[mended, well], [failed]]
    assert rest["next_cursor"] is None
    query: Json = {"run_status": ["failed", "completed"], "name": name, "limit": 2}
    by_rest = open_server.http.get("/api/tasks/", params=query).json()
    assert names(by_rest["tasks"], name) == [mended, well]


@pytest.mark.both_engines
def test_a_summary_is_light_and_counts(open_server: Server, rpc: Rpc, name: str) -> None:
    root_id = executed(rpc, grown(name, inputs={"x": "y" * 100_000}))
    (whole,), (light,) = (rpc("tasks.list", {"name": name, "summary": summary}) for summary in (False, True))
    assert whole.keys() >= JSON_FIELDS
    assert light == {key: value for key, value in whole.items() if key not in JSON_FIELDS} | {
        "task_counts": dict.fromkeys(("pending", "in_progress", "failed", "cancelled", "skipped"), 0) | {"completed": 2}
    }
    (by_rest,) = open_server.http.get("/api/tasks/", params={"name": name}).json()["tasks"]
    assert by_rest == light
    (asked,) = open_server.http.get("/api/tasks/", params={"name": name, "summary": "false"}).json()["tasks"]
    assert asked == whole
    response = open_server.http.get("/api/tasks/", params={"root_only": "false", "limit": 2})
    assert len(response.content) < 5_000
    shown = rpc("tasks.list", {"name": name, "summary": True}, path="/")
    assert [(task["metadata"]["task"]["id"], task["artifacts"]) for task in shown] == [(root_id, [])]


@pytest.mark.both_engines
def test_a_list_is_limited_to_a_time(open_server: Server, rpc: Rpc, name: str) -> None:
    root_id = executed(rpc, grown(name))
    (task,) = rpc("tasks.list", {"name": name})
    until = {"until": task["created_at"]}
    for given in ({"name": name}, {"name": name, "run_status": "completed"}, {"text": name}):
        assert [each["id"] for each in rpc("tasks.list", given | {"since": task["created_at"]})] == [root_id]
        assert rpc("tasks.list", given | until) == []
    query = {"name": name, "since": "2020-01-01"}
    assert len(open_server.http.get("/api/tasks/", params=query).json()["tasks"]) == 1
    assert open_server.http.get("/api/tasks/", params=query | until).json()["tasks"] == []


def test_fields_of_lists_are_chosen(open_server: Server, rpc: Rpc, name: str) -> None:
    root_id = executed(rpc, grown(name, inputs={"x": 1}))
    for fields in (["id", "run_status"], "id,run_status", "run_status, id"):
        assert rpc("tasks.list", {"name": name, "fields": fields}) == [{"id": root_id, "run_status": "completed"}]
    page = {"name": name, "fields": ["result", "task_counts"]}
    (by_rest,) = open_server.http.get("/api/tasks/", params=page).json()["tasks"]
    assert by_rest.keys() == {"result", "task_counts"}
    assert by_rest["task_counts"]["completed"] == 2
    (shown,) = rpc("tasks.list", {"name": name, "fields": "name,priority"}, path="/")
    assert (shown["metadata"]["task"], shown["artifacts"]) == ({"name": name, "priority": 2}, [])
    query = {"task_id": root_id, "fields": "status,task_id"}
    assert rpc("runs.list", query)["runs"] == [{"status": "completed", "task_id": root_id}]
    assert open_server.http.get("/api/runs/", params=query).json()["runs"] == rpc("runs.list", query)["runs"]
    reply = open_server.http.get("/api/runs/", params={"fields": ["id", "statsu"]})
    assert "'statsu': unknown field, did you mean 'status'?" in reply.json()["error"]["message"]


@pytest.mark.both_engines
def test_a_tag_and_a_text_of_an_error_find_trees_by_their_latest_run(rpc: Rpc, name: str) -> None:
    tagged = rpc("tasks.create", {"tasks": grown(name), "execute": True, "tags": [f"of:{name[6:]}"]})["id"]
    failed = executed(rpc, grown(name, **FAILING))

    def found(**given: Any) -> list[str]:
        return [task["id"] for task in rpc("tasks.list", {"cursor": "", "summary": True, **given})["tasks"]]

    assert found(tag=f"of:{name[6:]}") == [tagged]
    assert [task["id"] for task in rpc("tasks.list", {"tag": f"of:{name[6:]}"})] == [
        tagged
    ]  # as any list without cursor
    assert found(tag=f"of:{name[6:]}", run_status="failed") == []
    assert found(text=name) == found(text=name, order="created_at")[::-1] == [failed, tagged]
    assert found(tag=f"of:{name[6:]}", order="created_at") == [tagged]
    assert failed in found(text="run.inputs.n", run_status="failed")
    rpc("tasks.execute", {"task_id": failed, "run_inputs": {"n": 1}, "wait": True})
    assert failed not in found(text="run.inputs.n")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"text": "x", "offset": 1}, "offset"),
        ({"fields": ["id", "nmae"]}, "fields"),
        ({"fields": " , "}, "fields"),
        ({"since": "yesterday"}, "since"),
        ({"tag": "two words", "cursor": ""}, "tag"),
    ],
)
def test_a_search_is_refused_by_name(open_server: Server, given: Json, field: str) -> None:
    problems = open_server.call("tasks.list", given)["error"]["data"]
    assert field in [problem["field"] for problem in problems]
