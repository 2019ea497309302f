"""REST under `/api/`: the operations of `a2a.rest.operations` as views of Django REST framework, and their URLs.

DRF knows the operations of each URL and describes them for OpenAPI, authenticates callers, and answers errors. It has no
coroutine functions, so a view dispatches by itself. Bodies are decoded and encoded as on all other interfaces.
URLs are matched before percent-decoding, so that an id may contain a slash (`%2F`).
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Final, get_type_hints
from urllib.parse import quote, unquote_to_bytes

from django.http import HttpRequest, HttpResponseBase, QueryDict
from django.urls import path, register_converter, resolve
from django.views.decorators.csrf import csrf_exempt

from tasks.own_process import without

with without("requests", "markdown", "pygments", "psycopg"):  # DRF has a client and pages for them that we do not use
    from rest_framework.authentication import BaseAuthentication
    from rest_framework.request import Request
    from rest_framework.viewsets import ViewSet

from a2a.core.errors import as_rest
from a2a.core.exceptions import WrongHttpMethod
from a2a.core.http import decoded, headers_of, json_response, refusal, wants_tokens
from a2a.core.jsonrpc import Call
from a2a.core.parsing import MOST_SHOWN, Params, unknown_reason
from a2a.live.sse import events_response, stream_of_task
from a2a.methods.dispatch import REST, perform
from a2a.methods.params import Get
from a2a.rest.operations import ROUTES, Operation
from accounts.auth import authenticate, caller_from_token, token_in
from accounts.callers import Caller
from tasks.rules.exceptions import InvalidParams

BOOLEANS: Final = MappingProxyType({"true": True, "false": False})
WHOLE_NUMBER: Final = re.compile("-?[0-9]{1,18}")


async def params_of(request: HttpRequest, operation: Operation, path: Mapping[str, str], *, caller: Caller) -> Any:
    """Return the parameters of the method. Raises InvalidParams, and the errors of `decoded`."""
    query, kind, rest = request.GET, operation.method.params, operation.rest
    _refuse_unknown(query, [*operation.query, *rest.also])
    # PostgreSQL cannot store NUL characters. The JSON decoder checks bodies.
    texts = [*path.items(), *((name, text) for name, texts in query.lists() for text in texts)]
    if problems := [(name, "contains a NUL character") for name, text in texts if "\0" in text]:
        raise InvalidParams(problems)
    given = {**path, **{name: _typed(name, query, kind) for name in query if name not in rest.also}}
    if not operation.body:
        return {**rest.always, **given}
    has_body = request.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in request.headers
    body = await decoded(request, caller) if has_body or rest.rules else {}
    if not path:  # creation: the body has all parameters
        return body
    named = kind.named(body)
    _refuse_unknown(named, operation.body, hints=kind.HINTS)
    return {**named, **given}


def _refuse_unknown(
    names: Mapping[str, Any], known: Sequence[str], *, hints: Mapping[str, str] = MappingProxyType({})
) -> None:
    unknown = [name[:MOST_SHOWN] for name in names if name not in known][:MOST_SHOWN]
    if unknown:
        raise InvalidParams([(name, hints.get(name) or unknown_reason(name, known)) for name in unknown])


def _typed(name: str, query: QueryDict, kind: type[Params]) -> Any:
    """Return a query parameter as a JSON value of its type; a list if it occurs more than once.

    Text that does not fit stays text, and validation rejects it.
    """
    wanted = get_type_hints(kind)[name]
    values: list[Any] = query.getlist(name)
    if wanted in (bool, bool | None):
        values = [BOOLEANS.get(text, text) for text in values]
    elif wanted in (int, int | None):
        values = [int(text) if WHOLE_NUMBER.fullmatch(text) else text for text in values]
    return values[0] if len(values) == 1 else values


class TokenAuthentication(BaseAuthentication):
    """A bearer token or an API key, as on all other interfaces. It reads the database."""

    def authenticate(self, request: Request) -> tuple[Caller, str]:
        """Raise AuthenticationFailed, of ours."""
        token = token_in(request.headers)
        return caller_from_token(token), token


def refuse(error: Exception, context: Mapping[str, Any]) -> HttpResponseBase:
    """Answer an error: the exception handler of DRF (`REST_FRAMEWORK` in the settings)."""
    return refusal(error, shape=as_rest)


class Endpoint(ViewSet):
    """The view of a URL. `operations` maps HTTP methods to operations."""

    operations: ClassVar[Mapping[str, Operation]] = MappingProxyType({})
    authentication_classes = (TokenAuthentication,)
    permission_classes = ()
    http_method_names: ClassVar[list[str]] = ["get", "head", "post", "put", "patch", "delete"]

    async def dispatch(self, request: HttpRequest, *args: Any, **path: str) -> HttpResponseBase:
        """Authenticate the caller, and carry out the operation for the HTTP method."""
        try:
            caller = await authenticate(request)
            method = str(request.method).replace("HEAD", "GET")
            if method not in self.operations:
                methods = [*self.operations, *(["HEAD"] if "GET" in self.operations else [])]
                why = f"{request.path} supports {', '.join(methods)}, not {request.method}."
                raise WrongHttpMethod(why, methods=methods)
            return await self.carry_out(request, self.operations[method], caller=caller, path=path)
        except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
            return refusal(error, shape=as_rest)

    async def carry_out(
        self, request: HttpRequest, operation: Operation, *, caller: Caller, path: Mapping[str, str]
    ) -> HttpResponseBase:
        params = await params_of(request, operation, path, caller=caller)
        if operation.rest.is_stream:
            task_id = Get.parse(params).task_id
            after, has_tokens = request.headers.get("Last-Event-ID"), wants_tokens(request.GET)
            stream = await stream_of_task(caller, task_id, after, has_tokens=has_tokens)
            return events_response(stream, caller=caller, who_is_it=partial(authenticate, request))
        call = Call(method=operation.method.name, params=params)
        reply, _ = await perform(call, caller=caller, dialect=REST, headers=headers_of(request))
        status, value = operation.answer(reply.result)
        return json_response(value, status=status)


class Segment:
    """A percent-encoded path segment. A segment that is not UTF-8 does not match."""

    regex = "[^/]+"

    def to_python(self, value: str) -> str:
        return unquote_to_bytes(value).decode()

    def to_url(self, value: str) -> str:
        return quote(value, safe="")


register_converter(Segment, "segment")
urlpatterns = [
    path(
        f"api/{url.replace('<', '<segment:')}",
        Endpoint.as_view({method.lower(): "carry_out" for method in operations}, operations=operations),
    )
    for url, operations in ROUTES.items()
]


@csrf_exempt
async def api(request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
    """Dispatch requests under `/api/`. Raises Resolver404 for an unknown URL."""
    # Django itself matches the decoded path, here it is the one before percent-decoding, with a trailing slash.
    scope = getattr(request, "scope", {})  # ASGI only; other requests have only the decoded path
    raw = scope.get("raw_path", b"").decode("ascii", "replace") or quote(request.path)
    sent = raw.removeprefix(quote(scope.get("root_path", "")))
    match = resolve(sent if sent.endswith("/") else f"{sent}/", __name__)
    response: HttpResponseBase = await match.func(request, *match.args, **match.kwargs)
    return response
