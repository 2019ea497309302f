"""The short way of a JSON-RPC call: from the bytes of its request to those of its reply.

Most requests are one call, from a program with a token. They need nothing of the requests, responses and middleware of Django, which
take longer than a read. The short way carries them out with the functions that all ways share, and refuses nothing by itself: a
request of another kind, or one that may have to be refused, goes the way of all requests, before any of it has been carried out.
"""

import re
import time
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Final, NamedTuple, cast
from uuid import uuid4

import orjson
from django.conf import settings

from a2a.core import jsonrpc
from a2a.core.errors import failure_of
from a2a.core.http import LARGE_BYTES, Headers, json_headers
from a2a.core.jsonrpc import Call, Failure, Response
from a2a.core.metrics import request_facts
from a2a.endpoints.views import with_text
from a2a.methods.dispatch import NATIVE, SYSTEM, Dialect, Outcome, carry_out
from accounts.audit import ADDRESS
from accounts.auth import AuthenticationFailed, authenticate_by
from apflow_site.edge.bodies import Scope
from apflow_site.edge.hosts import is_own_host
from apflow_site.logs import log_answered
from tasks.rules.strict_json import MalformedJson, decode
from tasks.telemetry.tracing import span, with_log_ids

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType(
    {"/tasks": NATIVE, "/tasks/": NATIVE, "/system": SYSTEM, "/system/": SYSTEM}
)
PLAIN: Final = frozenset(
    b"accept accept-encoding accept-language authorization cache-control connection content-length content-type forwarded host "
    b"pragma priority traceparent tracestate user-agent via x-api-key x-forwarded-for x-forwarded-host x-forwarded-port "
    b"x-forwarded-proto x-real-ip x-request-id".split()
)
"""The headers that a call may have on the short way. Any other one may mean something to another layer."""
JSON: Final = b"application/json"


NONE: Final = Headers()
REQUEST_ID_HEADER: Final = "X-Request-Id"
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Request ids that are accepted from a proxy; a request with any other id gets a new one."""


class Reply(NamedTuple):
    """An HTTP response."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def plain_headers(scope: Scope) -> Mapping[bytes, bytes] | None:
    """Return the headers of a request whose body may be a call for the short way; None if it goes the way of all requests."""
    if scope["path"] not in DIALECTS or scope["method"] != "POST" or scope["query_string"] or scope.get("root_path"):
        return None
    headers = dict(scope["headers"])
    if len(headers) != len(scope["headers"]) or not headers.keys() <= PLAIN:
        return None
    length, kind = headers.get(b"content-length", b""), headers.get(b"content-type", b"")
    if not length.isdigit() or int(length) >= min(LARGE_BYTES, settings.APFLOW.limits.body_bytes):
        return None
    is_json = kind == JSON or kind.startswith(JSON + b";")
    return headers if is_json and is_own_host(headers.get(b"host", b"").decode("latin-1")) else None


async def reply_to(scope: Scope, headers: Mapping[bytes, bytes], body: bytes) -> Reply | None:
    """Carry out the call in the body, and return the response. None: nothing has been done, and the request goes the way of all."""
    started = time.perf_counter()
    path, dialect = scope["path"], DIALECTS[scope["path"]]
    ADDRESS.set(str(scope["client"][0]) if scope.get("client") else "")  # as all here, for the task of this request
    request_id = request_id_of(_text(headers, b"x-request-id"))
    with with_log_ids(request=request_id), request_facts() as noted:
        try:
            caller = await authenticate_by(_text(headers, b"authorization"), _text(headers, b"x-api-key"))
            call = jsonrpc.parse(decode(body, nesting=settings.APFLOW.limits.nesting), batch_limit=1)
        except (AuthenticationFailed, MalformedJson):
            return None
        if not isinstance(call, Call) or not _is_plain(call, dialect):
            return None
        facts = {"http.request.method": "POST", "apflow.request.id": request_id}
        with span("POST", facts, kind="server", parent=_text(headers, b"traceparent") or None) as note:
            outcome = await carry_out(call, caller=caller, dialect=dialect, headers=NONE)
            status, reply = _encoded(outcome, call, with_texts=b"text/plain" in headers.get(b"accept", b""))
            note({"http.route": path, "http.response.status_code": status})
        if settings.APFLOW.log.requests:
            seconds = time.perf_counter() - started
            log_answered(method="POST", route=path, status=status, seconds=seconds, noted=noted)
    length, own_id = (b"Content-Length", b"%d" % len(reply)), (REQUEST_ID_HEADER.encode(), request_id.encode())
    return Reply(status, [*_headers(status), length, own_id], reply)


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1")


def _is_plain(call: Call, dialect: Dialect) -> bool:
    """Return whether the reply is one JSON text, and is made of nothing but the call."""
    method = dialect.methods.get(call.method)
    streams = isinstance(call.params, dict) and call.params.get("use_streaming", False) is not False
    return method is not None and not method.takes_url and not streams


def _encoded(outcome: Outcome, call: Call, *, with_texts: bool) -> tuple[int, bytes]:
    """Return the HTTP status and the body."""
    answer = cast("Response", outcome.answer)  # a single call is no notification
    try:
        if not isinstance(answer, Failure):
            return 200, orjson.dumps(answer.to_json())
    except TypeError as error:
        answer = failure_of(error, call_id=call.id)
    reply = answer.to_json()
    return answer.http_status, orjson.dumps(with_text(reply) if with_texts else reply)


@cache
def _headers(status: int) -> Sequence[tuple[bytes, bytes]]:
    """Return the headers of each JSON response with this status, but for its length."""
    return [(name.encode(), value.encode()) for name, value in json_headers(status).items()]


def request_id_of(sent: str) -> str:
    """Return the id of a request: the one that it was sent with, if that is valid, or a new one."""
    return sent if REQUEST_ID.fullmatch(sent) else str(uuid4())
