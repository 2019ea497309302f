"""A language model's provider on loopback, over real HTTP: it writes down who asked what with which key, and answers as it is told.

It speaks as OpenAI (`/v1/chat/completions`) and as Anthropic (`/v1/messages`) do, streamed or whole.
"""

import hashlib
import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

Json = dict[str, Any]
USAGE: Final[Json] = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
PATIENCE_SECONDS: Final = 20.0


def fingerprint(key: str) -> str:
    """What the provider says of a key, so that a test can tell whose it was without anybody showing it."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Says:
    """One answer. `text` None: the fingerprint of the key, and the last message. `stalls_after`: so many words, and then silence."""

    text: str | None = None
    tool_calls: tuple[tuple[str, Json], ...] = ()
    status: int = 200
    headers: Json = field(default_factory=dict)
    error: str = "No."
    stalls_after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    path: str
    key: str
    body: Json

    @property
    def last_message(self) -> str:
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


@dataclass(slots=True, kw_only=True)
class LlmServer:
    """`script` has the answers to come, the first one first; after the last, or with none, `Says()`."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    script: deque[Says] = field(default_factory=deque)
    stalled: threading.Event = field(default_factory=threading.Event)
    hung_up: threading.Event = field(default_factory=threading.Event)
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
        self.asked.clear()
        self.script.clear()
        self.stalled.clear()
        self.hung_up.clear()

    def next_answer(self) -> Says:
        try:
            return self.script.popleft()
        except IndexError:
            return Says()


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
        key = self.headers.get("x-api-key") or self.headers.get("Authorization", "").removeprefix("Bearer ")
        asked = Asked(path=self.path, key=key, body=body)
        self.llm.asked.append(asked)
        if self.llm.together:
            self.llm.together.wait(PATIENCE_SECONDS)
        try:
            self.answer(asked, self.llm.next_answer())
        except OSError:
            self.llm.hung_up.set()

    def answer(self, asked: Asked, says: Says) -> None:
        text = f"{fingerprint(asked.key)} {asked.last_message}" if says.text is None else says.text
        if says.status != 200:
            error = {"error": {"message": says.error, "type": "error", "code": says.status}}
            self.send(says.status, error, says.headers)
        elif asked.path.endswith("/messages"):
            self.stream(_anthropic(text), says)
        elif asked.body.get("stream"):
            self.stream(_openai(text, says, asked.body["model"]), says)
        else:
            self.send(200, _whole(text, says, asked.body["model"]), {})

    def send(self, status: int, content: Json, headers: Json) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(body), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, frames: list[str], says: Says) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for number, frame in enumerate(frames):
            if number == says.stalls_after:
                self.stall()
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


def _words(text: str) -> list[str]:
    return [word + " " for word in text.split(" ")[:-1]] + [text.split(" ")[-1]]


def _calls(says: Says) -> list[Json]:
    return [
        {
            "index": index,
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for index, (name, arguments) in enumerate(says.tool_calls)
    ]


def _whole(text: str, says: Says, model: str) -> Json:
    message = {"role": "assistant", "content": text, "tool_calls": _calls(says) or None}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if says.tool_calls else "stop"}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": USAGE}


def _openai(text: str, says: Says, model: str) -> list[str]:
    def chunk(*choices: Json, **more: Any) -> str:
        head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model}
        return f"data: {json.dumps({**head, 'choices': list(choices), **more})}\n\n"

    def delta(finish_reason: str | None = None, **fields: Any) -> Json:
        return {"index": 0, "delta": fields, "finish_reason": finish_reason}

    said = [] if says.tool_calls else [chunk(delta(role="assistant", content=word)) for word in _words(text)]
    called = [chunk(delta(role="assistant", tool_calls=_calls(says)))] if says.tool_calls else []
    end = chunk(delta("tool_calls" if says.tool_calls else "stop"))
    return [*said, *called, end, chunk(usage=USAGE), "data: [DONE]\n\n"]


def _anthropic(text: str) -> list[str]:
    def event(kind: str, **fields: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"

    message: Json = {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [],
        "stop_reason": None,
    }
    usage = {"input_tokens": USAGE["prompt_tokens"], "output_tokens": 1}
    return [
        event("message_start", message={**message, "stop_sequence": None, "usage": usage}),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *[event("content_block_delta", index=0, delta={"type": "text_delta", "text": word}) for word in _words(text)],
        event("content_block_stop", index=0),
        event(
            "message_delta",
            delta={"stop_reason": "end_turn", "stop_sequence": None},
            usage={"output_tokens": USAGE["completion_tokens"]},
        ),
        event("message_stop"),
    ]
