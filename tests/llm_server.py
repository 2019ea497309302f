"""A language model's provider on loopback, over real HTTP: it writes down who asked what with which key, and answers as it is told.

It speaks as OpenAI (`/v1/chat/completions`, and Azure below `/openai`), Anthropic (`/v1/messages`), Gemini (`…GenerateContent`) and
Ollama (`/api/generate`) do.
"""

import hashlib
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from tests import llm_formats
from tests.llm_formats import Json, Says

PATIENCE_SECONDS: Final = 120.0


def fingerprint(key: str) -> str:
    """What the provider says of a key, so that a test can tell whose it was without anybody showing it."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    path: str
    key: str
    body: Json
    trace: str = ""

    @property
    def last_message(self) -> str:
        if "prompt" in self.body:
            return str(self.body["prompt"])
        message = self.body["messages"][-1] if "messages" in self.body else self.body["contents"][-1]
        content = message["content"] if "content" in message else message["parts"]
        return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


@dataclass(slots=True, kw_only=True)
class LlmServer:
    """`script` has the answers to come, the first one first; after the last, or with none, what `by` says of the request, or `Says()`."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    script: deque[Says] = field(default_factory=deque)
    stalled: threading.Event = field(default_factory=threading.Event)
    hung_up: threading.Event = field(default_factory=threading.Event)
    by: Callable[[Asked], Says] = field(default=lambda asked: Says())
    together: threading.Barrier | None = None
    """All who ask wait for each other, as many as it says."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_base(self) -> str:
        return f"{self.url}/v1"

    def will(self, *answers: Says) -> None:
        self.script.extend(answers)

    def forget(self) -> None:
        self.together = None
        self.by = lambda asked: Says()
        self.asked.clear()
        self.script.clear()
        self.stalled.clear()
        self.hung_up.clear()

    def next_answer(self, asked: Asked) -> Says:
        try:
            return self.script.popleft()
        except IndexError:
            return self.by(asked)


@contextmanager
def llm_server() -> Iterator[LlmServer]:
    llm = LlmServer()
    with _Server(("127.0.0.1", 0), _handler_for(llm)) as server:
        llm.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield llm
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True


def _handler_for(llm: LlmServer) -> type[BaseHTTPRequestHandler]:
    """The handler, bound to the server that it answers for."""
    return type("Handler", (_Handler,), {"llm": llm})


class _Handler(BaseHTTPRequestHandler):
    llm: LlmServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        names = ("x-api-key", "api-key", "x-goog-api-key")
        keys = [self.headers[name] for name in names if self.headers.get(name)]
        key = keys[0] if keys else self.headers.get("Authorization", "").removeprefix("Bearer ")
        asked = Asked(path=self.path, key=key, body=body, trace=self.headers.get("traceparent", ""))
        self.llm.asked.append(asked)
        if self.llm.together:
            self.llm.together.wait(PATIENCE_SECONDS)
        try:
            self.answer(asked, self.llm.next_answer(asked))
        except OSError:
            self.llm.hung_up.set()

    def answer(self, asked: Asked, says: Says) -> None:
        text = f"{fingerprint(asked.key)} {asked.last_message}" if says.text is None else says.text
        model = str(asked.body.get("model"))
        if says.status != 200:
            error = {"message": says.error, "type": "error", "code": says.status}
            self.send(says.status, {"error": error if isinstance(says.error, str) else says.error}, says.headers)
        elif says.raw is not None:
            self.stream([says.raw], says)
        elif asked.path.endswith("/messages"):
            self.reply(llm_formats.anthropic_stream, llm_formats.anthropic_whole, text, says)
        elif "GenerateContent" in asked.path:
            self.reply(llm_formats.gemini_stream, llm_formats.gemini_whole, text, says)
        elif asked.path.endswith("/api/generate"):
            self.reply(llm_formats.ollama_stream, llm_formats.ollama_whole, text, says, model)
        elif asked.body.get("stream"):
            self.reply(llm_formats.openai_stream, llm_formats.openai_whole, text, says, model)
        else:
            self.send(200, llm_formats.openai_whole(text, says, model), {})

    def reply(
        self, stream: Callable[..., list[str]], whole: Callable[..., Json], text: str, says: Says, *more: str
    ) -> None:
        if says.plain:
            self.send(200, whole(text, says, *more), {})
        else:
            self.stream(stream(text, says, *more), says)

    def send(self, status: int, content: Json, headers: Json) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(body), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, frames: list[str], says: Says) -> None:
        self.send_response(200)
        for name, value in {"Content-Type": says.content_type, **says.headers}.items():
            self.send_header(name, str(value))
        if says.cut_after is not None:
            self.send_header("Content-Length", "1000000")
        self.end_headers()
        for number, frame in enumerate(frames):
            if number == says.stalls_after:
                self.stall()
            if number == says.cut_after:
                return
            self.wfile.write(frame.encode())
            self.wfile.flush()

    def stall(self) -> None:
        """Say nothing more until the client hangs up."""
        self.llm.stalled.set()
        self.connection.settimeout(PATIENCE_SECONDS)
        if self.connection.recv(1) == b"":
            self.llm.hung_up.set()
        raise ConnectionResetError

    def log_message(self, format: str, *args: object) -> None:
        return
