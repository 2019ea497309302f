"""A client for another A2A agent, and the state of its task as its responses report it.

Parameters and responses have the shape of A2A 1.0 for all versions and bindings.
"""

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
from tasks.executors.a2a_client.agents import HTTP_JSON, JSON_RPC, Agent
from tasks.executors.http.event_stream import NoStream, events
from tasks.executors.http.rest import PASSING, merged_headers
from tasks.executors.http.safe_http import fetch
from tasks.rules import a2a_versions
from tasks.rules.a2a_versions import INTERRUPTED, TERMINAL

SHOWN: Final = 1_000
CALL_SECONDS: Final = 60.0
SEND_SECONDS: Final = 600.0
"""Some agents respond to a message only when they are done, regardless of the configuration."""
SAID: Final = 500
"""The maximum number of characters quoted of an agent's error message."""
INTERNAL_ERROR: Final = -32603
#: The routes of HTTP+JSON; in 0.3 they are below /v1.
ROUTES: Final = {
    "SendMessage": ("POST", "/message:send"),
    "SendStreamingMessage": ("POST", "/message:stream"),
    "GetTask": ("GET", "/tasks/{id}"),
    "CancelTask": ("POST", "/tasks/{id}:cancel"),
    "SubscribeToTask": ("POST", "/tasks/{id}:subscribe"),
}
SENDING: Final = ("SendMessage", "SendStreamingMessage")


class Progress:
    """The task or message so far. `take` processes each response, in the shape of 1.0."""

    def __init__(self) -> None:
        self.task: Json | None = None
        self.message: Json | None = None
        self._artifacts: dict[str, Json] = {}

    @property
    def task_id(self) -> str | None:
        return self.task["id"] if self.task else None

    @property
    def state(self) -> str:
        return str(self.task["status"]["state"]) if self.task else ""

    @property
    def is_over(self) -> bool:
        return self.message is not None or self.state in TERMINAL

    @property
    def is_interrupted(self) -> bool:
        return self.state in INTERRUPTED

    @property
    def is_settled(self) -> bool:
        """Whether nothing happens without another message, if ever."""
        return self.is_over or self.is_interrupted

    def take(self, response: Json) -> None:
        if task := response.get("task"):
            self.task = {name: value for name, value in task.items() if name not in ("artifacts", "history")}
            self._artifacts |= {artifact["artifactId"]: artifact for artifact in task.get("artifacts") or []}
        if update := response.get("statusUpdate"):
            self._about(update)["status"] = update["status"]
        if update := response.get("artifactUpdate"):
            self._about(update)
            artifact = update["artifact"]
            known = self._artifacts.get(artifact["artifactId"]) if update.get("append") else None
            if known is not None:  # else it replaces the one with its id
                artifact = known | artifact | {"parts": [*known["parts"], *artifact["parts"]]}
            self._artifacts[artifact["artifactId"]] = artifact
        self.message = response.get("message", self.message)

    def _about(self, update: Json) -> Json:
        """Return the task of the update; some agents never send the task itself."""
        if self.task is None:
            known = {"id": update["taskId"], "contextId": update.get("contextId")}
            self.task = known | {"status": {"state": "TASK_STATE_WORKING"}}
        return self.task

    @property
    def question(self) -> Json:
        """The message of the status: a question, or the reason for a failure."""
        message: Json = (self.task["status"].get("message") if self.task else None) or {}
        return message

    @property
    def said(self) -> str:
        """The text of that message; empty if there is none."""
        return text_of(self.question.get("parts", []))

    def result(self) -> Json:
        """Return `{task, artifacts, text}`, and `message` if the agent created no task."""
        artifacts = list(self._artifacts.values())
        texts = [text for artifact in artifacts if (text := text_of(artifact["parts"]))]
        shown: Json = {"task": self.task, "artifacts": artifacts, "text": texts[-1] if texts else self.said}
        if self.message is not None:
            shown |= {"message": self.message, "text": text_of(self.message.get("parts", []))}
        return shown


def text_of(parts: list[Json]) -> str:
    return "".join(part["text"] for part in parts if part.get("text"))


def progress_of(response: Json) -> tuple[float | None, str]:
    """Return the progress, 0 to 1, if the agent reports it, and its message, which may be empty."""
    if artifact_update := response.get("artifactUpdate"):
        artifact = artifact_update["artifact"]
        name = artifact.get("name") or artifact["artifactId"]
        return None, "" if artifact_update.get("append") else f"artifact: {name}"[:SHOWN]
    update = response.get("statusUpdate") or {}
    message = (update.get("status") or {}).get("message") or {}
    value: Any = (update.get("metadata") or {}).get("progress")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fraction = float(value) if is_number and 0 <= value <= 1 else None
    return fraction, text_of(message.get("parts", []))[:SHOWN]


# The fields of a response that we rely on. All others are passed on unchanged.


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
    """A StreamResponse; the response to a message has the same shape."""

    task: Task | None = None
    message: Message | None = None
    status_update: StatusUpdate | None = None
    artifact_update: ArtifactUpdate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP request, ready to send."""

    method: str
    url: str
    content: bytes | None
    headers: Mapping[str, str]


class Client:
    """Calls one agent, with the task's credentials for it.

    While `secrets` are referenced, logs and errors mask them, even in text from the agent.
    """

    def __init__(self, agent: Agent, *, credentials: Mapping[str, str], secrets: Sequence[Secret] = ()) -> None:
        self.agent = agent
        self._credentials = credentials
        self._secrets = secrets

    async def send(self, params: Json, *, key: str) -> Json:
        """Send a message and return the response. `key` is the idempotency key of the message."""
        reply = await self._fetch("SendMessage", params, key=key)
        return self._response(self._result(reply))

    async def get(self, task_id: str) -> Json:
        """Return the current task as a response."""
        return self._task(self._result(await self._fetch("GetTask", {"id": task_id})))

    async def cancel(self, task_id: str) -> Json:
        """Cancel the task, and return it as a response."""
        return self._task(self._result(await self._fetch("CancelTask", {"id": task_id})))

    async def stream(self, operation: str, params: Json, *, key: str = "") -> AsyncGenerator[Json]:
        """Yield the responses of a stream until the agent ends it.

        Raises ExecutorError if there is none or it breaks.
        """
        request = self._request(operation, params, key)
        try:
            async with aclosing(
                events(request.method, request.url, headers=request.headers, content=request.content)
            ) as data:
                async for each in data:
                    yield self._response(self._unwrapped(self._parsed(each)))
        except NoStream as answer:
            self._result(answer.reply)  # most agents send an error that explains it
            raise self._nonsense("not an event stream") from None

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
        headers["Content-Type"] = "application/json"
        sent = merged_headers(headers, self._credentials, {})
        agent, is_old = self.agent, self.agent.version == "0.3"
        if agent.binding == JSON_RPC:
            if is_old and operation in SENDING:
                params = a2a_versions.send_out(params, a2a_versions.JSON_RPC)
            if agent.tenant:
                params = params | {"tenant": agent.tenant}
            called = a2a_versions.METHODS[operation] if is_old else operation
            # A constant id, so that a retry is the identical request.
            content = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": called, "params": params})
            return Request(method="POST", url=agent.url, content=content, headers=sent)
        method, route = ROUTES[operation]
        path = route.format(id=quote(str(params.get("id", "")), safe=""))
        if is_old:
            path = f"/v1{path}"
            params = a2a_versions.send_out(params, a2a_versions.HTTP_JSON) if operation in SENDING else params
        elif agent.tenant:
            path = f"/{quote(agent.tenant, safe='')}{path}"
        body = orjson.dumps(params if operation in SENDING else {}) if method == "POST" else None
        return Request(method=method, url=f"{agent.url}{path}", content=body, headers=sent)

    # in

    def _result(self, reply: HttpResponse) -> Any:
        """Return the result of a call. Raises ExecutorError with the agent's error."""
        if reply.status_code == HTTPStatus.OK:
            return self._unwrapped(self._parsed(reply.body))
        try:
            value = orjson.loads(reply.body)
        except orjson.JSONDecodeError:
            value = None
        # The message may be in any of the known shapes.
        said = _message_of(value.get("error", value) if isinstance(value, dict) else None)
        raise ExecutorError(
            f"The agent '{self.agent.name}' answered {reply.status_code}" + (f": {said}" if said else "."),
            permanent=reply.status_code < 500 and reply.status_code not in PASSING,
            retry_after_seconds=reply.retry_after_seconds,
        )

    def _unwrapped(self, value: Any) -> Any:
        """Return the result in a JSON-RPC response; in HTTP+JSON the body itself is the result."""
        if self.agent.binding == HTTP_JSON:
            return value
        if not isinstance(value, dict) or not {"result", "error"} & value.keys():
            raise self._nonsense("not a JSON-RPC response")
        if (error := value.get("error")) is None:
            return value.get("result")
        code = error.get("code") if isinstance(error, dict) else None
        raise ExecutorError(
            f"The agent '{self.agent.name}' refused with {code}: {_message_of(error) or 'no reason given'}",
            permanent=code != INTERNAL_ERROR,
        )

    def _parsed(self, text: bytes) -> Any:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            raise self._nonsense("not JSON") from None

    def _response(self, value: Any) -> Json:
        return self._checked(value, a2a_versions.response_in)

    def _task(self, value: Any) -> Json:
        task = value.get("task", value) if isinstance(value, dict) else value
        return self._checked(task, lambda task: {"task": a2a_versions.task_in(task)}, lambda task: {"task": task})

    def _checked(self, value: Any, older: Any, as_it_is: Any = lambda value: value) -> Json:
        """Convert a response to the shape of 1.0, and check the fields that we rely on.

        Raises ExecutorError.
        """
        try:
            shown: Json = (older if self.agent.version == "0.3" else as_it_is)(value)
            response = msgspec.convert(shown, Response)
        except (
            AttributeError,
            KeyError,
            TypeError,
            msgspec.ValidationError,
        ):  # 0.3 is converted before it is validated
            raise self._nonsense("not an object of A2A") from None
        if response == Response():
            raise self._nonsense("not an object of A2A")
        return shown

    def _nonsense(self, what: str) -> ExecutorError:
        return ExecutorError(
            f"The agent '{self.agent.name}' sent an invalid response: {what}. Is it an agent of A2A {self.agent.version}?"
        )


def _message_of(error: Any) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return message[:SAID] if isinstance(message, str) else ""
