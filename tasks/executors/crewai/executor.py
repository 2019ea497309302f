"""Executors of crews: one crew of agents that does a task together, or several crews at once."""

import asyncio
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, ClassVar, Final

from django.conf import settings

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Stopped
from tasks.executors.crewai.crew_files import with_texts
from tasks.executors.crewai.crew_spec import CrewSpec, check_servers, filler_for, parse_works, works_and_inputs
from tasks.executors.crewai.own_crews import OwnCrew, own_crew_in, own_crew_of_batch, works_in_package
from tasks.executors.crewai.running import Crew
from tasks.executors.llm import fallbacks
from tasks.rules.schema import FURTHER

WORKS: Final = "tasks.executors.crewai.kickoff.kickoff"
OWN: Final = "tasks.executors.crewai.own_kickoff.kickoff_own"
RESULT: Json = {
    "type": "object",
    "properties": {
        "result": {
            "description": "The output of the last task, or any JSON that the last method of a flow returned; null when it was cancelled",
        },
        "parsed": {"description": "The output as JSON, if the last task asks for it"},
        "state": {"type": "object", "description": "The state of a flow"},
        "token_usage": {
            "type": ["object", "null"],
            "description": "Tokens of all model calls of the crew, and their cost",
        },
        "tasks": {
            "type": "array",
            "description": "The output of each task, in the order in which they ran",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "output": {"type": "string"}},
                "required": ["name", "output"],
            },
        },
    },
    "required": ["result", "token_usage", "tasks"],
}


EXAMPLE_WORKS: Json = {
    "agents": {"writer": {"role": "Writer"}},
    "tasks": {"write": {"description": "Write one sentence about {topic}.", "agent": "writer"}},
}


class CrewAi(Executor):
    """Runs the agents and tasks of `works`; the other inputs fill their templates."""

    id = "crewai_executor"
    name = "Crew of agents"
    description = (
        "Runs a CrewAI crew: `works`, in the params or the inputs, has its agents and tasks, whose texts may contain {name}, "
        "an input or the result of a dependency. Agents without tasks work on the task's name and inputs."
    )
    tags = ("ai", "llm", "agents")
    extra = "crewai"
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "works": {
                "type": "object",
                "description": "The crew, {agents, tasks}, unless `params.works` has it",
            },
            "crew": {
                FURTHER: True,
                "type": "string",
                "description": "Instead of works: the name of a crew or flow of executors.crewai.crews, unless `params.crew` has it",
            },
        },
    }
    result_schema: ClassVar[Json] = RESULT
    answer = "result"
    templates = frozenset({"works"})
    secret_inputs = frozenset()
    param_names = frozenset({"works", "crew", "model", "api_base", "fallback", "hedge"})
    example: ClassVar[Json] = {"works": EXAMPLE_WORKS, "topic": "rivers"}
    example_result: ClassVar[Json] = {
        "result": "Rivers carry water from mountains to the sea.",
        "token_usage": {"prompt_tokens": 210, "completion_tokens": 48, "total_tokens": 258, "cost_usd": 0.0004},
        "tasks": [{"name": "Write about rivers", "output": "Rivers carry water from mountains to the sea."}],
    }
    idempotent = False
    begins_itself = True
    pool = "process"

    def caches_calls(self, inputs: Json) -> bool:
        return True

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        fallbacks.check(params)
        if own_crew_in(params, inputs) is None:
            _parsed(params, inputs, name="", is_filled=False)

    async def execute(self, inputs: Json, context: Context) -> Json:
        inputs = await with_texts(inputs, context.files)
        crew = Crew(context)
        own = own_crew_in(context.params, inputs)
        if own is not None and not own.is_package:
            await context.begin()  # what its code does is not known
            return await crew.run(OWN, own)
        if own is None:
            works = _parsed(context.params, inputs, name=context.name, is_filled=True)
        else:
            works = await works_of(own, task_name=context.name)
        await check_at_start(works, crew)
        await crew.take_up(works)
        return await crew.run(WORKS, works)


async def works_of(own: OwnCrew, *, task_name: str) -> CrewSpec:
    """Return the works in the files of a package. Raises ExecutorError."""
    works = await asyncio.to_thread(works_in_package, own)
    tools = settings.APFLOW_CREWAI.tools or {}
    return parse_works(works, name=task_name, inputs=own.inputs, tools=tools, place=own.name)


async def check_at_start(works: CrewSpec, crew: Crew) -> None:
    """Raise ExecutorError if a model, its key or a tool of a server is unavailable, before any agent works in vain."""
    await crew.check([crew.model(wanted) for wanted in works.models])
    await crew.find_tools(works.tools_of_servers)


def _parsed(params: Mapping[str, Any], inputs: Json, *, name: str, is_filled: bool) -> CrewSpec:
    """Parse the works; `is_filled`: with their templates filled. Raises ExecutorError."""
    works, place, values = works_and_inputs(params, inputs)
    tools = settings.APFLOW_CREWAI.tools or {}
    parsed = parse_works(works, name=name, inputs=values if is_filled else None, tools=tools, place=place)
    if not is_filled:  # a Ray node, where it is filled, does not know the servers
        check_servers(parsed, place)
    return parsed


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
    param_names = frozenset({"works", "model", "api_base", "fallback", "hedge"})
    example: ClassVar[Json] = {"works": {"writers": EXAMPLE_WORKS}, "topic": "rivers"}
    example_result: ClassVar[Json] = {"writers": CrewAi.example_result}
    idempotent = False
    pool = "process"

    def caches_calls(self, inputs: Json) -> bool:
        return True

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        fallbacks.check(params)
        _parsed_batch(params, inputs, name="", is_filled=False)

    async def execute(self, inputs: Json, context: Context) -> Json:
        inputs = await with_texts(inputs, context.files)
        works = _parsed_batch(context.params, inputs, name=context.name, is_filled=True)
        crews = _crews(works, context)
        for name, work in works.items():
            if isinstance(work, OwnCrew) and work.is_package:
                works[name] = work = await works_of(work, task_name=context.name)
            if isinstance(work, CrewSpec):
                await check_at_start(work, crews[name])
        paths = {name: OWN if isinstance(work, OwnCrew) else WORKS for name, work in works.items()}
        jobs = {name: asyncio.create_task(crew.run(paths[name], works[name])) for name, crew in crews.items()}
        try:
            await asyncio.wait(jobs.values(), return_when=asyncio.FIRST_EXCEPTION)
        except asyncio.CancelledError:
            await _stop_all(jobs)
            raise Stopped(result={name: crew.so_far(None) for name, crew in crews.items()}) from None
        failed = {name: error for name, job in jobs.items() if job.done() and (error := job.exception())}
        if failed:
            await _stop_all(jobs)
            name, error = next(iter(failed.items()))
            if not isinstance(error, ExecutorError):
                raise error
            raise ExecutorError(
                f"The crew '{name}' failed, so the others were stopped: {error}",
                permanent=error.permanent,
                retry_after_seconds=error.retry_after_seconds,
            )
        return {name: job.result() for name, job in jobs.items()}


def _parsed_batch(
    params: Mapping[str, Any], inputs: Json, *, name: str, is_filled: bool
) -> dict[str, CrewSpec | OwnCrew]:
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


def _crews(works: Collection[str], context: Context) -> Mapping[str, Crew]:
    """Create the crews of these names. The progress is the mean of theirs."""
    parts = dict.fromkeys(works, 0.0)

    def on_step(crew: str, name: str, done: float) -> None:
        parts[crew] = done
        context.report(sum(parts.values()) / len(parts), f"{name} completed")

    return {name: Crew(context, label=f"{name}: ", on_step=partial(on_step, name)) for name in works}


async def _stop_all(jobs: Mapping[str, "asyncio.Task[Json]"]) -> None:
    for job in jobs.values():
        job.cancel()
    await asyncio.gather(*jobs.values(), return_exceptions=True)
