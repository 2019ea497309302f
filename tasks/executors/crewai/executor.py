"""Runs a crew of agents that do one task together."""

from typing import ClassVar

from django.conf import settings

from aipartnerupflow.executors import Context, Executor, Json
from tasks.executors.crewai.crew_spec import parse_works
from tasks.executors.crewai.running import Crew

RESULT: Json = {
    "type": "object",
    "properties": {
        "result": {
            "type": ["string", "null"],
            "description": "The output of the last task; null when it was cancelled",
        },
        "token_usage": {"type": ["object", "null"]},
        "tasks": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "output": {"type": "string"}},
                "required": ["name", "output"],
            },
        },
    },
    "required": ["result", "token_usage", "tasks"],
}


class CrewAi(Executor):
    """Runs the agents and tasks of `params.works`; the inputs fill their templates."""

    id = "crewai_executor"
    name = "Crew of agents"
    description = (
        "Runs a CrewAI crew: `params.works` has its agents and tasks, whose texts may contain {name}, an input or the result of a "
        "dependency. Agents without tasks work on the task's name and inputs."
    )
    tags = ("ai", "llm", "agents")
    extra = "crewai"
    result_schema: ClassVar[Json] = RESULT
    example: ClassVar[Json] = {"topic": "rivers"}
    example_result: ClassVar[Json] = {
        "result": "Rivers carry water from mountains to the sea.",
        "token_usage": {"prompt_tokens": 210, "completion_tokens": 48, "total_tokens": 258, "cost_usd": 0.0004},
        "tasks": [{"name": "Write about rivers", "output": "Rivers carry water from mountains to the sea."}],
    }
    idempotent = False
    pool = "process"

    def check(self, params: Json) -> None:
        parse_works(params.get("works"), name="", inputs=None, tools=settings.APFLOW_CREWAI.tools or {})

    async def execute(self, inputs: Json, context: Context) -> Json:
        tools = settings.APFLOW_CREWAI.tools or {}
        works = parse_works(context.params.get("works"), name=context.name, inputs=inputs, tools=tools)
        steps = len(works.tasks)

        def on_step(name: str) -> None:
            context.report(len(crew.outputs) / steps, f"{name} completed")

        crew = Crew(works, context, on_step=on_step)
        await crew.check()
        return await crew.run()
