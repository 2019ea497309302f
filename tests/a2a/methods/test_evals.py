"""`datasets.*` and `evals.*` on a real server: rows are saved and versioned, and two versions of a flow are compared."""

from typing import Any

import pytest

from tests.a2a.conftest import Rpc
from tests.a2a.rest.test_rest import as_
from tests.servers import Server

pytestmark = pytest.mark.both_engines_nightly

Json = dict[str, Any]
SCHEMA: Json = {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]}
ROWS: list[Json] = [
    {"inputs": {"who": name}, "expected": f"Hello {name}", "tags": ["short"]} for name in ("Ada", "Alan", "Grace")
]
ACCURACY: Json = {"name": "accuracy", "with": {"exact": {"path": "/text"}}}


def save_flow(rpc: Rpc, name: str, *texts: str) -> None:
    for text in texts:
        task = {"id": "greet", "name": "echo_executor", "inputs": {"text": text}}
        rpc("flows.save", {"name": name, "tasks": [task], "inputs_schema": SCHEMA})


@pytest.mark.both_engines
def test_rows_are_versions_that_never_change(rpc: Rpc) -> None:
    name = {"name": "evals-people"}
    first = rpc("datasets.save", name | {"rows": ROWS})
    assert (first["version"], first["count"], first["is_new"], first["replaced"], first["flow"]) == (
        1,
        3,
        True,
        0,
        None,
    )
    assert rpc("datasets.save", name | {"rows": ROWS})["is_new"] is False
    more = [{"inputs": {"who": "Ada"}, "expected": None}, {"inputs": {"who": "Edsger"}}]
    second = rpc("datasets.save", name | {"rows": more, "append": True})
    assert (second["version"], second["count"], second["replaced"]) == (2, 4, 1)
    assert rpc("datasets.get", name)["rows"] == [more[0], *ROWS[1:], more[1]]
    assert rpc("datasets.get", name | {"version": 1})["rows"] == ROWS
    listed = [each for each in rpc("datasets.list", {})["datasets"] if each["name"] == "evals-people"]
    assert [(each["version"], each["count"]) for each in listed] == [(2, 4)]
    assert rpc("datasets.delete", name) == {"success": True, "name": "evals-people", "versions_deleted": 2}


@pytest.mark.both_engines
def test_two_versions_of_a_flow_are_compared(rpc: Rpc) -> None:
    save_flow(rpc, "evals-greet", "Hello {{run.inputs.who}}", "Bye {{run.inputs.who}}")
    rpc("datasets.save", {"name": "evals-greet", "rows": ROWS, "flow": "evals-greet"})
    started = rpc(
        "evals.run", {"dataset": "evals-greet", "evaluators": [ACCURACY], "wait": True, "wait_timeout_seconds": 600}
    )
    assert started["status"] == "completed"
    found = rpc("evals.get", {"experiment_id": started["task_id"], "limit": 2})
    assert (found["status"], found["versions"], found["cases"]) == ("completed", [1, 2], 3)
    assert [each["scores"]["accuracy"]["estimate"]["mean"] for each in found["variants"]] == [1, 0]
    assert [each["completed"] for each in found["variants"]] == [3, 3]
    assert (
        found["differences"][0]["text"]
        == "Not enough cases to tell: 3 have scores of version 1 and version 2, and 6 are needed."
    )
    (rest,) = rpc("evals.get", {"experiment_id": started["task_id"], "cursor": found["next_cursor"]})["results"]
    assert [case["inputs"]["who"] for case in (*found["results"], rest)] == ["Ada", "Alan", "Grace"]
    assert (rest["expected"], rest["tags"], rest["disagreement"]) == ("Hello Grace", ["short"], 1)
    texts = [rpc("tasks.get", {"task_id": run["task_id"]})["result"]["text"] for run in rest["runs"]]
    assert texts == ["Hello Grace", "Bye Grace"]
    assert [run["scores"]["accuracy"]["value"] for run in rest["runs"]] == [True, False]
    assert started["task_id"] in [each["id"] for each in rpc("evals.list", {})["experiments"]]
    rpc("tasks.delete", {"task_id": started["task_id"], "force": True})
    assert started["task_id"] not in [each["id"] for each in rpc("evals.list", {})["experiments"]]
    rpc("datasets.delete", {"name": "evals-greet"})
    rpc("flows.delete", {"name": "evals-greet"})


@pytest.mark.both_engines
def test_what_does_not_fit_is_refused_by_its_place(rpc: Rpc, refusal: Rpc) -> None:
    save_flow(rpc, "evals-strict", "Hello {{run.inputs.who}}")
    rpc("datasets.save", {"name": "evals-strict", "rows": ROWS, "flow": "evals-strict"})
    saves = {"name": "evals-bad", "flow": "evals-strict"}
    run = {"dataset": "evals-strict", "evaluators": [ACCURACY]}
    table: list[tuple[str, Json, str]] = [
        ("datasets.save", saves | {"rows": [ROWS[0], {"inputs": {}}]}, "rows[1].inputs.who"),
        ("datasets.save", saves | {"rows": [{"inputs": {"who": "x", "whom": "y"}}]}, "rows[0].inputs.whom"),
        ("datasets.save", saves | {"rows": [{"inputs": {"who": 7}}]}, "rows[0].inputs"),
        ("datasets.save", saves | {"rows": []}, "rows"),
        ("datasets.save", saves | {"rows": [ROWS[0] | {"tags": ["a", "b c"]}]}, "rows[0].tags[1]"),
        ("datasets.save", saves | {"rows": [ROWS[0] | {"tags": [str(n) for n in range(11)]}]}, "rows[0].tags"),
        ("datasets.save", saves | {"rows": [{"inputs": {"who": "x"}}, {"input": {}}]}, "rows[1].input"),
        ("evals.run", run | {"evaluators": [{"name": "a", "wiht": "exact"}]}, "evaluators[0].wiht"),
        ("evals.run", run | {"evaluators": [{"name": "a", "with": 7}]}, "evaluators[0].with"),
        ("evals.run", run | {"evaluators": [{"name": "a", "with": "fuzzy"}]}, "evaluators[0].with"),
        ("evals.run", run | {"evaluators": [ACCURACY, ACCURACY]}, "evaluators[1].name"),
        (
            "evals.run",
            run | {"evaluators": [{"name": "a", "with": {"expression": "length("}}]},
            "evaluators[0].with.expression",
        ),
        (
            "evals.run",
            run | {"evaluators": [{"name": "a", "with": {"schema": {"type": 1}}}]},
            "evaluators[0].with.schema",
        ),
        ("evals.run", run | {"evaluators": [ACCURACY | {"better": "less"}]}, "evaluators[0].better"),
        ("evals.run", run | {"split": "tset"}, "split"),
        ("evals.get", {"experiment_id": "x", "order": "name"}, "order"),
        ("datasets.add", {"name": "evals-bad"}, "run_ids"),
        ("datasets.add", {"name": "evals-bad", "run_ids": ["x"], "flow": "evals-strict"}, "run_ids"),
        ("datasets.add", {"name": "evals-bad", "run_ids": ["x"], "limit": 5}, "limit"),
        ("datasets.add", {"name": "evals-bad", "flow": "evals-strict", "since": "soon"}, "since"),
        ("datasets.add", {"name": "evals-bad", "flow": "evals-strict"}, "flow"),
        ("datasets.add", {"name": "evals-bad", "flow": "evals-strict", "expected": "all"}, "expected"),
        ("evals.run", run | {"versions": [1, 1]}, "versions"),
        ("evals.run", run | {"use_demo": True}, "use_demo"),
        ("evals.run", run | {"budget": {"tokens": 1, "euros": 1}}, "budget.euros"),
        ("evals.run", run | {"budget": {}}, "budget"),
        ("evals.run", run | {"variants": [{}, {"modle": "x"}]}, "variants[1].modle"),
        ("evals.run", run | {"variants": [{"temperature": 3}]}, "variants[0].temperature"),
        ("evals.run", run | {"variants": [{"model": "x"}]}, "variants[0]"),
        ("evals.run", run | {"variants": [{}], "versions": [1]}, "versions"),
        ("evals.run", run | {"cache": "1d", "repeats": 2}, "cache"),
        ("evals.run", run | {"seed": 1}, "seed"),
        (
            "evals.run",
            run | {"evaluators": [{"name": "a", "with": {"function": "no_such"}}]},
            "evaluators[0].with.function",
        ),
        ("evals.get", {"experiment_id": "x", "cursor": "y"}, "cursor"),
    ]
    for method, params, field in table:
        error = refusal(method, params)
        assert error["code"] == -32602, (method, params, error)
        assert error["data"][0]["field"].startswith(field), (method, params, error)
    assert refusal("datasets.get", {"name": "evals-bad"})["code"] == -32001
    assert refusal("datasets.save", {"name": "evals-bad", "rows": ROWS, "flow": "no-such"})["code"] == -32001
    assert refusal("datasets.add", {"name": "evals-bad", "run_ids": ["no-such"]})["code"] == -32001
    unknown: list[Json] = [{"dataset": "no-such"}, {"flow": "no-such"}, {"versions": [7]}, {"dataset_version": 7}]
    unknown += [{"variants": [{"version": 7}]}, {"evaluators": [{"name": "a", "with": {"flow": "no-such"}}]}]
    for change in unknown:
        assert refusal("evals.run", {**run, **change})["code"] == -32001
    assert "Did you mean" in refusal("datasets.get", {"name": "evals-stric"})["message"]
    rpc("datasets.delete", {"name": "evals-strict"})
    rpc("flows.delete", {"name": "evals-strict"})


@pytest.mark.both_engines
def test_they_are_their_owners(auth_server: Server) -> None:
    """Alice's are for Bob as those that are not there; an administrator sees them."""

    def asked(user: str, method: str, params: Json, **claims: Any) -> Json:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer: Json = auth_server.http.post("/tasks", json=body, headers=as_(user, **claims)).json()
        return answer

    def rpc(method: str, params: Json) -> Any:
        answer = asked("evals-alice", method, params)
        return answer["result"]

    save_flow(rpc, "evals-mine", "Hello {{run.inputs.who}}")
    rpc("datasets.save", {"name": "evals-mine", "rows": ROWS, "flow": "evals-mine"})
    wanted = {"dataset": "evals-mine", "evaluators": [ACCURACY], "wait": True, "wait_timeout_seconds": 600}
    found = {"experiment_id": rpc("evals.run", wanted)["task_id"]}
    name = {"name": "evals-mine"}
    owner = {"user_id": "evals-alice"}
    for method, params in (
        ("datasets.get", name | owner),
        ("datasets.delete", name | owner),
        ("evals.get", found),
    ):
        missing = asked("evals-bob", method, {key: f"{value}-x" for key, value in params.items()})["error"]
        hers = asked("evals-bob", method, params)["error"]
        assert hers["message"].replace("'evals-mine'", "'x'").replace(found["experiment_id"], "x") == missing[
            "message"
        ].replace("'evals-mine-x'", "'x'").replace(f"{found['experiment_id']}-x", "x")
    assert asked("evals-bob", "evals.run", wanted)["error"]["code"] == -32001
    for method, key in (("datasets.list", "datasets"), ("evals.list", "experiments")):
        assert asked("evals-bob", method, owner)["result"][key] == []
        assert len(asked("evals-root", method, owner, roles=["admin"])["result"][key]) == 1
    assert asked("evals-root", "evals.get", found, roles=["admin"])["result"]["cases"] == 3
    assert asked("evals-root", "datasets.get", name | owner, roles=["admin"])["result"]["rows"] == ROWS
