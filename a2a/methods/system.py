"""Methods of `POST /system`: about the server, not about tasks."""

from a2a import params
from a2a.results import DataResult
from a2a.version import software_version
from accounts.callers import Caller
from tasks import lanes
from tasks.examples import init_examples
from tasks.executors import describe, disabled_executors, executor_ids
from tasks.readiness import readiness


async def health(caller: Caller, given: params.Nothing) -> DataResult:
    """Whether the server can do its work now."""
    state = await lanes.read(readiness)
    return DataResult(native={"status": "ok" if state["ready"] else "degraded", "version": software_version(), **state})


async def executors(caller: Caller, given: params.Nothing) -> DataResult:
    """All executors, with the schemas of what they take and give."""
    return DataResult(native=[describe(each) for each in sorted(executor_ids() | disabled_executors().keys())])


async def fill_with_examples(caller: Caller, given: params.InitExamples) -> DataResult:
    """Store the example trees that are missing; with `force` also those that are there, anew."""
    stored = await lanes.write(init_examples, force=given.force)
    return DataResult(native={"root_task_ids": stored, "count": len(stored)})
