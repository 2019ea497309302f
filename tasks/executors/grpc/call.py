"""One call of a gRPC method, on a thread: requests and responses are JSON, and a server may send only so much."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import certifi
import grpc  # type: ignore[import-untyped]
from google.protobuf.descriptor_pb2 import FileDescriptorProto  # type: ignore[import-untyped]
from google.protobuf.descriptor_pool import DescriptorPool  # type: ignore[import-untyped]
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from google.protobuf.message_factory import GetMessageClass  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2  # type: ignore[import-untyped]

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors.grpc.executor import Order, Target

VERSIONS: Final = ("v1", "v1alpha")
MOST_FILES: Final = 500
MOST_BYTES: Final = 4 * 2**20
"""The greatest size of all descriptions of a service."""


def pool_for(channel: Any, service: str, *, left: Callable[[], float]) -> DescriptorPool:
    """Return the descriptions of the service and of all that it uses. `left` returns the seconds left.

    Raises ExecutorError, and grpc.RpcError.
    """
    for version in VERSIONS:
        try:
            return _pool_of(_files(channel, service, version=version, left=left))
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNIMPLEMENTED:
                raise
    raise ExecutorError(
        "The server offers no reflection (grpc.reflection.v1 or v1alpha), without which requests cannot be encoded. "
        "Enable it there.",
        permanent=True,
    )


def _files(channel: Any, service: str, *, version: str, left: Callable[[], float]) -> dict[str, FileDescriptorProto]:
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    files: dict[str, FileDescriptorProto] = {}
    size, request = 0, reflection_pb2.ServerReflectionRequest(file_containing_symbol=service)
    while True:
        response = next(call(iter([request]), timeout=left()), None)
        if response is None or not response.HasField("file_descriptor_response"):
            raise ExecutorError(f"The server knows no service '{service}'. Check `service`.", permanent=True)
        for text in response.file_descriptor_response.file_descriptor_proto:
            size += len(text)
            file = FileDescriptorProto.FromString(text)
            files[file.name] = file
        if size > MOST_BYTES or len(files) > MOST_FILES:
            raise ExecutorError("The server's description of itself is longer than allowed.", permanent=True)
        missing = next((name for file in files.values() for name in file.dependency if name not in files), None)
        if missing is None:
            return files
        request = reflection_pb2.ServerReflectionRequest(file_by_filename=missing)


def _pool_of(files: dict[str, FileDescriptorProto]) -> DescriptorPool:
    """Return a pool to which each file is added after those that it depends on. Raises ExecutorError, also for a circle."""
    pool, waiting, known = DescriptorPool(), dict(files), set[str]()
    try:
        while waiting:
            ready = [name for name, file in waiting.items() if known.issuperset(file.dependency)]
            if not ready:
                raise TypeError
            for name in ready:
                known.add(name)
                pool.AddSerializedFile(waiting.pop(name).SerializeToString())
    except (TypeError, DecodeError):
        raise ExecutorError("The server's description of itself is not valid.", permanent=True) from None
    return pool


SHOWN: Final = 2_000
MAY_PASS: Final = frozenset(
    {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "INTERNAL", "UNKNOWN"}
)
TOO_LARGE: Final = "larger than max"


def channel_to(target: Target, *, most_bytes: int) -> Any:
    """Return a channel that uses no proxy, retries nothing and shares no connection with others."""
    options = [
        ("grpc.default_authority", target.authority),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        ("grpc.max_receive_message_length", most_bytes),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if not target.tls:
        return grpc.insecure_channel(target.addresses, options)
    roots = Path(os.environ.get("SSL_CERT_FILE") or certifi.where()).read_bytes()
    options.append(("grpc.ssl_target_name_override", target.host))
    return grpc.secure_channel(target.addresses, grpc.ssl_channel_credentials(roots), options)


Call = Callable[[], tuple[Sequence[Json], bool]]


def prepared(channel: Any, order: Order) -> Call:
    """Ask the server what the method takes, and return the call of it.

    The call returns the responses as JSON, and whether the method streams them. Both block, and raise ExecutorError.
    """
    deadline = time.monotonic() + order.seconds

    def left() -> float:
        return max(0.0, deadline - time.monotonic())

    what = f"{order.service}/{order.method}"
    with _named_failures(what, order):
        pool = pool_for(channel, order.service, left=left)
    try:
        method: Any = pool.FindServiceByName(order.service).FindMethodByName(order.method)
    except KeyError:
        method = None
    if method is None:
        raise ExecutorError(
            f"The service '{order.service}' has no method '{order.method}'. Check `method`.", permanent=True
        )
    if method.client_streaming:
        raise ExecutorError(f"{what} takes a stream of requests, which this executor does not send.", permanent=True)
    try:
        request = ParseDict(order.request, GetMessageClass(method.input_type)(), descriptor_pool=pool)
    except (ParseError, ValueError, TypeError) as error:
        raise ExecutorError(
            f"inputs.request: is no {method.input_type.name}: {str(error)[:SHOWN]}.", permanent=True
        ) from None
    make = channel.unary_stream if method.server_streaming else channel.unary_unary
    remote = make(f"/{what}", type(request).SerializeToString, GetMessageClass(method.output_type).FromString)

    def call() -> tuple[Sequence[Json], bool]:
        responses: list[Json] = []
        size = 0
        with _named_failures(what, order):
            reply = remote(request, timeout=left(), metadata=tuple(order.metadata.items()))
            for each in reply if method.server_streaming else [reply]:
                size += each.ByteSize()
                if size > order.most_bytes:
                    raise ExecutorError(
                        f"{what}: the server sent more than a result may have (limits.result_bytes).", permanent=True
                    )
                responses.append(MessageToDict(each, descriptor_pool=pool))
                if len(responses) == order.most_messages:
                    break
        return responses, method.server_streaming

    return call


@contextmanager
def _named_failures(what: str, order: Order) -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        code, said = error.code().name, str(error.details() or "")[:SHOWN]
        if code == "DEADLINE_EXCEEDED":
            raise ExecutorError(f"{what}: no complete response within {order.seconds:g} s.") from None
        raise ExecutorError(
            f"{what} failed with {code}{f': {said}' if said else '.'}",
            permanent=code not in MAY_PASS or TOO_LARGE in said,
        ) from None
