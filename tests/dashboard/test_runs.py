"""The pages of runs: the list with its chart, one run as it was, two side by side; and a task that runs again with other inputs."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from tasks.dashboard.runs import durations
from tasks.dashboard.words import path_of
from tasks.models import Task
from tasks.services.history.comparisons import Pair
from tests.admin.conftest import csrf_token
from tests.dashboard.conftest import As
from tests.servers import Server

Json = dict[str, Any]
ECHO: Json = {"schemas": {"method": "echo_executor"}}


@pytest.fixture
def failed(server: Server) -> Json:
    """The reply to the execution of a tree of which one task has failed."""
    name = f"Nightly {uuid4().hex[:8]}"
    tasks = [
        {"id": "all", "name": name},
        {"id": "fetch", "name": "Fetch", "parent_id": "all", "inputs": {"rows": 3}, **ECHO},
        {"id": "use", "name": "Use", "parent_id": "all", "dependencies": ["fetch"], **ECHO}
        | {"inputs": {"n": "{{fetch.number}}"}},
    ]
    reply: Json = server.rpc("tasks.execute", {"tasks": tasks, "wait": True, "tags": ["nightly"]})
    return reply | {"name": name}


def run_of(server: Server, task_id: str) -> str:
    """The id of the latest run."""
    run_id: str = server.rpc("runs.list", {"task_id": task_id})["runs"][0]["id"]
    return run_id


def page(server: Server, path: str) -> str:
    response = server.http.get(path)
    assert response.status_code == 200
    return response.text


def posted(server: Server, path: str, **fields: str) -> Any:
    token = csrf_token(page(server, path))
    return server.http.post(path, data={"csrfmiddlewaretoken": token, **fields})


def test_a_run_is_listed_with_how_it_went_and_filtered(server: Server, failed: Json) -> None:
    listed = page(server, "/ui/runs/?status=failed&days=1")
    row = listed[listed.index(failed["name"]) :].partition("</tr>")[0]
    assert "failed" in row and "run 1" in row
    assert "<figure" in listed and "has no &#x27;number&#x27;" in row
    assert failed["name"] in page(server, "/ui/runs/?tag=nightly") and 'tag=nightly"' in row
    for text in (failed["name"].upper(), failed["task_id"], "has no"):
        assert failed["name"] in page(server, f"/ui/runs/?q={text}")
    assert failed["name"] not in page(server, "/ui/runs/?tag=night") + page(server, "/ui/runs/?q=no-such-text")
    assert failed["name"] not in page(server, "/ui/runs/?status=completed")
    of_tree = page(server, f"/ui/runs/?task={failed['task_id']}")
    assert of_tree.count("/ui/runs/0") == 1
    assert server.http.get("/ui/runs/?days=8").status_code == 400
    assert server.http.get("/ui/runs/?flow=no-such-flow").status_code == 404


def test_runs_are_listed_of_any_time(server: Server, failed: Json) -> None:
    now = datetime.now(UTC)
    before, after = (f"{now + timedelta(minutes=minutes):%Y-%m-%dT%H:%M}" for minutes in (-10, 10))
    shown = page(server, f"/ui/runs/?since={before}&until={after}")
    assert failed["name"] in shown and "<figure" in shown and f'value="{before}"' in shown
    assert failed["name"] not in page(server, f"/ui/runs/?until={before}")
    for query in ("since=soon", f"since={after}", f"since={after}&until={before}", "until=0001-01-01T00:00%2B14:00"):
        assert server.http.get(f"/ui/runs/?{query}").status_code == 400


def test_a_filter_acts_when_it_changes_and_keeps_the_focus(home: Page, server: Server, failed: Json) -> None:
    home.goto(f"{server.url}/ui/runs/")
    home.locator("select[name=status]").select_option("failed")
    expect(home).to_have_url(re.compile("status=failed"))
    expect(home.locator("select[name=status]")).to_be_focused()
    expect(home.get_by_role("link", name=failed["name"]).first).to_be_visible()


def test_a_run_shows_what_failed_and_its_tree_as_it_was(server: Server, failed: Json) -> None:
    run_id = run_of(server, failed["task_id"])
    shown = page(server, f"/ui/runs/{run_id}/")
    assert "What failed" in shown and "has no &#x27;number&#x27;" in shown
    assert path_of(failed["ids"]["use"]) in shown
    assert "Retry failed" in shown and "/ui/run-with/" in shown
    assert f'href="/ui/fork/{failed["ids"]["use"]}"' in shown  # and not for what is only its dependent
    whole = server.http.get(f"/ui/runs/{run_id}/download/")
    assert whole.headers["Content-Disposition"] == f'attachment; filename="{run_id}-run.json"'
    assert (whole.json()["run"]["id"], whole.json()["events"][-1]["type"]) == (run_id, "final")
    assert server.http.get("/ui/runs/no-such-run/").status_code == 404


def test_a_task_runs_again_with_corrected_inputs(server: Server, failed: Json) -> None:
    path = f"/ui/fork/{failed['ids']['use']}"
    form = page(server, path)
    assert "fetch.number" in form and "{{fetch}}" in form and "{&quot;rows&quot;: 3}" in form
    assert f'href="{path}"' in page(server, path_of(failed["ids"]["use"]))
    wrong = posted(server, path, inputs="{")
    assert (wrong.status_code, 'role="alert"' in wrong.text) == (422, True)
    moved = posted(server, path, inputs='{"n": "{{fetch.rows}}"}')
    assert moved.status_code == 302
    forked = moved.headers["Location"].rpartition("/")[2]
    assert "run the tree with other inputs" not in page(server, path)
    server.rpc("tasks.execute", {"task_id": forked, "wait": True})
    assert server.rpc("tasks.get", {"task_id": forked})["result"] == {"n": 3, "fetch": {"rows": 3}}
    a, b = run_of(server, failed["task_id"]), run_of(server, forked)
    compared = page(server, f"/ui/runs/compare/?a={a}&b={b}")
    assert "status, inputs, result, error" in compared
    changed = compared[compared.index("with differences") :]
    assert '<del><span class="sign">−</span>{&quot;n&quot;: &quot;{{fetch.number}}&quot;}</del>' in changed
    assert '<ins><span class="sign">+</span>{&quot;n&quot;: &quot;{{fetch.rows}}&quot;}</ins>' in changed
    assert "2 tasks without differences" in compared  # what was fetched was kept


@pytest.mark.parametrize(
    ("before", "after", "factor"),
    [(2, 5, "2.5 ×"), (5, 2, "0.4 ×"), (10, 12, ""), (0.1, 0.9, ""), (0, 9, "")],
)
def test_a_duration_that_differs_much_is_marked(before: float, after: float, factor: str) -> None:
    begin = datetime(2026, 12, 1, tzinfo=UTC)
    a, b = (
        Task(id="t", started_at=begin, completed_at=begin + timedelta(seconds=seconds)) for seconds in (before, after)
    )
    assert durations(Pair(key="t", a=a, b=b, changed=[])) == (before, after, factor)


def test_a_hidden_input_stays_as_it_is(server: Server) -> None:
    headers = {"headers": {"Authorization": "Bearer of-the-tests-0123456789"}}
    task = {"name": "rest_executor", "inputs": {"url": "http://127.0.0.1:9/", **headers}}
    task_id = server.rpc("tasks.execute", {"tasks": task, "wait": True})["task_id"]
    path = f"/ui/fork/{task_id}"
    shown = page(server, path)
    assert "of-the-tests" not in shown and "…" in shown
    run_id = run_of(server, task_id)
    assert "of-the-tests" not in server.http.get(f"/ui/runs/{run_id}/download/").text
    refused = posted(server, path, inputs='{"url": "http://127.0.0.1:9/", "headers": {"Authorization": "…", "X": "1"}}')
    assert (refused.status_code, "is hidden" in refused.text) == (422, True)


def test_a_run_is_compared_with_the_last_one_before_it_that_completed(server: Server, as_: As) -> None:
    name = f"compared-{uuid4().hex[:8]}"
    server.rpc("flows.save", {"name": name, "tasks": [{"name": "Use", "inputs": {"n": "{{run.inputs.n.of}}"}, **ECHO}]})
    runs = []
    for given in ({}, {"of": 1}, {}, {"of": 2}):
        server.rpc("flows.run", {"name": name, "inputs": {"n": given}, "wait": True})
        runs.append(server.rpc("runs.list", {"flow": name})["runs"][0]["id"])
    first, completed, failed, _ = runs
    moved = server.http.get(f"/ui/runs/compare/?b={failed}")
    assert moved.headers["Location"] == f"/ui/runs/compare/?a={completed}&b={failed}"
    moved = server.http.get(f"/ui/runs/compare/?b={first}")
    assert moved.headers["Location"] == f"/ui/runs/{first}/"
    assert "No earlier run of it has completed." in page(server, moved.headers["Location"])
    assert server.http.get("/ui/runs/compare/").status_code == 404
    assert as_("bob").get(f"/ui/runs/compare/?b={failed}").status_code == 404


def test_runs_of_others_are_not_there(guarded: Server, as_: As) -> None:
    alice, bob = as_("alice"), as_("bob")
    token = csrf_token(alice.get("/ui/new/tree/").text)
    made = alice.post(
        "/ui/new/tree/",
        data={
            "csrfmiddlewaretoken": token,
            "tree": '{"name": "Of alice", "schemas": {"method": "echo_executor"}}',
            "then": "run",
        },
    )
    assert made.status_code == 302
    listed = alice.get("/ui/runs/").text
    address = listed[listed.index("/ui/runs/0") :].partition('"')[0]
    assert alice.get(address).status_code == 200
    assert bob.get(address).status_code == 404
    assert "Of alice" not in bob.get("/ui/runs/").text


def test_several_runs_are_asked_about_and_then_run_again_or_deleted(server: Server, failed: Json) -> None:
    run_id = run_of(server, failed["task_id"])
    assert f'value="{run_id}"' in page(server, "/ui/runs/")
    path = f"/ui/runs/selected/?run={run_id}&run=no-such-run&back=days%3D1&then="
    for then, question in (("cancel", "Cancel these runs?"), ("again", "Run these trees again?")):
        asked = page(server, path + then)
        assert question in asked and failed["name"] in asked and "1 tree" in asked
    assert page(server, "/ui/runs/selected/?then=delete").count("No runs are selected") == 1
    assert server.http.get(path + "pause").status_code == 400
    assert run_of(server, failed["task_id"]) == run_id  # nothing but a question
    token = csrf_token(page(server, path + "again"))
    fields = {"csrfmiddlewaretoken": token, "run": run_id, "back": "days=1"}
    moved = server.http.post("/ui/runs/selected/", data=fields | {"then": "again"})
    assert (moved.status_code, moved.headers["Location"]) == (302, "/ui/runs/?days=1")
    server.rpc("tasks.execute", {"task_id": failed["task_id"], "wait": True})
    assert run_of(server, failed["task_id"]) != run_id
    said = server.http.post("/ui/runs/selected/", data=fields | {"then": "cancel"}, follow_redirects=True).text
    assert "Cancelled: 0 trees." in said and "already" in said
    assert (
        "Deleted: 1 tree."
        in server.http.post("/ui/runs/selected/", data=fields | {"then": "delete"}, follow_redirects=True).text
    )
    assert server.http.get(path_of(failed["task_id"])).status_code == 404


def test_the_stream_of_the_lists_says_when_runs_begin_and_end(server: Server) -> None:
    with server.http.stream("GET", "/ui/events/runs", timeout=60) as stream:
        lines = (line for line in stream.iter_lines() if line.startswith("data:"))
        assert next(lines) == 'data: {"runs":0}'
        server.rpc("tasks.execute", {"tasks": [{"name": "Short", **ECHO}], "wait": True})
        assert '"runs":' in next(lines)
