"""Runs several crews for one task at once: all of them succeed, or the task fails."""

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

from django.conf import settings

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Stopped
from tasks.executors.crewai.crew_spec import CrewSpec, check_servers, filler_for, parse_works, works_and_inputs
from tasks.executors.crewai.executor import EXAMPLE_WORKS, RESULT, WORKS, CrewAi, check_at_start
from tasks.executors.crewai.running import Crew


class BatchCrewAi(Executor):
    """Runs the crews in `works`, by name.

    If one fails, the others are stopped and the task fails.
    """

    id = "batch_crewai_executor"
    name = "Crews of agents"
    description = (
        "Runs several CrewAI crews in parallel, `works` {name: {agents, tasks}} in the params or the inputs, and returns their results "
        "by name."
    )
    tags = ("ai", "llm", "agents")
    extra = "crewai"
    result_schema: ClassVar[Json] = {"type": "object", "additionalProperties": RESULT}
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "works": {
                "type": "object",
                "description": "The crews by name, each {agents, tasks}, unless `params.works` has them",
            },
        },
    }
    templates = frozenset({"works"})
    secret_inputs = frozenset()
    example: ClassVar[Json] = {"works": {"writers": EXAMPLE_WORKS}, "topic": "rivers"}
    example_result: ClassVar[Json] = {"writers": CrewAi.example_result}
    idempotent = False
    pool = "process"

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        _parsed(params, inputs, name="", is_filled=False)

    async def execute(self, inputs: Json, context: Context) -> Json:
        works = _parsed(context.params, inputs, name=context.name, is_filled=True)
        crews = _crews(works, context)
        for name, crew in crews.items():
            await check_at_start(works[name], crew)
        jobs = {name: asyncio.create_task(crew.run(WORKS, works[name])) for name, crew in crews.items()}
        try:
            await asyncio.wait(jobs.values(), return_when=asyncio.FIRST_EXCEPTION)
        except asyncio.CancelledError:
            await _stop(jobs)
            raise Stopped(result={name: crew.so_far(None) for name, crew in crews.items()}) from None
        failed = {name: error for name, job in jobs.items() if job.done() and (error := job.exception())}
        if failed:
            await _stop(jobs)
            raise _failure(failed)
        return {name: job.result() for name, job in jobs.items()}


def _parsed(params: Mapping[str, Any], inputs: Json, *, name: str, is_filled: bool) -> Mapping[str, CrewSpec]:
    """Parse the works of each crew; `is_filled`: with their templates filled. Raises ExecutorError."""
    works, place, values = works_and_inputs(params, inputs)
    if not isinstance(works, dict) or not works:
        raise ExecutorError(
            f"{place} must be an object with a crew for each name, {{name: {{agents, tasks}}}}.", permanent=True
        )
    known = values if is_filled else None
    tools = settings.APFLOW_CREWAI.tools or {}
    filler = filler_for(values) if is_filled else None
    parsed = {
        crew: parse_works(each, name=name, inputs=known, tools=tools, place=f"{place}.{crew}", filler=filler)
        for crew, each in works.items()
    }
    if not is_filled:
        for crew, spec in parsed.items():
            check_servers(spec, f"{place}.{crew}")
    return parsed


def _crews(works: Mapping[str, CrewSpec], context: Context) -> Mapping[str, Crew]:
    """Create the crews."""
    steps = sum(len(each.tasks) for each in works.values())
    crews: dict[str, Crew] = {}

    def on_step(name: str, done: float) -> None:
        context.report(sum(len(crew.outputs) for crew in crews.values()) / steps, f"{name} completed")

    crews |= {name: Crew(context, label=f"{name}: ", on_step=on_step) for name in works}
    return crews


async def _stop(jobs: Mapping[str, "asyncio.Task[Json]"]) -> None:
    for job in jobs.values():
        job.cancel()
    await asyncio.gather(*jobs.values(), return_exceptions=True)


def _failure(failed: Mapping[str, BaseException]) -> BaseException:
    name, error = next(iter(failed.items()))
    if not isinstance(error, ExecutorError):
        return error
    return ExecutorError(
        f"The crew '{name}' failed, so the others were stopped: {error}",
        permanent=error.permanent,
        retry_after_seconds=error.retry_after_seconds,
    )
