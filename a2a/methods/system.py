"""Methods of `POST /system` about the server."""

from a2a.core.version import software_version
from a2a.methods import params
from a2a.methods.results import DataResult
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.executors import describe, disabled_executors, executor_ids
from tasks.services.upkeep.examples import init_examples
from tasks.services.upkeep.readiness import readiness


def health(caller: Caller, given: params.Nothing) -> DataResult:
    """Return whether the server is ready, and the result of each check."""
    state = readiness()
    return DataResult(native={"status": "ok" if state["ready"] else "degraded", "version": software_version(), **state})


def executors(caller: Caller, given: params.Nothing) -> DataResult:
    """Return all executors with the schemas of their inputs and results."""
    return DataResult(native=[describe(each) for each in sorted(executor_ids() | disabled_executors().keys())])


async def fill_with_examples(caller: Caller, given: params.InitExamples) -> DataResult:
    """Store missing example trees; with `force`, also replace existing ones."""
    stored = await pools.write(init_examples, force=given.force)
    return DataResult(native={"root_task_ids": stored, "count": len(stored)})
