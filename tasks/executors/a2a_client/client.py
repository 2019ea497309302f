"""Calls of another A2A agent. Parameters and answers have the shape of 1.0, whatever version and binding the agent speaks."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import msgspec
import orjson
from msgspec import Struct

from aipartnerupflow.executors import ExecutorError, HttpResponse, Json
from llmkeys.secret import Secret
from tasks.executors.a2a_client import versions
from tasks.executors.a2a_client.agents import HTTP_JSON, JSON_RPC, Agent
from tasks.executors.http.event_stream import NoStream, events
from tasks.executors.http.rest import PASSING, merged_headers
from tasks.executors.http.safe_http import fetch

CALL_SECONDS: Final = 60.0
SEND_SECONDS: Final = 600.0
"""Some agents answer a message only when they are done, whatever they are asked."""
SAID: Final = 500
"""So many characters of what an agent says about an error are quoted."""
INTERNAL_ERROR: Final = -32603

#: JSON-RPC of 0.3 calls the operations so.
METHODS_OF_0_3: Final = {
    "SendMessage": "message/send",
    "SendStreamingMessage": "message/stream",
    "GetTask": "tasks/get",
    "CancelTask": "tasks/cancel",
    "SubscribeToTask": "tasks/resubscribe",
}
#: HTTP+JSON has these routes, in 0.3 below /v1.
ROUTES: Final = {
    "SendMessage": ("POST", "/message:send"),
    "SendStreamingMessage": ("POST", "/message:stream"),
    "GetTask": ("GET", "/tasks/{id}"),
    "CancelTask": ("POST", "/tasks/{id}:cancel"),
    "SubscribeToTask": ("POST", "/tasks/{id}:subscribe"),
}
SENDING: Final = ("SendMessage", "SendStreamingMessage")


# What we rely on in an answer. Everything else in it is passed on as it is.


class Part(Struct):
    text: str | None = None


class Message(Struct):
    parts: list[Part] = []
    metadata: dict[str, Any] | None = None


class Status(Struct):
    state: str
    message: Message | None = None


class Artifact(Struct, rename="camel"):
    artifact_id: str
    parts: list[Part]


class Task(Struct, rename="camel"):
    id: str
    status: Status
    context_id: str | None = None
    artifacts: list[Artifact] | None = None


class StatusUpdate(Struct, rename="camel"):
    task_id: str
    status: Status
    metadata: dict[str, Any] | None = None


class ArtifactUpdate(Struct, rename="camel"):
    task_id: str
    artifact: Artifact
    append: bool | None = None


class Response(Struct, rename="camel"):
    """A StreamResponse; what a message is answered with is one too."""

    task: Task | None = None
    message: Message | None = None
    status_update: StatusUpdate | None = None
    artifact_update: ArtifactUpdate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`method`, `url` and `content` as they go over the wire."""

    method: str
    url: str
    content: bytes | None
    headers: Mapping[str, str]


class Client:
    """Speaks to one agent, with the credentials that a task has for it.

    As long as somebody holds the `secrets` of these, no log and no error shows them, whatever the agent says.
    """

    def __init__(self, agent: Agent, *, credentials: Mapping[str, str], secrets: Sequence[Secret] = ()) -> None:
        self.agent = agent
        self._credentials = credentials
        self._secrets = secrets

    async def send(self, params: Json, *, key: str) -> Json:
        """Send a message and return the response. `key` tells a repeat from another message."""
        reply = await self._fetch("SendMessage", params, key=key)
        return self._response(self._result(reply))

    async def get(self, task_id: str) -> Json:
        """The task as it is now, as a response."""
        return self._task(self._result(await self._fetch("GetTask", {"id": task_id})))

    async def cancel(self, task_id: str) -> Json:
        """Stop the task, and return it as a response."""
        return self._task(self._result(await self._fetch("CancelTask", {"id": task_id})))

    async def stream(self, operation: str, params: Json, *, key: str = "") -> AsyncGenerator[Json]:
        """The responses of a stream, until the agent ends it. Raises ExecutorError when it breaks, or none comes."""
        request = self._request(operation, params, key)
        try:
            async with aclosing(
                events(request.method, request.url, headers=request.headers, content=request.content)
            ) as data:
                async for each in data:
                    yield self._response(self._unwrapped(self._parsed(each)))
        except NoStream as answer:
            self._result(answer.reply)  # most of them say what they have against it
            raise self._nonsense("no event stream") from None

    async def _fetch(self, operation: str, params: Json, *, key: str = "") -> HttpResponse:
        request = self._request(operation, params, key)
        return await fetch(
            request.method,
            request.url,
            headers=request.headers,
            content=request.content,
            timeout_seconds=SEND_SECONDS if operation in SENDING else CALL_SECONDS,
        )

    # out

    def _request(self, operation: str, params: Json, key: str) -> Request:
        headers = {"Accept": "application/json", "A2A-Version": self.agent.version}
        if key:
            headers["Idempotency-Key"] = key
        request = self._json_rpc if self.agent.binding == JSON_RPC else self._http_json
        headers["Content-Type"] = "application/json"
        return request(operation, params, merged_headers(headers, self._credentials, {}))

    def _json_rpc(self, operation: str, params: Json, headers: Mapping[str, str]) -> Request:
        is_old = self.agent.version == "0.3"
        if is_old and operation in SENDING:
            params = versions.for_json_rpc(params)
        if self.agent.tenant:
            params = params | {"tenant": self.agent.tenant}
        method = METHODS_OF_0_3[operation] if is_old else operation
        # Always the same id: a repeat is to be the same request.
        content = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        return Request(method="POST", url=self.agent.url, content=content, headers=headers)

    def _http_json(self, operation: str, params: Json, headers: Mapping[str, str]) -> Request:
        method, route = ROUTES[operation]
        path = route.format(id=quote(str(params.get("id", "")), safe=""))
        if self.agent.version == "0.3":
            path = f"/v1{path}"
            params = versions.for_http_json(params) if operation in SENDING else params
        elif self.agent.tenant:
            path = f"/{quote(self.agent.tenant, safe='')}{path}"
        body = orjson.dumps(params if operation in SENDING else {}) if method == "POST" else None
        return Request(method=method, url=f"{self.agent.url}{path}", content=body, headers=headers)

    # in

    def _result(self, reply: HttpResponse) -> Any:
        """What a call came to. Raises ExecutorError with what the agent has against it."""
        if reply.status_code == HTTPStatus.OK:
            return self._unwrapped(self._parsed(reply.body))
        said = _said(reply.body)
        raise ExecutorError(
            f"The agent '{self.agent.name}' answered {reply.status_code}" + (f": {said}" if said else "."),
            permanent=reply.status_code < 500 and reply.status_code not in PASSING,
            retry_after_seconds=reply.retry_after_seconds,
        )

    def _unwrapped(self, value: Any) -> Any:
        """The result in a JSON-RPC reply; HTTP+JSON has it bare."""
        if self.agent.binding == HTTP_JSON:
            return value
        if not isinstance(value, dict) or not {"result", "error"} & value.keys():
            raise self._nonsense("no JSON-RPC reply")
        if (error := value.get("error")) is None:
            return value.get("result")
        code = error.get("code") if isinstance(error, dict) else None
        raise ExecutorError(
            f"The agent '{self.agent.name}' refused with {code}: {_message_of(error) or 'it does not say why'}",
            permanent=code != INTERNAL_ERROR,
        )

    def _parsed(self, text: bytes) -> Any:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            raise self._nonsense("no JSON") from None

    def _response(self, value: Any) -> Json:
        return self._checked(value, versions.response_of)

    def _task(self, value: Any) -> Json:
        task = value.get("task", value) if isinstance(value, dict) else value
        return self._checked(task, lambda task: {"task": versions.task_of(task)}, lambda task: {"task": task})

    def _checked(self, value: Any, older: Any, as_it_is: Any = lambda value: value) -> Json:
        """The answer in the shape of 1.0, as far as we rely on it. Raises ExecutorError."""
        try:
            shown: Json = (older if self.agent.version == "0.3" else as_it_is)(value)
            response = msgspec.convert(shown, Response)
        except (AttributeError, KeyError, TypeError, msgspec.ValidationError):  # 0.3 is translated unseen
            raise self._nonsense("nothing of A2A's") from None
        if response == Response():
            raise self._nonsense("nothing of A2A's")
        return shown

    def _nonsense(self, what: str) -> ExecutorError:
        return ExecutorError(
            f"The agent '{self.agent.name}' answered {what}. Is it an agent of A2A {self.agent.version}?"
        )


def _said(body: bytes) -> str:
    """The message of an error in the body, in whichever of the shapes; empty when there is none."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    error = value.get("error", value) if isinstance(value, dict) else None
    return _message_of(error)


def _message_of(error: Any) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return message[:SAID] if isinstance(message, str) else ""
