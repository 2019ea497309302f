"""One call of a gRPC method, on a thread: requests and responses are JSON, and a server may send only so much."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import certifi
import grpc  # type: ignore[import-untyped]
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError  # type: ignore[import-untyped]
from google.protobuf.message_factory import GetMessageClass  # type: ignore[import-untyped]

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors.grpc.order import Order, Target
from tasks.executors.grpc.reflection import pool_for

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
        raise _failure(what, error, seconds=order.seconds) from None


def _failure(what: str, error: Any, *, seconds: float) -> ExecutorError:
    code, said = error.code().name, str(error.details() or "")[:SHOWN]
    if code == "DEADLINE_EXCEEDED":
        return ExecutorError(f"{what}: no complete response within {seconds:g} s.")
    return ExecutorError(
        f"{what} failed with {code}{f': {said}' if said else '.'}",
        permanent=code not in MAY_PASS or TOO_LARGE in said,
    )
