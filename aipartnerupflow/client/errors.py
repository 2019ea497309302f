"""Exceptions of the client. All derive from RpcError."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import httpx


class RpcError(Exception):
    """The call failed.

    `code` is the JSON-RPC error code, or None if there was no reply; `data` has the details of the
    error.
    """

    def __init__(self, message: str, *, code: int | None = None, data: Any = None) -> None:
        self.code = code
        self.message = message
        self.data = data
        super().__init__(message)


class InvalidRequest(RpcError):
    """The request is invalid. For invalid parameters, `data` lists the fields and reasons."""


class NotFound(RpcError):
    """The task does not exist, or it belongs to another user."""


class Conflict(RpcError):
    """The current state of the task does not allow the call."""


class AuthenticationFailed(RpcError):
    """The token is missing, invalid or expired, or its role does not allow the call."""


class Unreachable(RpcError):
    """There was no reply, or it did not come from an aipartnerupflow server."""


class TimedOut(Unreachable):
    """There was no reply in time. The call may have been executed."""


class RunFailed(RpcError):
    """The run has not completed. `data` is its tree, as `wait` returns it."""


KINDS: Mapping[int, type[RpcError]] = MappingProxyType(
    {
        -32001: NotFound,
        -32004: AuthenticationFailed,
        **dict.fromkeys((-32006, -32008, -32009), Conflict),
        **dict.fromkeys((-32700, -32600, -32601, -32602), InvalidRequest),
        **dict.fromkeys((-32002, -32003, -32005, -32010, -32011, -32012), InvalidRequest),
    }
)


def error_of(reply: Mapping[str, Any]) -> RpcError:
    """Return the exception for a JSON-RPC error object."""
    code = reply["code"]
    return KINDS.get(code, RpcError)(reply["message"], code=code, data=reply.get("data"))


def unreachable(url: str, why: object) -> Unreachable:
    return Unreachable(f"No answer from {url}: {why}. Is the server running? Start it: aipartnerupflow serve")


def why(error: httpx.TransportError) -> str:
    """Return the message of the error, or its class name: some exceptions of httpx have no message."""
    return str(error).rstrip(".") or type(error).__name__


@contextmanager
def named_errors(url: str) -> Iterator[None]:
    """Turn transport errors of httpx into Unreachable or TimedOut."""
    try:
        yield
    except httpx.ReadTimeout:
        raise TimedOut(f"{url} did not answer in time. The request may still have been executed.") from None
    except httpx.TransportError as error:
        raise unreachable(url, why(error)) from error
