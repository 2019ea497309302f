"""`runs.*` and `tasks.fork` on a real server: what ran, how it went, what differs, and again from the middle."""

from typing import Any
from uuid import uuid4

import pytest

from tests.a2a.conftest import Rpc
from tests.a2a.rest.test_rest import as_
from tests.servers import Server

pytestmark = pytest.mark.both_engines_nightly

Json = dict[str, Any]
ECHO: Json = {"schemas": {"method": "echo_executor"}}


def report(name: str) -> list[Json]:
    """A tree of which one task fails: `use` needs a member that `fetch` does not return."""
    return [
        {"id": "all", "name": name},
        {"id": "fetch", "name": "Fetch", "parent_id": "all", "inputs": {"rows": 3}, **ECHO},
        {"id": "use", "name": "Use", "parent_id": "all", "dependencies": ["fetch"], **ECHO}
        | {"inputs": {"n": "{{fetch.number}}"}},
        {"id": "after", "name": "After", "parent_id": "all", "dependencies": ["use"], **ECHO},
    ]


def executed(rpc: Rpc, **params: Any) -> Json:
    answer: Json = rpc("tasks.execute", params | {"wait": True})
    return answer


def runs_of(rpc: Rpc, **params: Any) -> list[Json]:
    found: list[Json] = rpc("runs.list", params)["runs"]
    return found


def statuses(tree: Json) -> Json:
    return {child["name"]: child["status"] for child in tree["children"]}


def test_a_failed_run_says_so_and_names_the_cause(rpc: Rpc) -> None:
    name = f"report {uuid4()}"
    root = executed(rpc, tasks=report(name))["task_id"]
    (run,) = runs_of(rpc, task_id=root)
    assert (run["name"], run["status"], run["number"], run["root_task_id"]) == (name, "failed", 1, root)
    detail = rpc("runs.get", {"run_id": run["id"]})
    assert {field: detail[field] for field in run} == run
    cause, after = detail["failures"]
    assert (cause["name"], "number" in cause["error"], "not_run" in cause) == ("Use", True, False)
    assert (after["name"], after["not_run"], after["cause_id"]) == ("After", True, cause["task_id"])
    assert (detail["inputs"], detail["parent_run"]) == ({}, None)


@pytest.mark.both_engines
def test_each_run_of_a_tree_keeps_its_history(rpc: Rpc) -> None:
    tasks = [
        {"id": "all", "name": "All"},
        {"id": "a", "name": "A", "parent_id": "all", "inputs": {"of": "{{run.inputs.day}}"}, **ECHO},
        {"id": "b", "name": "B", "parent_id": "all", "inputs": {"of": "{{run.inputs.night}}"}, **ECHO},
    ]
    root = executed(rpc, tasks=tasks, run_inputs={"day": 1})["task_id"]
    executed(rpc, task_id=root, run_inputs={"night": 2})
    second, first = runs_of(rpc, task_id=root)
    assert [run["status"] for run in (first, second)] == ["failed", "completed"]
    then, now = (rpc("runs.tree", {"run_id": run["id"]}) for run in (first, second))
    assert statuses(then["tree"]) == {"A": "completed", "B": "failed"}
    assert statuses(now["tree"]) == {"A": "completed", "B": "completed"}
    failed = then["tree"]["children"][1]
    assert (failed["result"], "night" in failed["error"]) == (None, True)
    assert then["warnings"] == now["warnings"] == []
    whole = rpc("runs.export", {"run_id": first["id"], "events": True})
    assert whole["tree"] == then["tree"]
    assert (whole["run"]["inputs"], whole["run"]["failures"][0]["name"]) == ({"day": 1}, "B")
    assert [event["seq"] for event in whole["events"]] == list(range(1, len(whole["events"]) + 1))
    assert (whole["events"][-1]["type"], "events" in rpc("runs.export", {"run_id": first["id"]})) == ("final", False)
    compared = rpc("runs.compare", {"a": first["id"], "b": second["id"], "changed_only": True})
    assert (compared["a"]["inputs"], compared["b"]["inputs"]) == ({"day": 1}, {"day": 1, "night": 2})
    assert {pair["name"]: pair["changed"] for pair in compared["tasks"]} == {"B": ["status", "result", "error"]}


def test_a_further_run_has_the_inputs_of_the_one_before(rpc: Rpc) -> None:
    task = {"name": "Say", "inputs": {"of": "{{run.inputs.who}}", "fails": "{{run.inputs.more}}"}, **ECHO}
    root = executed(rpc, tasks=task, run_inputs={"who": "you"})["task_id"]
    assert executed(rpc, task_id=root)["status"] == "failed"
    assert [rpc("runs.get", {"run_id": run["id"]})["inputs"] for run in runs_of(rpc, task_id=root)] == [
        {"who": "you"}
    ] * 2
    assert executed(rpc, task_id=root, run_inputs={"more": 1})["task"]["result"]["of"] == "you"
    fork = {"task_id": root, "run_inputs": {"more": 2}, "wait": True}
    assert rpc("tasks.fork", fork)["task"]["result"] == {"of": "you", "fails": 2}
    assert rpc("tasks.fork", fork | {"replace_inputs": True})["status"] == "failed"


@pytest.mark.both_engines
def test_new_inputs_for_a_completed_tree_are_refused_and_nothing_is_stored(open_server: Server, rpc: Rpc) -> None:
    tasks = [
        {"id": "all", "name": "All"},
        {"id": "say", "name": "Say", "parent_id": "all", "inputs": {"of": "{{run.inputs.who}}"}, **ECHO},
        {"id": "late", "name": "Late", "parent_id": "all", "inputs": {"of": "{{run.inputs.more}}"}, **ECHO},
    ]
    started = executed(rpc, tasks=tasks, run_inputs={"who": "you"})
    root, say = started["task_id"], started["ids"]["say"]
    given = {"task_id": say, "run_inputs": {"who": "me"}}
    for part in (given, given | {"run_inputs": {}, "replace_inputs": True}):
        (problem,) = open_server.call("tasks.execute", part)["error"]["data"]
        assert (problem["field"], "tasks.fork" in problem["reason"]) == ("run_inputs", True)
    by_rest = open_server.http.post(f"/api/tasks/{say}/execute/", json={"run_inputs": {"who": "me"}})
    assert (by_rest.status_code, "tasks.fork" in by_rest.text) == (400, True)
    assert len(runs_of(rpc, task_id=root)) == 1
    assert executed(rpc, task_id=root, run_inputs={"more": 1})["status"] == "completed"
    assert "error" in open_server.call("tasks.execute", given | {"task_id": root})
    assert executed(rpc, task_id=root)["status"] == "completed"
    copied = executed(rpc, **given | {"task_id": root}, copy_execution=True, copy_children=True)
    assert {child["result"]["of"] for child in copied["task"]["children"]} == {"me", 1}
    forked = rpc("tasks.fork", given | {"task_id": root, "from_tasks": [say], "wait": True})
    assert {child["result"]["of"] for child in forked["task"]["children"]} == {"me", 1}


def test_new_inputs_reach_skipped_tasks_of_a_completed_tree(rpc: Rpc) -> None:
    condition = {"when": {"task": "run", "path": "/inputs/who", "op": "exists"}}
    tasks = [
        {"id": "all", "name": "All"},
        {"name": "Say", "parent_id": "all", "params": condition, "inputs": {"of": "{{run.inputs.who}}"}, **ECHO},
    ]
    root = executed(rpc, tasks=tasks)["task_id"]
    ran = executed(rpc, task_id=root, run_inputs={"who": "me"})
    assert [child["result"] for child in ran["task"]["children"]] == [{"of": "me"}]


@pytest.mark.both_engines
def test_lists_are_filtered_and_paged(open_server: Server, rpc: Rpc) -> None:
    name = f"paged {uuid4().hex}"
    rpc("flows.save", {"name": name.replace(" ", "-"), "tasks": {"name": name, **ECHO}})
    for _ in range(3):
        rpc("flows.run", {"name": name.replace(" ", "-"), "wait": True})
    found = runs_of(rpc, flow=name.replace(" ", "-"))
    assert [run["flow"]["version"] for run in found] == [1, 1, 1]
    assert runs_of(rpc, flow=name.replace(" ", "-"), status="failed") == []
    first = rpc("runs.list", {"flow": name.replace(" ", "-"), "limit": 2})
    rest = rpc("runs.list", {"flow": name.replace(" ", "-"), "limit": 2, "cursor": first["next_cursor"]})
    assert (first["runs"] + rest["runs"], rest["next_cursor"]) == (found, None)
    newest, oldest = found[0]["created_at"], found[-1]["created_at"]
    between = runs_of(rpc, since=oldest, until=newest, status=["completed", "failed"], limit=1000)
    assert [run for run in between if run["name"] == name] == found[1:]
    everything = rpc("runs.list", {"limit": 2})
    pages = everything["runs"] + rpc("runs.list", {"limit": 2, "cursor": everything["next_cursor"]})["runs"]
    assert pages == runs_of(rpc, limit=4)
    assert [run["created_at"] for run in pages] == sorted((run["created_at"] for run in pages), reverse=True)
    by_rest = open_server.http.get("/api/runs/", params={"flow": name.replace(" ", "-"), "limit": 2}).json()
    assert by_rest == first
    task_id = found[0]["root_task_id"]
    assert open_server.http.get(f"/api/tasks/{task_id}/runs/").json()["runs"] == found[:1]
    detail = open_server.http.get(f"/api/runs/{found[0]['id']}/").json()
    assert detail == rpc("runs.get", {"run_id": found[0]["id"]})


@pytest.mark.both_engines
def test_a_fork_keeps_what_was_done_and_runs_the_rest_with_other_inputs(rpc: Rpc) -> None:
    name = f"fork {uuid4().hex}"
    root = executed(rpc, tasks=report(name))
    ids = root["ids"]
    forked = rpc("tasks.fork", {"task_id": ids["all"], "inputs": {ids["use"]: {"n": "{{fetch.rows}}"}}, "wait": True})
    assert forked["status"] == "completed"
    tree = forked["task"]
    assert statuses(tree) == {"Fetch": "completed", "Use": "completed", "After": "completed"}
    fetched, used, _ = tree["children"]
    (before, *_) = rpc("tasks.tree", {"task_id": ids["all"]})["children"]
    assert fetched["completed_at"] == before["completed_at"]  # it did not run again
    assert used["result"] == {"n": 3, "fetch": {"rows": 3}}
    runs = [runs_of(rpc, task_id=each)[0]["id"] for each in (ids["all"], tree["id"])]
    pairs = {pair["key"]: pair for pair in rpc("runs.compare", {"a": runs[0], "b": runs[1]})["tasks"]}
    assert set(pairs) == {"(root)", "fetch", "use", "after"}
    assert pairs["fetch"]["changed"] == []
    assert pairs["use"]["changed"] == ["status", "inputs", "result", "error"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"from": ["no-such-task"]}, "'no-such-task' is not a task of this tree"),
        ({"inputs": {"no-such-task": {}}}, "'no-such-task' is not a task of this tree"),
        ({"from": ["$after"], "inputs": {"$fetch": {}}}, "would keep its result"),
        ({"inputs": {"$use": {"n": "{{secret.not-stored}}"}}}, "not-stored"),
        ({"use_streaming": True, "last_event_id": 1}, "would start another run"),
    ],
)
def test_a_fork_that_cannot_be_is_refused(rpc: Rpc, refusal: Rpc, change: Json, reason: str) -> None:
    ids = executed(rpc, tasks=report("refused"))["ids"]
    written = {"from": [ids.get(each[1:], each) for each in change["from"]]} if "from" in change else {}
    inputs = {ids.get(key[1:], key): value for key, value in change.get("inputs", {}).items()}
    error = refusal("tasks.fork", {"task_id": ids["all"]} | change | written | ({"inputs": inputs} if inputs else {}))
    assert reason in str(error), error


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("runs.get", {"run_id": "no-such-run"}, -32001),
        ("runs.tree", {"run_id": "no-such-run"}, -32001),
        ("runs.calls", {"run_id": "no-such-run"}, -32001),
        ("runs.calls", {"run_id": "no-such-run", "limit": 201}, -32602),
        ("runs.compare", {"a": "no-such-run", "b": "no-such-run"}, -32001),
        ("runs.list", {"task_id": "no-such-task"}, -32001),
        ("runs.list", {"flow": "no-such-flow"}, -32001),
        ("runs.list", {"since": "yesterday"}, -32602),
        ("runs.list", {"since": "2026-11-02", "until": "2026-11-01"}, -32602),
        ("runs.list", {"status": "skipped"}, -32602),
        ("runs.list", {"cursor": "x"}, -32602),
    ],
)
def test_bad_questions_get_an_error(refusal: Rpc, method: str, params: Json, code: int) -> None:
    assert refusal(method, params)["code"] == code


def test_runs_of_others_look_like_missing_ones(auth_server: Server) -> None:
    body = {
        "jsonrpc": "2.0",
        "method": "tasks.execute",
        "params": {"tasks": {"name": "a", **ECHO}, "wait": True},
        "id": 1,
    }
    task_id = auth_server.http.post("/tasks", json=body, headers=as_("runs-alice")).json()["result"]["task_id"]
    (run,) = auth_server.http.get("/api/runs/", headers=as_("runs-alice")).json()["runs"]
    assert run["root_task_id"] == task_id
    for path in ("", "tree/", "calls/"):
        theirs = auth_server.http.get(f"/api/runs/{run['id']}/{path}", headers=as_("runs-bob"))
        missing = auth_server.http.get(f"/api/runs/{'x' * len(run['id'])}/{path}", headers=as_("runs-bob"))
        assert theirs.status_code == missing.status_code == 404
        assert theirs.text.replace(run["id"], "ID") == missing.text.replace("x" * len(run["id"]), "ID")
    assert auth_server.http.get("/api/runs/", headers=as_("runs-bob")).json()["runs"] == []
