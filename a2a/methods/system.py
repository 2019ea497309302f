"""Methods about the server."""

from functools import cache
from typing import Any, Literal

from a2a.core.parsing import Params
from a2a.core.process import software_version
from a2a.methods.method import ADMIN, SYSTEM, TASKS, VIEWER, Response, Rest, declared, method
from a2a.methods.openrpc import openrpc_document
from a2a.methods.params import Nothing
from a2a.methods.results import DataResult
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.executors import describe, disabled_executors, executor_ids
from tasks.rules.strict_json import Json
from tasks.services.upkeep.examples import init_examples
from tasks.services.upkeep.readiness import readiness


class InitExamples(Params, frozen=True, kw_only=True):
    """examples.init"""

    force: bool = False


class Check(Response, frozen=True, kw_only=True):
    """A readiness check. `fix` tells the operator what to do if it is not `ok`."""

    ok: bool
    message: str
    fix: str | None


class Health(Response, frozen=True, kw_only=True):
    """The readiness of the server."""

    status: Literal["ok", "degraded"]
    version: str
    ready: bool
    checks: dict[str, Check]


class Executor(Response, frozen=True, kw_only=True):
    """The description of an executor.

    `extra` is the package extra that it needs; `pool` is where it runs unless the task chooses.
    """

    id: str
    name: str
    description: str
    tags: list[str]
    input_schema: Json
    result_schema: Json | None
    idempotent: bool
    cancelable: bool
    pool: Literal["loop", "thread", "process"]
    extra: str | None
    enabled: bool
    example: Any
    example_result: Any


class Examples(Response, frozen=True, kw_only=True):
    """The roots of the stored examples."""

    root_task_ids: list[str]
    count: int


@method("system.health", role=VIEWER, answer=Health, paths=[SYSTEM])
def health(caller: Caller, given: Nothing) -> DataResult:
    """Return whether the server is ready, and the result of each check."""
    state = readiness()
    return DataResult(native={"status": "ok" if state["ready"] else "degraded", "version": software_version(), **state})


@method(
    "system.executors",
    role=VIEWER,
    answer=list[Executor],
    rest=[Rest("listExecutors", "GET executors/")],
    paths=[SYSTEM],
)
def executors(caller: Caller, given: Nothing) -> DataResult:
    """Return all executors with the schemas of their inputs and results."""
    return DataResult(native=[describe(each) for each in sorted(executor_ids() | disabled_executors().keys())])


@method("examples.init", role=ADMIN, answer=Examples, paths=[SYSTEM])
async def fill_with_examples(caller: Caller, given: InitExamples) -> DataResult:
    """Store missing example trees; with `force`, also replace existing ones."""
    stored = await pools.write(init_examples, force=given.force)
    return DataResult(native={"root_task_ids": stored, "count": len(stored)})


@method("rpc.discover", role=VIEWER, answer=dict[str, Any], paths=[TASKS, SYSTEM])
def discover(caller: Caller, given: Nothing) -> DataResult:
    """Return the OpenRPC document: all methods with their parameters and results."""
    return DataResult(native=_document())


@cache  # building it takes 25 ms
def _document() -> Json:
    return openrpc_document({path: declared(path) for path in (TASKS, SYSTEM)})
