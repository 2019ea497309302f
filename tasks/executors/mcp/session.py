"""A session with a server: the handshake, requests, and what the server sends meanwhile (MCP 2025-11-25, Lifecycle).

A server may ask the user questions (elicitation), which people answer while no worker waits: the call during which it asks is
cancelled, and made again once there is an answer, which the server gets when it asks the same again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import httpx
import orjson

from aipartnerupflow import __version__
from aipartnerupflow.executors import ExecutorError, Json
from aipartnerupflow.executors.base import unstored
from tasks.executors.mcp.line import Line, http_line, stdio_line
from tasks.executors.mcp.servers import Target
from tasks.rules.forms import FORMATS, fault_of_form
from tasks.telemetry import tracing

MOST_QUESTIONS: Final = 20
TEXT_CHARACTERS: Final = 10_000
YES, NO = "yes", "no"
METHOD: Final = "elicitation/create"
CAPABILITY: Final[Json] = {"elicitation": {"form": {}}}
NEWEST: Final = "2025-11-25"
VERSIONS: Final = (NEWEST, "2025-06-18", "2025-03-26", "2024-11-05")
MOST_LINES: Final = 100
"""The number of its log lines that are passed on."""
SHOWN: Final = 1_000
CANCEL_SECONDS: Final = 1.0
IDEMPOTENCY_KEY: Final = "aipartnerupflow/idempotencyKey"
"""The field of `_meta` with a text that is the same for every repetition of a call."""
LOCAL: Final = "localhost"
"""The host of a server that is a process of this one, for `telemetry.traceparent_to`."""
INTERNAL_ERROR, METHOD_NOT_FOUND, INVALID_PARAMS = -32603, -32601, -32602


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A message, and the schema of a form; without fields it is a question of yes or no."""

    message: str
    schema: Json

    @property
    def has_fields(self) -> bool:
        return bool(self.schema.get("properties"))

    @property
    def form(self) -> Json:
        """The schema in our form: without names of choices, and without formats that are not known here."""
        return self.schema | {"properties": {name: _field(rule) for name, rule in self.schema["properties"].items()}}

    def result(self, answer: Any) -> Json:
        """Return what the server gets for an answer of a person."""
        if self.has_fields:
            return {"action": "accept", "content": answer}
        return {"action": "accept", "content": {}} if answer == YES else {"action": "decline"}


class Asked(Exception):
    """The server asks something that has no answer yet."""

    def __init__(self, question: Question) -> None:
        super().__init__(question.message)
        self.question = question


class Answers:
    """The questions that were answered so far, in the order in which the server asks them: `{message, schema, answer}`."""

    def __init__(self, given: Sequence[Json] = ()) -> None:
        self.given = list(given)
        self._next = 0

    def result_for(self, params: Json) -> Json:
        """Return the result of `elicitation/create`. Raises Asked, and ExecutorError after 20 questions.

        A form that cannot be shown is declined: `problem_of` says why.
        """
        if problem_of(params) is not None:
            return {"action": "decline"}
        question = question_in(params)
        if self._next < len(self.given):
            known = self.given[self._next]
            if (known["message"], known["schema"]) == (question.message, question.schema):
                self._next += 1
                return question.result(known["answer"])
        if self._next >= MOST_QUESTIONS:
            raise ExecutorError(f"The server has asked more than {MOST_QUESTIONS} questions.", permanent=True)
        del self.given[self._next :]  # answers to what it no longer asks
        raise Asked(question)


def question_in(params: Json) -> Question:
    message, schema = params.get("message"), params.get("requestedSchema")
    text = message[:TEXT_CHARACTERS] if isinstance(message, str) else ""
    return Question(message=text, schema=schema if isinstance(schema, dict) else {})


def problem_of(params: Json) -> str | None:
    """Return the reason why the question cannot be asked here; None if it can."""
    if params.get("mode", "form") != "form":
        return "it is no form"
    question = question_in(params)
    if not question.has_fields:
        return None
    return fault_of_form(question.form) if isinstance(question.schema["properties"], dict) else "it has no fields"


def _field(rule: Any) -> Any:
    """Return the rule of a field without the hints that forms do without; choices with titles become choices."""
    if not isinstance(rule, dict):
        return rule
    hints = {"enumNames"} if rule.get("format") in list(FORMATS) else {"enumNames", "format"}
    kept = {name: value for name, value in rule.items() if name not in hints}
    choices = kept.pop("oneOf", None)
    if isinstance(choices, list) and choices and all(isinstance(each, dict) and "const" in each for each in choices):
        return kept | {"enum": [each["const"] for each in choices]}
    return kept if choices is None else rule


class RefusedError(ExecutorError):
    """The server answered a request with an error. `code` is that of JSON-RPC."""

    def __init__(self, message: str, *, code: Any) -> None:
        super().__init__(message, permanent=code != INTERNAL_ERROR)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """The receivers of progress (a fraction and a message) and log lines of the server, and the answers to its questions."""

    report: Callable[[float, str], None]
    log: Callable[[str], None]
    answers: Answers | None = None
    """None: the server may ask nothing."""
    begin: Callable[[], Awaitable[None]] = unstored
    """Awaited before the call of a tool is sent."""
    key: str | None = None
    """The idempotency key of the call of a tool."""


DEAF: Final = Hearing(report=lambda fraction, message: None, log=lambda text: None)


class Session:
    """One session. Requests are sent one after the other."""

    def __init__(self, line: Line, target: Target, hearing: Hearing) -> None:
        self.target = target
        self._line = line
        self._hearing = hearing
        self._number = 0
        self._lines = 0

    async def begin(self) -> None:
        """Shake hands. Raises ExecutorError."""
        client = {"name": "aipartnerupflow", "version": __version__}
        capabilities = {} if self._hearing.answers is None else CAPABILITY
        offer: Json = {"protocolVersion": NEWEST, "capabilities": capabilities, "clientInfo": client}
        version = (await self.request("initialize", offer)).get("protocolVersion")
        if version not in VERSIONS:
            raise ExecutorError(
                f"{self._what} speaks {str(version)[:100]!r} of MCP. Known are {', '.join(VERSIONS)}.", permanent=True
            )
        self._line.version = version
        await self._line.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def request(self, method: str, params: Json) -> Json:
        """Send a request, and return its result. If cancelled, the server is notified.

        Raises ExecutorError, and Asked for a question without an answer.
        """
        self._number += 1
        number = self._number
        message: Json = {"jsonrpc": "2.0", "id": number, "method": method}
        url = httpx.URL(self.target.url)
        # MCP's field for it (SEP-414), since a server on standard input gets no header.
        meta: Json = {**tracing.headers_for(url.host or LOCAL, tracing.here())}
        if method == "tools/call":
            tracing.note({"mcp.method.name": method, **tracing.server(url.scheme, url.host, url.port)})
            await self._hearing.begin()
            key = {} if self._hearing.key is None else {IDEMPOTENCY_KEY: self._hearing.key}
            meta |= {"progressToken": number} | key
        if meta:
            params = params | {"_meta": meta}
        message |= {"params": params}
        try:
            async with aclosing(self._line.exchange(message)) as messages:
                async for each in messages:
                    if "method" in each:
                        await self._take(each, number)
                    elif each.get("id") == number:
                        return self._result(each)
        except (asyncio.CancelledError, Asked):
            if method != "initialize":  # which must not be cancelled
                notice = {"requestId": number, "reason": "The task was cancelled, or its time is over."}
                with suppress(ExecutorError, TimeoutError):
                    async with asyncio.timeout(CANCEL_SECONDS):
                        await self._line.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": notice})
            raise
        raise ExecutorError(f"{self._what}: the connection ended before the answer to {method}.")

    def _result(self, message: Json) -> Json:
        if isinstance(result := message.get("result"), dict):
            return result
        error = message.get("error")
        code, said = (error.get("code"), error.get("message")) if isinstance(error, dict) else (None, None)
        if not isinstance(said, str):
            raise ExecutorError(f"{self._what} sent an invalid response.")
        raise RefusedError(
            self.target.masked(f"{self._what} refused the request: {said[:SHOWN].rstrip('.')} ({code})."), code=code
        )

    async def _take(self, message: Json, number: int) -> None:
        """Process a notification, or a request of the server."""
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        if "id" in message:  # a request: a question, or whether we are alive
            if message["method"] == "ping":
                answer: Json = {"result": {}}
            elif message["method"] == METHOD and self._hearing.answers is not None:
                if problem := problem_of(params):
                    self._log("warning", f"A question of the server is declined, because {problem}")
                answer = {"result": self._hearing.answers.result_for(params)}
            else:
                answer = {"error": {"code": METHOD_NOT_FOUND, "message": "The client does not support this method"}}
            await self._line.send({"jsonrpc": "2.0", "id": message["id"]} | answer)
        elif message["method"] == "notifications/progress" and params.get("progressToken") == number:
            done, total, said = params.get("progress"), params.get("total"), params.get("message")
            text = self.target.masked(said[:SHOWN]) if isinstance(said, str) else ""
            if _is_number(done) and _is_number(total) and total > 0:
                self._hearing.report(min(max(done / total, 0.0), 1.0), text)
            elif text:
                self._log("progress", text)
        elif message["method"] == "notifications/message":
            self._log(str(params.get("level", "info"))[:20], params.get("data"))

    def _log(self, level: str, data: Any) -> None:
        self._lines += 1
        if self._lines > MOST_LINES:
            return
        text = data if isinstance(data, str) else orjson.dumps(data).decode()
        self._hearing.log(self.target.masked(f"{level}: {text}"[:SHOWN]))

    @property
    def _what(self) -> str:
        return f"The MCP server '{self.target.name}'"


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


@asynccontextmanager
async def opened(target: Target, hearing: Hearing = DEAF) -> AsyncIterator[Session]:
    """Connect to the server, and shake hands. Raises ExecutorError."""
    secrets = target.secrets  # referenced while the session lasts, so that logs mask them
    async with (http_line if target.url else stdio_line)(target) as line:
        session = Session(line, target, hearing)
        try:
            await session.begin()
            yield session
        finally:
            await line.close()
            del secrets
