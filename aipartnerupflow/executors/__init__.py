"""The public API for executors: everything that a plug-in imports.

    from aipartnerupflow.executors import Context, Executor, ExecutorError, Json

The package is pure Python with type annotations. Importing it starts nothing: it imports no Django,
reads no settings and leaves `sys.path` alone, so a plug-in can be imported, type-checked and tested
in an environment where only the wheel is installed. `aipartnerupflow.executors.testing` makes the
contexts for such tests.

It is the lowest layer, although `aipartnerupflow` is the highest: the Django project inside the
wheel is on `sys.path` only in the server's processes, where a type checker cannot follow. The server
imports these definitions from here.
"""

from aipartnerupflow.executors.base import (
    Context,
    Escalation,
    Executor,
    ExecutorError,
    Json,
    LlmOf,
    Parked,
    ParkedForEvent,
    ParkedForTree,
    ParkedUntil,
    Reply,
    SecretOf,
    Spawn,
    Stopped,
    Wait,
)
from aipartnerupflow.executors.current import current_context, wait_for
from aipartnerupflow.executors.files import File, Files
from aipartnerupflow.executors.functions import on_a_thread, python_function
from aipartnerupflow.executors.http import Fetch, HttpOf, HttpResponse

__all__ = [
    "Context",
    "Escalation",
    "Executor",
    "ExecutorError",
    "Fetch",
    "File",
    "Files",
    "HttpOf",
    "HttpResponse",
    "Json",
    "LlmOf",
    "Parked",
    "ParkedForEvent",
    "ParkedForTree",
    "ParkedUntil",
    "Reply",
    "SecretOf",
    "Spawn",
    "Stopped",
    "Wait",
    "current_context",
    "on_a_thread",
    "python_function",
    "wait_for",
]
