"""HTTP in, HTTP out: read the body, authenticate, dispatch, answer. What JSON-RPC means stands elsewhere."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, cast

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.cache import get_conditional_response
from django.utils.http import http_date
from django.views.decorators.csrf import csrf_exempt

from a2a import jsonrpc, open_streams, sse
from a2a.agent_card import build_card, etag_of, last_modified
from a2a.card_signature import key_set
from a2a.dispatch import NATIVE, SYSTEM, Dialect, Headers, carry_out
from a2a.errors import (
    RETRY_AFTER_SECONDS,
    BodyTooLarge,
    NotRunYet,
    UnsupportedMediaType,
    WrongHttpMethod,
    as_rpc,
    rule_of,
)
from a2a.jsonrpc import Answer, Request
from a2a.parsing import event_number
from a2a.protocol.headers import EXTENSIONS_HEADER, VERSION_HEADER, requested_extensions
from a2a.protocol.rpc import A2A
from a2a.protocol.versions import activated_extensions, without_patch
from a2a.version import software_version
from accounts.auth import authenticate
from accounts.callers import Caller
from tasks import lanes, queries
from tasks.decoder import decode
from tasks.exceptions import RETRY_SECONDS, InvalidParams, LimitReached
from tasks.readiness import readiness

STATUS_HEADERS = MappingProxyType(
    {
        401: {"WWW-Authenticate": "Bearer"},
        429: {"Retry-After": str(RETRY_SECONDS)},
        503: {"Retry-After": str(RETRY_AFTER_SECONDS)},
    }
)
CARD_MAX_AGE_SECONDS = 300
CARD_VERSIONS = ("1.0", "0.3")


@csrf_exempt
async def native(request: HttpRequest) -> HttpResponseBase:
    """`POST /tasks`: JSON-RPC in the native shapes."""
    return await _rpc(request, NATIVE, also=("GET", "HEAD"))


@csrf_exempt
async def a2a(request: HttpRequest) -> HttpResponseBase:
    """`POST /`: JSON-RPC of A2A, and ours in its shapes."""
    return with_extensions(request, await _rpc(request, A2A, also=("GET", "HEAD")))


@csrf_exempt
async def system(request: HttpRequest) -> HttpResponseBase:
    """`POST /system`: JSON-RPC about the server itself."""
    return await _rpc(request, SYSTEM)


async def events(request: HttpRequest, task_id: str) -> HttpResponseBase:
    """`GET /tasks/{id}/events`: the latest run of the task's tree, from `Last-Event-ID` on."""
    try:
        _require(request, "GET")
        caller = await authenticate(request)
        stream = await stream_of_task(caller, task_id, request.headers.get("Last-Event-ID"))
        return held(events_response(stream), request=request, caller=caller)
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error)


async def agent_card(request: HttpRequest) -> HttpResponseBase:
    """`GET /.well-known/agent-card.json` and its older addresses. Public."""
    try:
        _require(request, "GET", "HEAD")
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
    """`GET /.well-known/jwks.json`: the public key with which the agent card is signed."""
    try:
        _require(request, "GET", "HEAD")
        return json_response(key_set(key_path=settings.APFLOW.a2a.signing_key))
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error)


async def health(request: HttpRequest) -> HttpResponseBase:
    """`GET /health`: the process answers. Touches nothing else."""
    return json_response({"status": "ok", "version": software_version()})


async def ready(request: HttpRequest) -> HttpResponseBase:
    """`GET /ready`: whether what a request needs is there."""
    try:
        state = await lanes.read(readiness)
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error)
    return json_response(state, status=200 if state["ready"] else 503)


async def _rpc(request: HttpRequest, dialect: Dialect, *, also: Sequence[str] = ()) -> HttpResponseBase:
    """`also`: the HTTP methods that another view answers at the same address."""
    try:
        _require(request, "POST", also=also)
        caller = await authenticate(request)
        value = decode(body_of(request), nesting=settings.APFLOW.limits.nesting)
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return _failed(error, dialect)
    headers = headers_of(request)
    parsed = jsonrpc.parse(value, batch_limit=settings.APFLOW.limits.batch)
    if isinstance(parsed, list):
        return await _batch(parsed, caller=caller, dialect=dialect, headers=replace(headers, is_single=False))
    response = await _single(parsed, caller=caller, dialect=dialect, headers=headers)
    try:
        return held(response, request=request, caller=caller)
    except LimitReached as error:  # others came in meanwhile
        return _failed(error, dialect, call_id=parsed.id)


async def _single(request: Request, *, caller: Caller, dialect: Dialect, headers: Headers) -> HttpResponseBase:
    outcome = await carry_out(request, caller=caller, dialect=dialect, headers=headers)
    if outcome.replies is not None:
        return streaming(sse.replies(outcome.replies))
    if outcome.answer is None:
        return HttpResponse(status=204)
    stream, answer = outcome.stream, outcome.answer
    if stream is None:
        return _answer(answer)
    return streaming(
        sse.frames(stream, first=answer.to_json(), render=lambda event: dialect.event(event, stream, answer.id))
    )


async def _batch(requests: list[Request], *, caller: Caller, dialect: Dialect, headers: Headers) -> HttpResponseBase:
    """The calls run side by side; the answers stand in the order of the calls."""
    outcomes = await asyncio.gather(
        *(carry_out(request, caller=caller, dialect=dialect, headers=headers) for request in requests)
    )
    answers = jsonrpc.batch_to_json(outcome.answer for outcome in outcomes)
    return json_response(answers) if answers else HttpResponse(status=204)


def events_response(stream: sse.Stream) -> HttpResponseBase:
    """The events themselves, one a frame."""
    if stream.is_over:
        # By the HTML standard this tells an EventSource, which always comes back, that it need not.
        return HttpResponse(status=204)
    return streaming(sse.frames(stream, render=lambda event: event))


async def stream_of_task(caller: Caller, task_id: str, last_event_id: str | None) -> sse.Stream:
    """What the client does not have yet of the latest run. Raises InvalidParams, TaskNotFound, NotRunYet or EventsPruned."""
    if "\0" in task_id:
        raise InvalidParams([("task_id", "holds the NUL character")])
    after = event_number(last_event_id) if last_event_id else None
    run = await lanes.read(queries.latest_run, caller=caller, task_id=task_id)
    if run is None:
        raise NotRunYet(f"Task '{task_id}' has not run yet. Start it with tasks.execute.", data={"task_id": task_id})
    return await sse.open_stream(run, after=after)


def headers_of(request: HttpRequest) -> Headers:
    """What the request says beside its body. A2A's version may stand in the query, too."""
    version = request.headers.get(VERSION_HEADER) or request.GET.get(VERSION_HEADER, "")
    return replace(Headers.of(request.headers), url=public_url(request), a2a_version=version)


def with_extensions(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """The response, with the extensions of A2A that are active (A2A 1.0, section 3.6)."""
    if active := activated_extensions(requested_extensions(request.headers)):
        response[EXTENSIONS_HEADER] = active
    return response


def public_url(request: HttpRequest) -> str:
    """Where clients reach this server, with a slash at the end: as configured, else as this one did."""
    url = settings.APFLOW.server.public_url or request.build_absolute_uri("/")
    return url.rstrip("/") + "/"


def _require(request: HttpRequest, *methods: str, also: Sequence[str] = ()) -> None:
    """Raises WrongHttpMethod. A method of `also` came here because its client takes no HTML."""
    if request.method in methods:
        return
    answered = [*also, *methods]
    reason = "with a page of HTML, which Accept leaves out" if request.method in also else f"not {request.method}"
    told = request.method if request.method in also else ", ".join(answered)
    raise WrongHttpMethod(f"{request.path} answers {told}, {reason}.", methods=answered)


def body_of(request: HttpRequest) -> bytes:
    """Raises UnsupportedMediaType or BodyTooLarge, the latter before a body that says its length is read."""
    kind = request.content_type or ""
    if kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedMediaType(f"Send Content-Type: application/json, not {kind or 'none'}.")
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise UnsupportedMediaType(f"Send the body as it is, not with Content-Encoding: {encoding}.")
    limit = settings.APFLOW.limits.body_bytes
    if int(request.headers.get("Content-Length") or 0) <= limit:
        body = request.read(limit + 1)
        if len(body) <= limit:
            return body
    raise BodyTooLarge(f"The body has more than {limit} bytes (limits.body_bytes).")


def _answer(answer: Answer) -> HttpResponse:
    status = answer.http_status if isinstance(answer, jsonrpc.Failure) else 200
    return json_response(answer.to_json(), status=status)


def _failed(error: Exception, dialect: Dialect, *, call_id: jsonrpc.Id = None) -> HttpResponse:
    """An error that no call is answered with, in the shape of the dialect."""
    response = _answer(replace(dialect.failure(error), id=call_id))
    if isinstance(error, WrongHttpMethod):
        response["Allow"] = ", ".join(error.methods)
    return response


def refusal(error: Exception, *, shape: Callable[[Exception], Any] = as_rpc) -> HttpResponse:
    """An error outside of any call: its HTTP status is the table's."""
    response = json_response(shape(error), status=rule_of(error).http_status)
    if isinstance(error, WrongHttpMethod):
        response["Allow"] = ", ".join(error.methods)
    return response


def json_response(value: Any, *, status: int = 200) -> HttpResponse:
    body = orjson.dumps(value)
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Content-Length": str(len(body))}
    headers |= STATUS_HEADERS.get(status, {})
    return HttpResponse(body, content_type="application/json", status=status, headers=headers)


def held(response: HttpResponseBase, *, request: HttpRequest, caller: Caller) -> HttpResponseBase:
    """A stream counts among those that are open, and ends when its caller would not be let in any more. Raises LimitReached."""
    if isinstance(response, StreamingHttpResponse):
        open_streams.these().refuse_if_full(caller)
        frames = cast("AsyncIterator[bytes]", response.streaming_content)
        response.streaming_content = open_streams.guarded(
            frames, caller=caller, who_is_it=partial(authenticate, request)
        )
    return response


def streaming(frames: AsyncGenerator[bytes]) -> StreamingHttpResponse:
    return StreamingHttpResponse(frames, headers=sse.HEADERS)
