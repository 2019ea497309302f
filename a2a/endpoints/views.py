"""HTTP views: read the body, authenticate, dispatch and reply. `a2a.core.jsonrpc` parses JSON-RPC."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.http import http_date
from django.views.decorators.csrf import csrf_exempt

from a2a.core import jsonrpc
from a2a.core.errors import failure_of
from a2a.core.exceptions import RequestRefused, WrongHttpMethod
from a2a.core.http import (
    VERSION_HEADER,
    body_of,
    decoded,
    encoded_response,
    headers_of,
    json_response,
    public_url,
    refusal,
    require_method,
    wants_tokens,
)
from a2a.core.jsonrpc import Request, Response
from a2a.core.process import software_version, this_drain
from a2a.live import sse
from a2a.live.sse import events_response, held, stream_of_task
from a2a.methods.dispatch import NATIVE, SYSTEM, Dialect, Outcome, carry_out, replies_to
from a2a.protocol.agent_card import build_card, etag_of, key_set, last_modified
from a2a.protocol.bindings.http_json import list_tasks, with_extensions
from a2a.protocol.bindings.json_rpc import A2A
from a2a.protocol.versions import without_patch
from accounts.auth import authenticate
from apflow_site.db import pools
from tasks.rules.exceptions import LimitReached
from tasks.rules.strict_json import Json, MalformedJson, decode
from tasks.services.upkeep.readiness import readiness

CARD_MAX_AGE_SECONDS = 300
CARD_VERSIONS = ("1.0", "0.3")
SAFE: Final = ("GET", "HEAD")
READY_SECONDS: Final = 1.5
"""The seconds that `/ready` waits for the database. Load balancers usually wait for 2 seconds."""
REFUSED_BYTES: Final = 64 * 1024
"""Longer bodies of clients that have not logged in are not read."""
SILENT: Final = {
    "ok": False,
    "message": f"The database has not answered within {READY_SECONDS} s.",
    "fix": "Check its log, its load and the network to it.",
}
SHUTTING_DOWN: Final = {"ok": False, "message": "The server is shutting down.", "fix": "Send requests to another one."}

View = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@dataclass(frozen=True, slots=True)
class Rpc:
    """The view of a JSON-RPC endpoint (`POST`).

    `also` are further HTTP methods of the same URL, which `get` handles; without `get`, they need
    HTML. With `has_texts`, clients that accept text/plain get errors with texts (`with_text`).
    """

    dialect: Dialect
    get: View | None = None
    also: Sequence[str] = ()
    has_texts: bool = False

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if self.get is not None and request.method in self.also:
            return await self.get(request)
        with_texts = self.has_texts and "text/plain" in request.headers.get("Accept", "")
        try:
            require_method(request, "POST", also=self.also)
            caller = await authenticate(request)
            has_tokens = wants_tokens(request.GET)
        except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
            return self._refuse(error, with_texts=with_texts, call=_call_in(request))
        try:
            value = await decoded(request, caller)
        except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
            return self._refuse(error, with_texts=with_texts)
        headers = headers_of(request)
        parsed = jsonrpc.parse(value, batch_limit=settings.APFLOW.limits.batch)
        if isinstance(parsed, list):
            headers = replace(headers, is_single=False)
            perform = partial(carry_out, caller=caller, dialect=self.dialect, headers=headers)
            body = await replies_to(parsed, perform)
            return encoded_response(body) if body else HttpResponse(status=204)
        outcome = await carry_out(parsed, caller=caller, dialect=self.dialect, headers=headers)
        frames = _frames(outcome, self.dialect, has_tokens=has_tokens)
        if frames is None:
            answer = outcome.answer
            return HttpResponse(status=204) if answer is None else _reply(answer, with_texts=with_texts)
        try:
            return held(frames, caller=caller, who_is_it=partial(authenticate, request))
        except LimitReached as error:  # other streams have opened meanwhile
            return self._refuse(error, with_texts=with_texts, call=parsed)

    def _refuse(self, error: Exception, *, with_texts: bool, call: Request | None = None) -> HttpResponse:
        """Return the response to an error outside of a call, in the format of the method or else of the dialect."""
        is_ours = isinstance(call, jsonrpc.Call) and call.method in self.dialect.methods
        failure = failure_of(error) if is_ours else self.dialect.failure(error)
        response = _reply(replace(failure, id=call.id if call else None), with_texts=with_texts)
        if isinstance(error, WrongHttpMethod):
            response["Allow"] = ", ".join(error.methods)
        return response


def _frames(outcome: Outcome, dialect: Dialect, *, has_tokens: bool) -> AsyncGenerator[bytes] | None:
    """Return the SSE frames of the stream that a call started, or None."""
    answer = outcome.answer
    stream = outcome.stream and replace(outcome.stream, has_tokens=has_tokens)
    if outcome.replies is not None:
        return sse.replies(outcome.replies)
    if stream is None or answer is None:
        return None
    return sse.frames(stream, first=answer.to_json(), render=lambda event: dialect.event(event, stream, answer.id))


def _reply(answer: Response, *, with_texts: bool) -> HttpResponse:
    if not isinstance(answer, jsonrpc.Failure):
        return json_response(answer.to_json())
    reply = with_text(answer.to_json()) if with_texts else answer.to_json()
    return json_response(reply, status=answer.http_status)


def with_text(reply: Json) -> Json:
    """Return an error reply whose `data` is its message; `errors` is what `data` was.

    apflow's web application shows `data` as it is, as a text. It accepts text/plain, as axios does by default.
    """
    error = reply["error"]
    if "data" in error:
        reply = reply | {"error": error | {"data": error["message"], "errors": error["data"]}}
    return reply


def _call_in(request: HttpRequest) -> Request | None:
    """Return the call in the body of a request that is refused, to answer it with its id; None if it is long or no single call."""
    length = request.headers.get("Content-Length", "")
    if request.method != "POST" or not length.isdecimal() or int(length) > REFUSED_BYTES:
        return None
    with suppress(RequestRefused, MalformedJson):
        parsed = jsonrpc.parse(decode(body_of(request), nesting=settings.APFLOW.limits.nesting), batch_limit=1)
        return None if isinstance(parsed, list) else parsed
    return None


#: `/tasks`: POST is native JSON-RPC, GET lists A2A Tasks.
tasks: Final = csrf_exempt(Rpc(NATIVE, get=list_tasks, also=SAFE, has_texts=True).__call__)
#: `POST /system`: JSON-RPC methods about the server.
system: Final = csrf_exempt(Rpc(SYSTEM, has_texts=True).__call__)
_a2a: Final = Rpc(A2A, also=SAFE)  # GET is a page


@csrf_exempt
async def a2a(request: HttpRequest) -> HttpResponseBase:
    """`POST /`: JSON-RPC of A2A, and our methods with A2A objects as results."""
    return with_extensions(request, await _a2a(request))


async def events(request: HttpRequest, task_id: str) -> HttpResponseBase:
    """`GET /tasks/{id}/events`: events of the latest run of the task's tree, after `Last-Event-ID`."""
    try:
        require_method(request, "GET")
        caller = await authenticate(request)
        after, has_tokens = request.headers.get("Last-Event-ID"), wants_tokens(request.GET)
        stream = await stream_of_task(caller, task_id, after, has_tokens=has_tokens)
        return events_response(stream, caller=caller, who_is_it=partial(authenticate, request))
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error)


async def agent_card(request: HttpRequest) -> HttpResponseBase:
    """`GET /.well-known/agent-card.json`, and its older URLs. Public."""
    try:
        require_method(request, "GET", "HEAD")
    except WrongHttpMethod as error:
        return refusal(error)
    asked = without_patch(request.headers.get(VERSION_HEADER, ""))
    version = asked if asked in CARD_VERSIONS else settings.APFLOW.a2a.card
    body = orjson.dumps(build_card(url=public_url(request), version=version))
    etag, modified = etag_of(body), last_modified()
    headers = {
        "Cache-Control": f"public, max-age={CARD_MAX_AGE_SECONDS}",
        "ETag": etag,
        "Last-Modified": http_date(modified),
        "Vary": VERSION_HEADER,
    }
    response = HttpResponse(body, content_type="application/json", headers=headers)
    return get_conditional_response(request, etag=etag, last_modified=modified, response=response) or response


async def keys(request: HttpRequest) -> HttpResponseBase:
    """`GET /.well-known/jwks.json`: the public key of the agent card's signature."""
    try:
        require_method(request, "GET", "HEAD")
        return json_response(key_set(key_path=settings.APFLOW.a2a.signing_key))
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error)


async def health(request: HttpRequest) -> HttpResponseBase:
    """`GET /health`: 200 if the process runs. Does not use the database."""
    return json_response({"status": "ok", "version": software_version()})


async def ready(request: HttpRequest) -> HttpResponseBase:
    """`GET /ready`: 200 if this process can serve requests, else 503.

    While it drains it still serves them, but should not get more. With `?workers=1`, also whether
    workers of the installation are alive and take runs.
    """
    if this_drain().is_on:
        return json_response({"ready": False, "checks": {"shutdown": SHUTTING_DOWN}}, status=503)
    try:
        async with asyncio.timeout(READY_SECONDS):
            state = await pools.ready(readiness, workers=request.GET.get("workers") == "1")
    except TimeoutError:
        return json_response({"ready": False, "checks": {"database": SILENT}}, status=503)
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error)
    return json_response(state, status=200 if state["ready"] else 503)
