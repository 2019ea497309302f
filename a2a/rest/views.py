"""REST under `/api/`: the operations of `a2a.rest.routes` as views of Django REST framework.

DRF provides authentication, dispatch by HTTP method and one place for errors. Bodies are decoded
and encoded as on all other interfaces.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

from asgiref.sync import async_to_sync
from django.http import HttpResponseBase
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.viewsets import ViewSet

from a2a.core.errors import as_rest
from a2a.core.exceptions import WrongHttpMethod
from a2a.core.http import Headers, json_response, refusal
from a2a.core.jsonrpc import Call
from a2a.live.streaming import events_response, stream_of_task
from a2a.methods.dispatch import REST, method_named, perform
from a2a.methods.params import Get
from a2a.rest.openapi import OperationSchema
from a2a.rest.params import params_of
from a2a.rest.routes import Operation
from accounts.auth import authenticate
from accounts.callers import Caller
from tasks.rules.strict_json import Json


class CallerAuthentication(BaseAuthentication):
    """Authenticates with `accounts.auth`; `request.user` is a Caller."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        return async_to_sync(authenticate)(request._request), None


class Endpoint(ViewSet):
    """The view of a URL. `operations` maps HTTP methods to operations."""

    operations: ClassVar[Mapping[str, Operation]] = MappingProxyType({})
    authentication_classes = (CallerAuthentication,)
    permission_classes = ()
    throttle_classes = ()
    http_method_names: ClassVar[list[str]] = ["get", "head", "post", "patch", "delete"]
    schema = OperationSchema()

    def carry_out(self, request: Request, **path: str) -> HttpResponseBase:
        operation = self.operations[request.method.lower().replace("head", "get")]
        kind = method_named(operation.method, REST.methods).params
        call = Call(method=operation.method, params=params_of(request._request, operation, path, kind=kind))
        headers = Headers.of(request.headers)
        reply, _ = async_to_sync(perform)(call, caller=request.user, dialect=REST, headers=headers)
        status, value = operation.answer(reply.result)
        return json_response(value, status=status)

    def http_method_not_allowed(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        methods = [method.upper() for method in self.operations]
        raise WrongHttpMethod(f"{request.path} supports {', '.join(methods)}, not {request.method}.", methods=methods)

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[None, None]:
        """Ignore `Accept`: the format of a reply depends on the operation only."""
        return None, None

    def get_exception_handler(self) -> Callable[[Exception, Json], HttpResponseBase]:
        return lambda error, context: refusal(error, shape=as_rest)


class Events(Endpoint):
    """Streams the events of the latest run of the task's tree, after `Last-Event-ID`."""

    def carry_out(self, request: Request, **path: str) -> HttpResponseBase:
        task_id = Get.parse(params_of(request._request, self.operations["get"], path, kind=Get)).task_id
        stream = async_to_sync(stream_of_task)(request.user, task_id, request.headers.get("Last-Event-ID"))
        return events_response(stream, caller=request.user, who_is_it=partial(authenticate, request._request))
