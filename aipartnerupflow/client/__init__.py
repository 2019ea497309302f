"""The Python client: `Client`, and `AsyncClient` for asyncio.

It depends on httpx only, not on the server's code.
"""

from aipartnerupflow.client.calls import Call
from aipartnerupflow.client.clients import AsyncClient, Client
from aipartnerupflow.client.errors import (
    AuthenticationFailed,
    Conflict,
    InvalidRequest,
    NotFound,
    RpcError,
    TimedOut,
    Unreachable,
)
from aipartnerupflow.client.handles import AsyncRun, Run
from aipartnerupflow.client.types import Event, Execution, Task

__all__ = [
    "AsyncClient",
    "AsyncRun",
    "AuthenticationFailed",
    "Call",
    "Client",
    "Conflict",
    "Event",
    "Execution",
    "InvalidRequest",
    "NotFound",
    "RpcError",
    "Run",
    "Task",
    "TimedOut",
    "Unreachable",
]
