"""REST under `/api/`: the operations of `a2a.rest.operations` as views of Django REST framework.

DRF knows the operations of each URL, and describes them for OpenAPI. It has no coroutine functions, so a view
dispatches and authenticates by itself. Bodies are decoded and encoded as on all other interfaces.
"""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponseBase
from rest_framework.viewsets import ViewSet

from a2a.core.errors import as_rest
from a2a.core.exceptions import WrongHttpMethod
from a2a.core.http import headers_of, json_response, refusal, wants_tokens
from a2a.core.jsonrpc import Call
from a2a.live.streaming import events_response, stream_of_task
from a2a.methods.dispatch import REST, perform
from a2a.methods.params import Get
from a2a.rest.openapi import OperationSchema
from a2a.rest.operations import Operation
from a2a.rest.params import params_of
from accounts.auth import authenticate
from accounts.callers import Caller


class Endpoint(ViewSet):
    """The view of a URL. `operations` maps HTTP methods to operations."""

    operations: ClassVar[Mapping[str, Operation]] = MappingProxyType({})
    authentication_classes = permission_classes = ()
    http_method_names: ClassVar[list[str]] = ["get", "head", "post", "put", "patch", "delete"]
    schema = OperationSchema()

    async def dispatch(self, request: HttpRequest, *args: Any, **path: str) -> HttpResponseBase:
        """Authenticate the caller, and carry out the operation for the HTTP method."""
        try:
            caller = await authenticate(request)
            return await self.carry_out(request, self._operation(request), caller=caller, path=path)
        except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
            return refusal(error, shape=as_rest)

    async def carry_out(
        self, request: HttpRequest, operation: Operation, *, caller: Caller, path: Mapping[str, str]
    ) -> HttpResponseBase:
        params = await params_of(request, operation, path, caller=caller)
        if operation.rest.is_stream:
            return await _stream(request, Get.parse(params).task_id, caller=caller)
        call = Call(method=operation.method.name, params=params)
        reply, _ = await perform(call, caller=caller, dialect=REST, headers=headers_of(request))
        status, value = operation.answer(reply.result)
        return json_response(value, status=status)

    def _operation(self, request: HttpRequest) -> Operation:
        """Raise WrongHttpMethod."""
        method = str(request.method).replace("HEAD", "GET")
        if method not in self.operations:
            methods = [*self.operations, *(["HEAD"] if "GET" in self.operations else [])]
            why = f"{request.path} supports {', '.join(methods)}, not {request.method}."
            raise WrongHttpMethod(why, methods=methods)
        return self.operations[method]


async def _stream(request: HttpRequest, task_id: str, *, caller: Caller) -> HttpResponseBase:
    """Stream the events of the latest run of the task's tree, after `Last-Event-ID`."""
    after, has_tokens = request.headers.get("Last-Event-ID"), wants_tokens(request.GET)
    stream = await stream_of_task(caller, task_id, after, has_tokens=has_tokens)
    return events_response(stream, caller=caller, who_is_it=partial(authenticate, request))
