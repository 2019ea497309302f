"""An agent over real HTTP that does what a test tells it: it plays a script for each method, and keeps what it was asked."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stream:
    """Server-sent events. One that `breaks` is cut off in the middle of a frame; one that `stays` is held open."""

    results: Sequence[Json]
    breaks: bool = False
    stays: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """A JSON-RPC error."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Http:
    """An answer of HTTP's own."""

    status: int
    body: Json = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """`method` is JSON-RPC's, or that of HTTP with its path."""

    method: str
    params: Json
    headers: dict[str, str]


@dataclass(slots=True, kw_only=True)
class FakeAgent:
    """`script`: method → its answers in turn, of which the last one stays. `card_status` other than 200 hides the card from strangers."""

    card: Json = field(default_factory=dict)
    card_path: str = "/.well-known/agent-card.json"
    card_status: int = 200
    script: dict[str, list[Any]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    cards_given: int = 0
    port: int = 0
    heard: threading.Condition = field(default_factory=threading.Condition)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def speaks(self, version: str, *, binding: str = "JSONRPC", streams: bool = True) -> None:
        """Show a card of this version."""
        about = {"name": "fake", "capabilities": {"streaming": streams}, "skills": []}
        if version == "1.0":
            self.card = about | {
                "supportedInterfaces": [
                    {"url": f"{self.url}/a2a", "protocolBinding": binding, "protocolVersion": version}
                ]
            }
        else:
            self.card = about | {
                "protocolVersion": f"{version}.0",
                "url": f"{self.url}/a2a",
                "preferredTransport": binding,
            }

    def methods(self) -> list[str]:
        return [asked.method for asked in self.asked]

    def wait_for(self, method: str, *, seconds: float = 60) -> Asked:
        """The request with this method, once it is there."""
        with self.heard:
            assert self.heard.wait_for(lambda: method in self.methods(), seconds), self.methods()
        return next(asked for asked in self.asked if asked.method == method)

    def take(self, asked: Asked) -> Any:
        with self.heard:
            self.asked.append(asked)
            self.heard.notify_all()
            answers = self.script.get(asked.method, [Refusal(-32601, "unknown method")])
            return answers.pop(0) if len(answers) > 1 else answers[0]


@contextmanager
def agent_running(agent: FakeAgent) -> Iterator[FakeAgent]:
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"agent": agent})) as server:
        agent.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield agent
        finally:
            agent.closing.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    agent: ClassVar[FakeAgent]
    is_json_rpc = False

    def do_GET(self) -> None:
        if self.path != self.agent.card_path and ".well-known" in self.path:
            self._say(404, {})
        elif self.path == self.agent.card_path:
            self.agent.cards_given += 1
            is_hidden = self.agent.card_status != 200 and "Authorization" not in self.headers
            self._say(self.agent.card_status if is_hidden else 200, self.agent.card)
        else:
            self._play(f"GET {self.path}", {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        self.is_json_rpc = "jsonrpc" in body
        if self.is_json_rpc:
            self._play(body["method"], body["params"])
        else:
            self._play(f"POST {self.path}", body)

    def _play(self, method: str, params: Json) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        match self.agent.take(Asked(method=method, params=params, headers=headers)):
            case Http(status=status, body=body, headers=extra):
                self._say(status, body, **extra)
            case Refusal(code=code, message=message):
                self._say(200, {"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": message}})
            case Stream() as stream:
                self._stream(stream)
            case result:
                self._say(200, self._wrapped(result))

    def _wrapped(self, result: Any) -> Any:
        return {"jsonrpc": "2.0", "id": 1, "result": result} if self.is_json_rpc else result

    def _stream(self, stream: Stream) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.end_headers()
        for result in stream.results:
            self.wfile.write(b": still here\n\ndata: " + json.dumps(self._wrapped(result)).encode() + b"\r\n\r\n")
        if stream.breaks:
            self.wfile.write(b'data: {"jsonrpc":')
        if stream.stays:
            self.agent.closing.wait()

    def _say(self, status: int, body: Any, **headers: str) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        return


def task(state: str = "WORKING", said: str = "", **fields: Any) -> Json:
    """A Task of 1.0."""
    status: Json = {"state": f"TASK_STATE_{state}", "timestamp": "2026-11-25T10:00:00Z"}
    if said:
        status["message"] = {"messageId": "s", "role": "ROLE_AGENT", "parts": [{"text": said}]}
    return {"id": "t-1", "contextId": "c-1", "status": status, **fields}


def status(state: str, said: str = "", **metadata: Any) -> Json:
    """A status update of 1.0 in its response."""
    update = {"taskId": "t-1", "contextId": "c-1", "status": task(state, said)["status"]}
    return {"statusUpdate": update | ({"metadata": metadata} if metadata else {})}


def artifact(*texts: str, append: bool = False) -> Json:
    """An artifact update of 1.0 in its response."""
    parts = [{"text": text} for text in texts]
    about = {"taskId": "t-1", "contextId": "c-1", "append": append}
    return {"artifactUpdate": about | {"artifact": {"artifactId": "a-1", "name": "poem", "parts": parts}}}
