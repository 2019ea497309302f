"""Spans, as a real receiver of OTLP over HTTP gets them: request → method → run → task → call of a model, and no content."""

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tasks.telemetry import tracing
from tests.documents import text
from tests.otlp import Receiver, receiving
from tests.servers import ROOT, new_database, until
from tests.shell import new_shell

PROMPT = "a prompt that belongs into no span"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def test_a_request_its_run_its_tasks_and_their_calls_are_one_trace(
    receiver: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The server is started as the page on telemetry says."""
    asking = {"id": "ask", "parent_id": "root", "name": "ask", "schemas": {"method": "llm_executor"}}
    asking |= {"inputs": {"prompt": PROMPT}, "params": {"model": "demo/x"}}
    failing = {"id": "fail", "parent_id": "root", "name": "fail", "schemas": {"method": "scripted_executor"}}
    tree = [{"id": "root", "name": "root"}, asking, failing | {"inputs": {"then": "fail"}}]
    script = text("docs/how-to/telemetry.md", "Send them to a collector", "sh").replace(
        "http://localhost:4318", receiver.url
    )
    shell = new_shell(tmp_path_factory)
    with new_database() as url, shell.server(script, database=url, OTEL_SERVICE_NAME="flow-of-the-tests") as server:
        header = {"traceparent": f"00-{TRACE_ID}-{PARENT}-01"}
        server.rpc("tasks.execute", {"tasks": tree, "wait": True}, **header)
        names = ("POST", "tasks.execute", "run", "task llm_executor", "chat x")
        chain = [receiver.named(name, trace=TRACE_ID) for name in names]
        failed, group = receiver.named("task scripted_executor"), receiver.named("task group")
    assert chain[0]["parent"] == PARENT
    for outer, inner in pairwise(chain):
        assert inner["parent"] == outer["id"], (outer["name"], inner["name"])
    request, method, run, task, chat = chain
    assert request.items() >= {"http.route": "/tasks", "http.response.status_code": 200, "kind": 2}.items()
    assert method["rpc.method"] == "tasks.execute"
    assert (run["apflow.root_task.id"], run["kind"]) == ("root", 5)
    assert (
        task.items() >= {"apflow.task.id": "ask", "apflow.task.status": "completed", "apflow.task.attempt": 1}.items()
    )
    assert chat.items() >= {"gen_ai.operation.name": "chat", "gen_ai.request.model": "x", "kind": 3}.items()
    assert (chat["gen_ai.usage.input_tokens"] > 0, chat["gen_ai.usage.output_tokens"] > 0) == (True, True)
    assert (failed["is_error"], failed["parent"], group["parent"]) == (True, run["id"], run["id"])
    sent = b"".join(receiver.bodies)
    assert b"flow-of-the-tests" in sent
    assert PROMPT.encode() not in sent
    assert b"built-in demo model" not in sent


@pytest.mark.both_engines
def test_a_map_of_thirty_trees_and_what_follows_a_question_are_one_trace(
    receiver: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each task is in its run, and each run of a tree in the task that waits for it."""
    chat = {
        "name": "ask",
        "schemas": {"method": "llm_executor"},
        "inputs": {"prompt": PROMPT},
        "params": {"model": "demo/x"},
    }
    tree = [
        {"id": "root", "name": "root", "dependencies": ["after"]},
        {"id": "each", "name": "each", "parent_id": "root", "params": {"for_each": {"items": list(range(30))}}},
        {"id": "part", "name": "part", "parent_id": "each", "schemas": {"method": "run_tree_executor"}, "inputs": {"tasks": [chat]}},
        {"id": "question", "name": "question", "parent_id": "root", "schemas": {"method": "approval_executor"},
         "inputs": {"question": "Go on?"}, "dependencies": ["each"]},
        {"id": "after", "name": "after", "parent_id": "root", "schemas": {"method": "echo_executor"}, "dependencies": ["question"]},
    ]  # fmt: skip
    script = text("docs/how-to/telemetry.md", "Send them to a collector", "sh").replace(
        "http://localhost:4318", receiver.url
    )
    shell = new_shell(tmp_path_factory)
    with new_database() as url, shell.server(script, database=url) as server:
        header = {"traceparent": f"00-{TRACE_ID}-{PARENT}-01"}
        server.rpc("tasks.execute", {"tasks": tree}, **header)
        until(lambda: server.rpc("questions.list", {})["questions"], seconds=120, what="the question")
        server.rpc("tasks.answer", {"task_id": "question", "answer": "approved"})
        until(lambda: server.rpc("tasks.get", {"task_id": "root"})["status"] == "completed", seconds=60, what="the end")
        until(lambda: len(receiver.of("chat x")) == 30, seconds=60, what="the calls of models")
        receiver.named("task echo_executor")
        receiver.named("run", **{"apflow.root_task.id": "root"})
    runs = {span["id"]: span for span in receiver.of("run")}
    tasks = {span["id"]: span for span in receiver.spans if span["name"].startswith("task ")}
    assert {span["trace"] for span in (*runs.values(), *tasks.values(), *receiver.of("chat x"))} == {TRACE_ID}
    assert [span["name"] for span in tasks.values() if span["parent"] not in runs] == []
    assert [span for span in receiver.of("chat x") if span["parent"] not in tasks] == []
    above = [
        runs[span["parent"]]["apflow.root_task.id"]
        for span in tasks.values()
        if span["apflow.task.id"] in ("question", "after")
    ]
    assert set(above) == {"root"}
    waiting = {span["id"] for span in receiver.of("task run_tree_executor")}
    of_trees = [span for span in runs.values() if span["apflow.root_task.id"] != "root"]
    assert len(of_trees) >= 30
    assert [span for span in of_trees if span["parent"] not in waiting] == []


def test_without_an_address_nothing_is_traced_and_nothing_loaded(tmp_path: Path) -> None:
    """It is the same in a process of a pool, which continues from a trace."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment |= {"DJANGO_SETTINGS_MODULE": "apflow_site.settings", "AIPARTNERUPFLOW_DATA_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", WITHOUT], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "None []\n"


WITHOUT = """
import sys, django
django.setup()
from tasks.telemetry import tracing
with tracing.span("nothing", {}) as note:
    note({"more": 1})
    print(tracing.current(), end=" ")
assert tracing.span_of_run("a run", None, {}) is None
tracing.continue_from("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
assert tracing.headers_for("localhost", tracing.here())
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""


def test_without_the_extra_the_log_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(tracing.ENDPOINTS[0], "http://127.0.0.1:4318")
    monkeypatch.setattr(tracing, "find_spec", lambda name: None)
    tracing._telemetry.cache_clear()
    try:
        with tracing.span("nothing", {}):
            assert tracing.current() is None
    finally:
        tracing._telemetry.cache_clear()
    assert "pip install 'opentelemetry-exporter-otlp-proto-http<2,>=1.38'" in caplog.text
