"""The cache on a real server: who sees and clears what, and how a task with a result from it is shown everywhere."""

from typing import Any

import pytest

from tests.a2a.conftest import Rpc
from tests.a2a.methods.test_secrets import call
from tests.a2a.rest.test_rest import as_
from tests.servers import Server

pytestmark = pytest.mark.both_engines_nightly

Json = dict[str, Any]


def asks(name: str) -> Json:
    chat = {"prompt": "Is this in the cache of test_cache?", "model": "demo/demo"}
    return {"id": name, "name": "llm_executor", "inputs": chat, "params": {"cache": "1h"}}


@pytest.mark.both_engines
def test_a_result_is_taken_shown_and_cleared(rpc: Rpc, refusal: Any, open_server: Server) -> None:
    for name in ("cached-1", "cached-2"):
        rpc("tasks.execute", {"tasks": [asks(name)]})
        assert open_server.finished(name)[-1]["status"] == "completed"
    taken = rpc("tasks.get", {"task_id": "cached-2"})["cached_from"]
    assert taken["task_id"] == "cached-1"
    run_id = rpc("tasks.detail", {"task_id": "cached-2"})["events"][-1]["run_id"]
    assert rpc("runs.tree", {"run_id": run_id})["tree"]["cached_from"] == taken
    (listed,) = [row for row in rpc("cache.list", {})["executors"] if row["executor"] == "llm_executor"]
    assert (listed["results"], listed["oldest"], listed["newest"]) == (1, taken["at"], taken["at"])
    http = open_server.http
    panel = http.get("/ui/panel/cached-2").text
    assert "<dt>From the cache</dt>" in panel
    assert "cached-1" in panel
    assert "From the cache" not in http.get("/ui/panel/cached-1").text
    assert "The task took its result from the cache, of" in http.get("/ui/trace/cached-2").text
    assert "The cache has " in http.get("/ui/usage/").text
    only = rpc("tasks.list", {"fields": ["id", "cached_from"]})
    assert {"id": "cached-2", "cached_from": taken} in only
    assert {"id": "cached-1"} in only
    assert http.get("/api/cache/").json()["results"] >= 1
    assert http.delete("/api/cache/", params={"executor": "llm_executor"}).json() == {"removed": 1}
    assert rpc("cache.clear", {"executor": "llm_executor"}) == {"removed": 0}
    assert "unknown" in str(refusal("cache.clear", {"exectuor": "llm_executor"}))
    assert "params.cache" in str(refusal("tasks.create", {"tasks": [asks("bad") | {"params": {"cache": "soon"}}]}))


def test_users_see_and_clear_their_own_results_and_administrators_all(auth_server: Server) -> None:
    def ask(method: str, who: str, **params: Any) -> Any:
        return call(auth_server, method, params, who, "/tasks")

    for who in ("cache-alice", "cache-bob"):
        ask("tasks.execute", who, tasks=[asks(f"of-{who}")], wait=True)
        assert "cached_from" not in ask("tasks.get", who, task_id=f"of-{who}")["result"]
    assert ask("cache.clear", "cache-alice", flow="no-such-flow")["result"] == {"removed": 0}
    assert ask("cache.clear", "cache-alice")["result"] == {"removed": 1}
    assert [ask("cache.list", who)["result"]["results"] for who in ("cache-alice", "cache-bob")] == [0, 1]
    viewer = as_("cache-bob", roles=["viewer"])
    assert auth_server.http.delete("/api/cache/", headers=viewer).status_code == 403
    admin = as_("cache-admin", roles=["admin"])
    assert auth_server.http.get("/api/cache/", headers=admin).json()["results"] >= 1
    assert auth_server.http.delete("/api/cache/", headers=admin).json()["removed"] >= 1
    assert ask("cache.list", "cache-bob")["result"]["results"] == 0
