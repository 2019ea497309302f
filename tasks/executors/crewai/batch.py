"""Runs several crews for one task at once: all of them succeed, or the task fails."""

import asyncio
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, ClassVar

from django.conf import settings

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Stopped
from tasks.executors.crewai.crew_spec import CrewSpec, check_servers, filler_for, parse_works, works_and_inputs
from tasks.executors.crewai.executor import EXAMPLE_WORKS, OWN, RESULT, WORKS, CrewAi, check_at_start, works_of
from tasks.executors.crewai.own_crews import OwnCrew, own_crew_of_batch
from tasks.executors.crewai.running import Crew


class BatchCrewAi(Executor):
    """Runs the crews in `works`, by name.

    If one fails, the others are stopped and the task fails.
    """

    id = "batch_crewai_executor"
    name = "Crews of agents"
    description = (
        "Runs several CrewAI crews in parallel, `works` {name: {agents, tasks}} in the params or the inputs, also crews of the "
        "operator's code, and returns their results by name."
    )
    tags = ("ai", "llm", "agents")
    extra = "crewai"
    result_schema: ClassVar[Json] = {"type": "object", "additionalProperties": RESULT}
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "works": {
                "type": "object",
                "description": "The crews by name, each {agents, tasks}, or {crew, inputs} for a crew of executors.crewai.crews, "
                "unless `params.works` has them",
            },
        },
    }
    templates = frozenset({"works"})
    secret_inputs = frozenset()
    param_names = frozenset({"works", "model", "api_base"})
    example: ClassVar[Json] = {"works": {"writers": EXAMPLE_WORKS}, "topic": "rivers"}
    example_result: ClassVar[Json] = {"writers": CrewAi.example_result}
    idempotent = False
    pool = "process"

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        _parsed(params, inputs, name="", is_filled=False)

    async def execute(self, inputs: Json, context: Context) -> Json:
        works = _parsed(context.params, inputs, name=context.name, is_filled=True)
        crews = _crews(works, context)
        for name, work in works.items():
            if isinstance(work, OwnCrew) and work.is_package:
                works[name] = work = await works_of(work, task_name=context.name)
            if isinstance(work, CrewSpec):
                await check_at_start(work, crews[name])
        jobs = {name: asyncio.create_task(crew.run(_path_of(works[name]), works[name])) for name, crew in crews.items()}
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


def _parsed(params: Mapping[str, Any], inputs: Json, *, name: str, is_filled: bool) -> dict[str, CrewSpec | OwnCrew]:
    """Parse the works of each crew; `is_filled`: with their templates filled. Raises ExecutorError."""
    works, place, values = works_and_inputs(params, inputs)
    if not isinstance(works, dict) or not works:
        raise ExecutorError(
            f"{place} must be an object with a crew for each name, {{name: {{agents, tasks}}}}.", permanent=True
        )
    known = values if is_filled else None
    tools = settings.APFLOW_CREWAI.tools or {}
    filler = filler_for(values) if is_filled else None
    parsed: dict[str, CrewSpec | OwnCrew] = {}
    for crew, each in works.items():
        here = f"{place}.{crew}"
        own = own_crew_of_batch(each, here, inputs=values, filler=filler)
        spec = own or parse_works(each, name=name, inputs=known, tools=tools, place=here, filler=filler)
        if isinstance(spec, CrewSpec) and not is_filled:
            check_servers(spec, here)
        parsed[crew] = spec
    return parsed


def _path_of(work: CrewSpec | OwnCrew) -> str:
    """Return the function that runs it."""
    return OWN if isinstance(work, OwnCrew) else WORKS


def _crews(works: Collection[str], context: Context) -> Mapping[str, Crew]:
    """Create the crews of these names. The progress is the mean of theirs."""
    parts = dict.fromkeys(works, 0.0)

    def on_step(crew: str, name: str, done: float) -> None:
        parts[crew] = done
        context.report(sum(parts.values()) / len(parts), f"{name} completed")

    return {name: Crew(context, label=f"{name}: ", on_step=partial(on_step, name)) for name in works}


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
