"""A2A 1.0 over gRPC, on a separate port (section 10). Needs the package extra `grpc`."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import grpc  # type: ignore[import-untyped]
import orjson
from django.conf import settings
from google.protobuf import descriptor_pb2, json_format  # type: ignore[import-untyped]
from google.protobuf.descriptor_pool import DescriptorPool  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection, reflection_pb2  # type: ignore[import-untyped]

from a2a.core.http import Headers, turns
from a2a.core.process import this_drain
from a2a.live import stream_limits
from a2a.live.stream_limits import WhoIsIt
from a2a.protocol.bindings import perform
from a2a.protocol.bindings.grpc_schema import KNOWN, SERVICE, class_of, message, to_json
from a2a.protocol.errors import status_of
from a2a.protocol.operations import OPERATIONS
from a2a.protocol.versions import V1_0
from accounts.auth import AuthenticationFailed, caller_of, token_in
from accounts.callers import LOCAL, Caller
from tasks.rules.conditions import is_index
from tasks.rules.strict_json import Json, MalformedJson, decode
from tasks.storage.loads import limited_loads

Context = Any
"""The context of a gRPC call; grpcio has no type annotations."""
DETAILS: Final = "grpc-status-details-bin"
SERVING: Final = health_pb2.HealthCheckResponse.SERVING
LARGE_BYTES: Final = 64 * 1024
"""Larger requests are converted in a thread."""
KEEP_ALIVE: Final = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 30_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.server_handshake_timeout_ms", 10_000),
)
"""A client that has gone without a word is noticed within a minute."""

#: Operation → its request and its response.
METHODS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "SendMessage": ("SendMessageRequest", "SendMessageResponse"),
        "SendStreamingMessage": ("SendMessageRequest", "StreamResponse"),
        "GetTask": ("GetTaskRequest", "Task"),
        "ListTasks": ("ListTasksRequest", "ListTasksResponse"),
        "CancelTask": ("CancelTaskRequest", "Task"),
        "SubscribeToTask": ("SubscribeToTaskRequest", "StreamResponse"),
        "CreateTaskPushNotificationConfig": ("TaskPushNotificationConfig", "TaskPushNotificationConfig"),
        "GetTaskPushNotificationConfig": ("GetTaskPushNotificationConfigRequest", "TaskPushNotificationConfig"),
        "ListTaskPushNotificationConfigs": (
            "ListTaskPushNotificationConfigsRequest",
            "ListTaskPushNotificationConfigsResponse",
        ),
        "DeleteTaskPushNotificationConfig": ("DeleteTaskPushNotificationConfigRequest", "Empty"),
        "GetExtendedAgentCard": ("GetExtendedAgentCardRequest", "AgentCard"),
    }
)


async def start() -> grpc.aio.Server:
    """Start a server on `server.host` and `a2a.grpc_port`.

    Web processes of a machine share the port. Raises RuntimeError if the port is in use, or OSError
    if the certificate cannot be read.
    """
    size = ("grpc.max_receive_message_length", settings.APFLOW.limits.body_bytes)
    server = grpc.aio.server(options=[size, *KEEP_ALIVE])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, dict(map(_method, METHODS)))])
    health_pb2_grpc.add_HealthServicer_to_server(Health(), server)
    names = [SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME]
    reflection.enable_server_reflection(names, server, pool=_described())
    address = f"{settings.APFLOW.server.host}:{settings.APFLOW.a2a.grpc_port}"
    credentials = _credentials()
    if credentials is None:
        server.add_insecure_port(address)
    else:
        server.add_secure_port(address, credentials)
    await server.start()
    logging.getLogger("grpc._cython.cygrpc").addFilter(_shorten)
    return server


def _shorten(record: logging.LogRecord) -> bool:
    """Log in one line that a client refused a reply or has left: gRPC takes it for an error, with a traceback."""
    kind = record.exc_info[0] if record.exc_info else None
    if kind is not None and kind.__name__ == "ExecuteBatchError":
        record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
        record.exc_info = record.exc_text = None
    return True


class Health(health.aio.HealthServicer):  # type: ignore[misc]
    """The standard health service: the whole server, and A2A, serve until the process shuts down."""

    async def Check(self, request: Any, context: Context) -> Any:
        """Return the status. Like `GET /ready`, it changes as soon as the process drains."""
        status = health_pb2.HealthCheckResponse.NOT_SERVING if this_drain().is_on else SERVING
        for service in ("", SERVICE):
            await self.set(service, status)
        return await super().Check(request, context)


def _described() -> DescriptorPool:
    """Return A2A with its service, and the services beside it, for clients that ask for the schema (reflection)."""
    pool = DescriptorPool()
    for module in (*KNOWN, health_pb2, reflection_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto()
    class_of("Task").DESCRIPTOR.file.CopyToProto(file)
    service = file.service.add(name=SERVICE.rpartition(".")[2])
    for name, kinds in METHODS.items():
        sent, answered = (f".{class_of(kind).DESCRIPTOR.full_name}" for kind in kinds)
        is_stream = OPERATIONS[name].streams
        service.method.add(name=name, input_type=sent, output_type=answered, server_streaming=is_stream)
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _credentials() -> grpc.ServerCredentials | None:
    """Return the TLS credentials; None if no certificate is configured. Raises OSError."""
    chosen = settings.APFLOW.a2a
    if chosen.grpc_certificate is None or chosen.grpc_key is None:
        return None
    key, certificate = (Path(path).expanduser().read_bytes() for path in (chosen.grpc_key, chosen.grpc_certificate))
    return grpc.ssl_server_credentials([(key, certificate)])


def _method(name: str) -> tuple[str, Any]:
    request, response = METHODS[name]
    # Requests stay bytes until the caller is known: gRPC would answer a malformed one with INTERNAL.
    coding: Json = {"request_deserializer": None, "response_serializer": None}

    def encode(value: Json | None) -> bytes:
        made: bytes = message(response, value or {}).SerializeToString()
        return made

    async def unary(asked: bytes, context: Context) -> bytes:
        try:
            metadata = _metadata(context)
            caller = await _caller(metadata)
            found: bytes = await _performed(name, await _params(request, asked, caller), metadata, caller, encode)
            return found
        except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
            raise await _refusal(error, context) from None

    async def stream(asked: bytes, context: Context) -> AsyncIterator[bytes]:
        try:
            metadata = _metadata(context)
            who_is_it = partial(_caller, metadata)
            caller = await who_is_it()
            params = await _params(request, asked, caller)
            if name == "SubscribeToTask" and (after := metadata.get("after")) is not None:
                # The messages of the protocol lack this parameter, so it is in the metadata.
                params = params | {"after": int(after) if is_index(after) else after}
            async with (
                aclosing(await _performed(name, params, metadata, caller, encode)) as updates,
                _held(caller, who_is_it),
            ):
                async for page in updates:
                    for update in page:
                        yield update
        except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
            raise await _refusal(error, context) from None

    if OPERATIONS[name].streams:
        return name, grpc.unary_stream_rpc_method_handler(stream, **coding)
    return name, grpc.unary_unary_rpc_method_handler(unary, **coding)


async def _performed(
    name: str, params: Json, metadata: Mapping[str, str], caller: Caller, encode: Callable[[Any], bytes]
) -> Any:
    headers = replace(Headers.of(metadata), url=lambda: settings.APFLOW.server.public_url or "")
    with limited_loads():
        return await perform(name, params, version=V1_0, caller=caller, headers=headers, encode=encode)


async def _params(kind: str, asked: bytes, caller: Caller) -> Json:
    """Return the parameters of a request. Raises MalformedJson."""
    if len(asked) <= LARGE_BYTES:
        return _decoded(kind, asked)
    async with turns().of(caller):
        return await asyncio.to_thread(_decoded, kind, asked)  # which would hold up all other requests


def _decoded(kind: str, asked: bytes) -> Json:
    """Decode a message as strictly as JSON: what one interface refuses, none accepts.

    Protocol Buffers themselves allow NUL characters, NaN and infinities, and about 30 levels of
    nested objects.
    """
    try:
        text = orjson.dumps(to_json(class_of(kind).FromString(asked)))
    except DecodeError:
        raise MalformedJson(f"The request is not a {kind}, or nested too deeply for Protocol Buffers.") from None
    except (json_format.Error, ValueError, TypeError) as error:  # orjson's error is a TypeError
        raise MalformedJson(f"The request cannot be expressed in JSON: {error}.") from None
    value: Json = decode(text, nesting=settings.APFLOW.limits.nesting)
    return value


def _metadata(context: Context) -> "_AnyCase":
    """Return the entries of a call by their names. Entries with one name are joined with commas, as headers of HTTP are."""
    found = _AnyCase()
    for key, value in context.invocation_metadata() or ():
        name = str(key).lower()
        found[name] = f"{found[name]},{value}" if name in found else str(value)
    return found


@asynccontextmanager
async def _held(caller: Caller, who_is_it: WhoIsIt) -> AsyncGenerator[None]:
    """Count an open stream for the block, and end it when the caller loses access.

    Raises AuthenticationFailed in that case, and LimitReached if the caller has too many streams.
    """

    async def expire_when_revoked(time: asyncio.Timeout) -> None:
        await stream_limits.until_revoked(caller, who_is_it)
        time.reschedule(0)

    with stream_limits.open_streams().one_of(caller):
        try:
            async with asyncio.timeout(None) as time:
                watching = asyncio.create_task(expire_when_revoked(time))
                try:
                    yield
                finally:
                    watching.cancel()
                    await asyncio.wait({watching})
        except TimeoutError:
            if time.expired():
                raise AuthenticationFailed from None
            raise


class _AnyCase(dict[str, str]):
    """gRPC metadata with case-insensitive `get`; its keys are in lower case."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


async def _caller(metadata: Mapping[str, str]) -> Caller:
    """Return the caller of a gRPC call. Raises AuthenticationFailed."""
    if not settings.APFLOW.auth.is_on:
        return LOCAL
    return await caller_of(token_in(metadata))


async def _refusal(error: Exception, context: Context) -> Exception:
    """Abort the call with the status and details of the error (google.rpc.Status)."""
    shown = status_of(error)
    code = grpc.StatusCode[shown.kind.status]
    status = message(
        "Status",
        {"code": code.value[0], "message": shown.message, "details": shown.details_with_reason},
        package="google.rpc",
    )
    context.set_trailing_metadata(((DETAILS, status.SerializeToString()),))
    await context.abort(code, shown.message)
    return error
