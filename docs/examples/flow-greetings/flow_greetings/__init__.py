"""An executor that greets."""

from typing import ClassVar

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Parked

WORDS = {"de": "Guten Tag", "en": "Hello", "it": "Buongiorno"}


class Greeting(Executor):
    """Greets `name` in `language`; asks for the name when there is none."""

    id = "greeting_executor"
    name = "Greeting"
    description = "Greets a person in a language."
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "language": {"type": "string", "default": "en"}},
    }
    result_schema: ClassVar[Json] = {"type": "object", "properties": {"greeting": {"type": "string"}}}
    example: ClassVar[Json] = {"name": "Ada", "language": "it"}

    async def execute(self, inputs: Json, context: Context) -> Json:
        language = inputs.get("language", "en")
        if language not in WORDS:
            raise ExecutorError(f"There is no greeting in '{language}'. Use one of {', '.join(WORDS)}.", permanent=True)
        name = inputs.get("name") or (context.reply.answer if context.reply else None)
        if name is None:
            raise Parked("What is the name?")
        context.report(1.0, "greeted")
        return {"greeting": f"{WORDS[language]}, {name}!"}
