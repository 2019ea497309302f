"""What can go wrong, as exceptions: one base, so that one `except RpcError` is enough."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import httpx


class RpcError(Exception):
    """The call did not work. `code` is JSON-RPC's, or None where there was no answer; `data` says more."""

    def __init__(self, message: str, *, code: int | None = None, data: Any = None) -> None:
        self.code = code
        self.message = message
        self.data = data
        super().__init__(message)


class InvalidRequest(RpcError):
    """What was asked for is wrong: `data` has the fields and the reasons."""


class NotFound(RpcError):
    """There is no such task, or it is somebody else's."""


class Conflict(RpcError):
    """The state of the task does not allow it."""


class AuthenticationFailed(RpcError):
    """The token is missing, wrong or expired, or its role does not allow it."""


class Unreachable(RpcError):
    """No answer, or none of such a server."""


class TimedOut(Unreachable):
    """No answer in time. Whether the call was carried out is not known."""


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
    """The exception for JSON-RPC's error object."""
    code = reply["code"]
    return KINDS.get(code, RpcError)(reply["message"], code=code, data=reply.get("data"))


def unreachable(url: str, why: object) -> Unreachable:
    return Unreachable(f"No answer from {url}: {why}. Does a server run there? Start one: aipartnerupflow serve")


def why(error: httpx.TransportError) -> str:
    """Some of httpx's exceptions carry no text."""
    return str(error).rstrip(".") or type(error).__name__


@contextmanager
def named_errors(url: str) -> Iterator[None]:
    """Raises Unreachable or TimedOut for what httpx raises."""
    try:
        yield
    except httpx.ReadTimeout:
        raise TimedOut(f"{url} did not answer in time. It may still have done what was asked.") from None
    except httpx.TransportError as error:
        raise unreachable(url, why(error)) from error
