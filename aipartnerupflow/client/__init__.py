"""The Python client: `Client`, and `AsyncClient` for asyncio.

It depends on httpx only, not on the server's code.
"""

from .calls import Call
from .clients import AsyncClient, Client
from .errors import (
    AuthenticationFailed,
    Conflict,
    InvalidRequest,
    NotFound,
    RpcError,
    RunFailed,
    TimedOut,
    Unreachable,
)
from .handles import AsyncRun, AsyncWorkflowRun, Run, WorkflowRun
from .trees import Condition, Loop, Map, Place, Tree, TreeTask
from .types import Event, Execution, Task

__all__ = [
    "AsyncClient",
    "AsyncRun",
    "AsyncWorkflowRun",
    "AuthenticationFailed",
    "Call",
    "Client",
    "Condition",
    "Conflict",
    "Event",
    "Execution",
    "InvalidRequest",
    "Loop",
    "Map",
    "NotFound",
    "Place",
    "RpcError",
    "Run",
    "RunFailed",
    "Task",
    "TimedOut",
    "Tree",
    "TreeTask",
    "Unreachable",
    "WorkflowRun",
]
