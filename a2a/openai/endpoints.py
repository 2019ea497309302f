"""The endpoints of OpenAI's wires: responses, chat completions and models."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import partial
from hashlib import sha256
from typing import Any, Final

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from a2a.core.errors import as_rest, rule_of
from a2a.core.exceptions import ModelNotFound, ShuttingDown
from a2a.core.http import decoded_in_turn, encoded_response, headers_of, json_response, refusal, require_method, turn
from a2a.core.metrics import metered, note
from a2a.live import sse, stream_limits
from a2a.live.sse import held, refuse_if_pruned
from a2a.methods.dispatch import MAX_KEY_CHARACTERS, require
from a2a.openai import chat
from a2a.openai.following import Following
from a2a.openai.params import CreateCompletion, CreateResponse, Wanted
from a2a.openai.parts import Part, find
from a2a.openai.starting import AGENT, FLOW, start
from a2a.protocol.params import RequestContext
from accounts.auth import authenticate
from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.executors import executor_ids
from tasks.models import Flow
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json
from tasks.rules.tree import WORKFLOW
from tasks.services.runs.cancels import cancel_tasks
from tasks.services.trees.editing import delete_task
from tasks.services.trees.idempotency import HEADER, Token, remembered
from tasks.storage import loads

DONE: Final = b"data: [DONE]\n\n"
TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
"""The type of an error by its HTTP status; others are the fault of the request, or from 500 on of the server."""
View = Callable[..., Awaitable[HttpResponseBase]]


def as_openai(error: Exception) -> Json:
    """Return an error in OpenAI's format; `param` is the first field that is at fault."""
    shown, status = as_rest(error)["error"], rule_of(error).http_status
    fields = [each["field"] for each in shown.get("data") or () if isinstance(error, InvalidParams)]
    kind = TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    return {
        "error": {
            "message": shown["message"],
            "type": kind,
            "param": fields[0] if fields else None,
            "code": shown["code"],
        }
    }


def _edge(view: View) -> View:
    """Return the view with errors as responses."""

    async def edge(request: HttpRequest, **named: str) -> HttpResponseBase:
        try:
            return await view(request, **named)
        except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
            response = refusal(error, shape=as_openai)
            if response.status_code == 409:  # OpenAI's libraries would repeat the request
                response["X-Should-Retry"] = "false"
            return response

    return edge


@_edge
async def responses(request: HttpRequest) -> HttpResponseBase:
    """`POST /responses`: start a run, or answer its question; stream it, wait for it, or return at once."""
    require_method(request, "POST")
    caller, given, part = await _started(request, CreateResponse, Wanted.of_response)
    if given.stream:
        return _stream(request, caller, part)
    if given.background:
        return await _read(caller, part)
    with stream_limits.open_streams().one_of(caller):
        return json_response(await Following(caller=caller, part=part).ended())


@_edge
async def response(request: HttpRequest, *, response_id: str) -> HttpResponseBase:
    """`GET /responses/{id}`: the response as it is, or its events. `DELETE`: delete its tree with all runs."""
    require_method(request, "GET", "DELETE")
    caller = await authenticate(request)
    if request.method == "DELETE":
        require(caller, Role.OPERATOR, what="DELETE /responses")
        part = await pools.read(find, caller, response_id)
        await pools.write(partial(delete_task, caller=caller, task_id=part.run.root_id, force=True))
        return json_response({"id": response_id, "object": "response", "deleted": True})
    after, streams = _resumes(request)
    part = await pools.read(find, caller, response_id)
    await refuse_if_pruned(part.run, after=part.after)
    return _stream(request, caller, part, starting_after=after) if streams else await _read(caller, part)


@_edge
async def cancel(request: HttpRequest, *, response_id: str) -> HttpResponseBase:
    """`POST /responses/{id}/cancel`: cancel the run. A response that has ended is returned as it is."""
    require_method(request, "POST")
    caller = await authenticate(request)
    require(caller, Role.OPERATOR, what="POST /responses/{id}/cancel")
    part = await pools.read(find, caller, response_id)
    await cancel_tasks(caller, task_ids=[part.run.target_id])
    return await _read(caller, part)


@_edge
async def chat_completions(request: HttpRequest) -> HttpResponseBase:
    """`POST /chat/completions`: the same as `POST /responses`, on the older wire."""
    require_method(request, "POST")
    caller, given, part = await _started(request, CreateCompletion, Wanted.of_completion)
    following = Following(caller=caller, part=part)
    if given.stream:
        has_usage = given.stream_options is not None and given.stream_options.include_usage
        frames = _framed(chat.chunks(following, has_usage=has_usage), partial(_frame, is_named=False))
        return held(sse.replies(frames), caller=caller, who_is_it=partial(authenticate, request))
    with stream_limits.open_streams().one_of(caller):
        ended = await following.ended()
    return json_response(chat.completion(ended))


@_edge
async def models(request: HttpRequest) -> HttpResponseBase:
    """`GET /models`: the flows of the caller, the workflows, and the agent of this server."""
    require_method(request, "GET")
    caller = await authenticate(request)
    return json_response({"object": "list", "data": await pools.read(_models, caller)})


@_edge
async def model(request: HttpRequest, *, name: str) -> HttpResponseBase:
    """`GET /models/{id}`."""
    require_method(request, "GET")
    caller = await authenticate(request)
    found = await pools.read(_models, caller, name)
    if not found:
        raise ModelNotFound(name)
    return json_response(found[0])


def _models(caller: Caller, name: str | None = None) -> list[Json]:
    """Return what the caller can run, or what has this name."""
    found: list[Json] = []
    a2a = settings.APFLOW.a2a
    if a2a.text_executor or a2a.text_flow:
        found.append(_model(AGENT, owner="server"))
    found += [_model(each, owner="server") for each in sorted(executor_ids()) if each.startswith(WORKFLOW)]
    own: Iterable[Any] = Flow.objects.filter(user_id=caller.user_id).order_by("name").values_list("name", "created_at")
    found += [_model(f"{FLOW}{flow}", owner="user", created=int(at.timestamp())) for flow, at in own]
    return found if name is None else [each for each in found if each["id"] == name]


def _model(name: str, *, owner: str, created: int = 0) -> Json:
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


async def _started(request: HttpRequest, kind: Any, read: Callable[[Any], Wanted]) -> tuple[Caller, Any, Part]:
    """Start what the body of a request asks for; once for each Idempotency-Key."""
    caller = await authenticate(request)
    path = request.path.rstrip("/").removeprefix("/v1")
    with metered(path.removeprefix("/")):
        require(caller, Role.OPERATOR, what=f"POST {path}")
        note(user=caller.user_id)
        loads.charge(caller.user_id)
        async with turn(request, caller):
            body = await decoded_in_turn(request)
            given = kind.parse(body)
            wanted = read(given)
            stream_limits.open_streams().refuse_if_full(caller)
            headers = headers_of(request)
            asked = RequestContext(caller=caller, url=headers.url, version="1.0", llm_key=headers.sent_key())
            begin = partial(start, asked, wanted)
            if headers.idempotency_key is not None:
                begin = partial(_once, begin, caller, _token(headers.idempotency_key, path, body))
            part = await pools.read(find, caller, await pools.write(begin))
            note(run=part.run.id)
    return caller, given, part


def _token(key: str, path: str, body: Any) -> Token:
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        raise InvalidParams([(HEADER, f"must have 1 to {MAX_KEY_CHARACTERS} characters, not {len(key):,}")])
    return Token(key=key, request_hash=sha256(orjson.dumps([path, body], option=orjson.OPT_SORT_KEYS)).hexdigest())


def _once(begin: Callable[[], str], caller: Caller, token: Token) -> str:
    return remembered(
        begin,
        caller=caller,
        token=token,
        outcome_of=lambda response_id: {"response": response_id},
        restore=lambda outcome: str(outcome["response"]),
    )


async def _read(caller: Caller, part: Part) -> HttpResponse:
    """Return the response as it is now. It is encoded on the thread that reads it."""
    return encoded_response(await pools.read(lambda: orjson.dumps(Following(caller=caller, part=part).now())))


def _resumes(request: HttpRequest) -> tuple[int, bool]:
    """Return the number of the event after which the stream continues, and whether one is wanted. Raises InvalidParams."""
    known = {"stream", "starting_after", "include_obfuscation"}
    problems = [(name[:100], "not supported here") for name in request.GET if name not in known]
    after, streams = request.GET.get("starting_after"), request.GET.get("stream", "false")
    if streams not in ("true", "false"):
        problems.append(("stream", "must be true or false"))
    if request.GET.get("include_obfuscation", "false") != "false":
        problems.append(("include_obfuscation", "must be false"))
    if after is not None and not (after.isascii() and after.isdigit() and len(after) < 10):
        problems.append(("starting_after", "must be the sequence number of an event"))
    if after is not None and streams != "true":
        problems.append(("starting_after", "only with stream=true"))
    if problems:
        raise InvalidParams(problems)
    return -1 if after is None else int(after), streams == "true"


def _stream(request: HttpRequest, caller: Caller, part: Part, *, starting_after: int = -1) -> HttpResponseBase:
    frames = _framed(Following(caller=caller, part=part).events(), partial(_frame, starting_after=starting_after))
    return held(sse.replies(frames), caller=caller, who_is_it=partial(authenticate, request))


async def _framed(source: AsyncGenerator[list[Json]], frame: Callable[[Json], bytes]) -> AsyncGenerator[list[bytes]]:
    """Yield the events as frames, and the mark after the last. An error is the last event; ShuttingDown is raised."""
    number = 0
    try:
        async with aclosing(source) as found:
            async for events in found:
                number = events[-1].get("sequence_number", 0) + 1
                if frames := [made for event in events if (made := frame(event))]:
                    yield frames
    except ShuttingDown:
        raise
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        shown = as_openai(error)["error"]
        yield [sse.frame({"type": "error", "sequence_number": number, **shown, "error": shown})]
    yield [DONE]


def _frame(event: Json, *, starting_after: int = -1, is_named: bool = True) -> bytes:
    """Return a frame; empty for an event that the client has."""
    if not is_named:
        return sse.frame(event)
    if event["sequence_number"] <= starting_after:
        return b""
    return f"event: {event['type']}\n".encode() + sse.frame(event)
