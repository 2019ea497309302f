"""Spans, as a real receiver of OTLP over HTTP gets them: request → method → run → task → call of a model, and no content."""

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tasks.telemetry import tracing
from tests.documents import text
from tests.servers import new_database, until
from tests.shell import new_shell

PROMPT = "a prompt that belongs into no span"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"

Span = dict[str, Any]


class Receiver:
    """A collector on loopback."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.bodies: list[bytes] = []
        received = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.take(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += [_as_dict(span) for span in scope.spans]

    def named(self, name: str) -> Span:
        """The span of that name, in the trace that the test began."""
        found = until(
            lambda: [each for each in self.spans if each["name"] == name and each["trace"] == TRACE_ID],
            seconds=60,
            what=f"the span {name}",
        )
        return found[0]

    def of(self, name: str) -> list[Span]:
        """All spans of that name."""
        return [each for each in self.spans if each["name"] == name]


def _as_dict(span: Any) -> Span:
    values = {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}
    return {
        "name": span.name,
        "trace": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "kind": span.kind,
        "is_error": span.status.code == 2,
        **values,
    }


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def test_a_request_its_run_its_tasks_and_their_calls_are_one_trace(
    receiver: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The server is started as the page on operating says."""
    asking = {"id": "ask", "parent_id": "root", "name": "ask", "schemas": {"method": "llm_executor"}}
    asking |= {"inputs": {"prompt": PROMPT}, "params": {"model": "demo/x"}}
    failing = {"id": "fail", "parent_id": "root", "name": "fail", "schemas": {"method": "scripted_executor"}}
    tree = [{"id": "root", "name": "root"}, asking, failing | {"inputs": {"then": "fail"}}]
    script = text("docs/how-to/operate.md", "Traces", "sh").replace("http://localhost:4318", receiver.url)
    shell = new_shell(tmp_path_factory)
    with new_database() as url, shell.server(script, database=url, OTEL_SERVICE_NAME="flow-of-the-tests") as server:
        header = {"traceparent": f"00-{TRACE_ID}-{PARENT}-01"}
        server.rpc("tasks.execute", {"tasks": tree, "wait": True}, **header)
        names = ("POST", "tasks.execute", "run", "task llm_executor", "chat demo/x")
        chain = [receiver.named(name) for name in names]
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
    assert chat.items() >= {"gen_ai.operation.name": "chat", "gen_ai.request.model": "demo/x", "kind": 3}.items()
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
    script = text("docs/how-to/operate.md", "Traces", "sh").replace("http://localhost:4318", receiver.url)
    shell = new_shell(tmp_path_factory)
    with new_database() as url, shell.server(script, database=url) as server:
        header = {"traceparent": f"00-{TRACE_ID}-{PARENT}-01"}
        server.rpc("tasks.execute", {"tasks": tree}, **header)
        until(lambda: server.rpc("questions.list", {})["questions"], seconds=120, what="the question")
        server.rpc("tasks.answer", {"task_id": "question", "answer": "approved"})
        until(lambda: server.rpc("tasks.get", {"task_id": "root"})["status"] == "completed", seconds=60, what="the end")
        until(lambda: len(receiver.of("chat demo/x")) == 30, seconds=60, what="the calls of models")
        receiver.named("task echo_executor")
    runs = {span["id"]: span for span in receiver.of("run")}
    tasks = {span["id"]: span for span in receiver.spans if span["name"].startswith("task ")}
    assert {span["trace"] for span in (*runs.values(), *tasks.values(), *receiver.of("chat demo/x"))} == {TRACE_ID}
    assert [span["name"] for span in tasks.values() if span["parent"] not in runs] == []
    assert [span for span in receiver.of("chat demo/x") if span["parent"] not in tasks] == []
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


def test_without_an_address_nothing_is_traced_and_nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tracing.ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    tracing._spans.cache_clear()
    with tracing.span("nothing", {}) as note:
        note({"more": 1})
        assert tracing.current() is None
    assert "tasks.telemetry.otel" not in sys.modules


def test_without_the_extra_the_log_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(tracing.ENDPOINTS[0], "http://127.0.0.1:4318")
    monkeypatch.setattr(tracing, "find_spec", lambda name: None)
    tracing._spans.cache_clear()
    try:
        assert tracing.current() is None
    finally:
        tracing._spans.cache_clear()
    assert "pip install 'opentelemetry-exporter-otlp-proto-http<2,>=1.38'" in caplog.text
