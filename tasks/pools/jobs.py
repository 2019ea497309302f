"""A task as the message to the process that executes it."""

from django.conf import settings

from aipartnerupflow.executors import Context, Executor, Json
from aipartnerupflow.executors.base import unstored
from llmkeys.masker import MASKER
from tasks.pools.frames import Job


def job_of(executor: Executor, inputs: Json, context: Context, *, memory_bytes: int) -> Job:
    """Return the message that has the executor executed. `memory_bytes` 0: without a limit."""
    return Job(
        executor_id=executor.id,
        inputs=inputs,
        memory_bytes=memory_bytes,
        max_processes=settings.APFLOW.pools.process.processes,
        max_result_bytes=settings.APFLOW.limits.result_bytes,
        task_id=context.task_id,
        run_id=context.run_id,
        root_task_id=context.root_task_id,
        user_id=context.user_id,
        name=context.name,
        params=dict(context.params),
        schemas=dict(context.schemas),
        dependency_results=dict(context.dependency_results),
        attempt=context.attempt,
        reply=context.reply,
        config=dict(context.config),
        must_begin=context.begin is not unstored,
        secrets=_secrets_in(inputs),
    )


def _secrets_in(inputs: Json) -> list[str]:
    """Return those secrets of the run that the inputs contain."""
    masker = MASKER.get()
    return [] if masker is None else masker.values_in(inputs)
