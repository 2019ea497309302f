"""A2A over HTTP+JSON: a URL for each operation of 1.0 (section 11) and, under `/v1/`, of 0.3."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

from django.http import HttpRequest, HttpResponseBase
from django.urls import URLPattern, re_path
from django.views.decorators.csrf import csrf_exempt

from a2a.core.exceptions import WrongHttpMethod
from a2a.core.http import EXTENSIONS_HEADER, decoded, headers_of, json_response, requested_extensions
from a2a.core.metrics import metered
from a2a.live import sse
from a2a.live.sse import held
from a2a.methods.dispatch import encoded
from a2a.protocol.bindings import perform
from a2a.protocol.errors import as_http
from a2a.protocol.operations import OPERATIONS
from a2a.protocol.versions import V0_3_OVER_HTTP, V1_0, Version, activated_extensions
from accounts.auth import authenticate
from accounts.callers import Caller
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json

A2A_TYPE: Final = "application/a2a+json"
TASK: Final = r"tasks/(?P<id>[^/]+)"
CONFIGS: Final = r"tasks/(?P<taskId>[^/]+)/pushNotificationConfigs"
SUBSCRIBE: Final = MappingProxyType({"GET": "SubscribeToTask", "POST": "SubscribeToTask"})

#: Path → HTTP method → operation. Named groups are parameters. The first matching path wins.
ROUTES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "message:send": {"POST": "SendMessage"},
        "message:stream": {"POST": "SendStreamingMessage"},
        rf"{TASK}:cancel": {"POST": "CancelTask"},
        rf"{TASK}:subscribe": SUBSCRIBE,
        TASK: {"GET": "GetTask"},
        CONFIGS: {"GET": "ListTaskPushNotificationConfigs", "POST": "CreateTaskPushNotificationConfig"},
        rf"{CONFIGS}/(?P<id>[^/]+)": {
            "GET": "GetTaskPushNotificationConfig",
            "DELETE": "DeleteTaskPushNotificationConfig",
        },
    }
)
LIST: Final = MappingProxyType({"GET": "ListTasks"})
CARD: Final = MappingProxyType({"GET": "GetExtendedAgentCard"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The view of a URL. `operations` maps HTTP methods to operations."""

    version: Version
    operations: Mapping[str, str]

    async def __call__(self, request: HttpRequest, **path: str) -> HttpResponseBase:
        try:
            return with_extensions(request, await self._reply(request, path))
        except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
            status, body = as_http(error)
            response = json_response(body, status=status)
            if isinstance(error, WrongHttpMethod):
                response["Allow"] = ", ".join(error.methods)
            return response

    async def _reply(self, request: HttpRequest, path: Mapping[str, str]) -> HttpResponseBase:
        method = "GET" if request.method == "HEAD" else str(request.method)
        if method not in self.operations:
            why = f"{request.path} supports {', '.join(self.operations)}, not {request.method}."
            raise WrongHttpMethod(why, methods=list(self.operations))
        name = self.operations[method]
        caller = await authenticate(request)
        has_body = request.method == "POST"
        with metered(name):
            given = await _body(request, caller) if has_body else request.GET.dict()
            for field, value in path.items():
                if "\0" in value:  # PostgreSQL cannot store it
                    raise InvalidParams([(field, "contains a NUL character")])
            result = await perform(
                name,
                {**given, **path},
                version=self.version,
                caller=caller,
                headers=headers_of(request),
                is_text=not has_body,
                encode=sse.frame if OPERATIONS[name].streams else encoded,
            )
        if not isinstance(result, AsyncGenerator):
            response = json_response(result)
            if A2A_TYPE in request.headers.get("Accept", ""):
                response["Content-Type"] = A2A_TYPE
            return response
        return held(sse.replies(result), caller=caller, who_is_it=partial(authenticate, request))


list_tasks: Final = Endpoint(V1_0, LIST)


def with_extensions(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Add the header with the activated extensions (A2A 1.0, section 3.6)."""
    if active := activated_extensions(requested_extensions(request.headers)):
        response[EXTENSIONS_HEADER] = active
    return response


def _addresses(version: Version, prefix: str, routes: Mapping[str, Mapping[str, str]]) -> list[URLPattern]:
    return [
        re_path(rf"^{prefix}{path}\Z", csrf_exempt(Endpoint(version, operations).__call__))
        for path, operations in routes.items()
    ]


urlpatterns = [
    *_addresses(V1_0, "", {**ROUTES, "extendedAgentCard": CARD}),
    *_addresses(V0_3_OVER_HTTP, "v1/", {**ROUTES, "tasks": LIST, "card": CARD}),
]


async def _body(request: HttpRequest, caller: Caller) -> Json:
    """Return the JSON object in the body; empty without a body.

    Raises InvalidParams, and the errors of `decoded`.
    """
    if request.headers.get("Content-Length", "") in ("", "0") and "Transfer-Encoding" not in request.headers:
        return {}
    value = await decoded(request, caller)
    if not isinstance(value, dict):
        raise InvalidParams([("body", "must be a JSON object")])
    return value
