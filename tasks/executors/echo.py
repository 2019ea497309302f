"""Returns its inputs."""

from typing import ClassVar

from aipartnerupflow.executors import Context, Executor, Json


class Echo(Executor):
    """Returns its inputs as the result."""

    id = "echo_executor"
    name = "Echo"
    description = "Returns its inputs, including the results of its dependencies."
    tags = ("demo", "test")
    result_schema: ClassVar[Json] = {"type": "object"}
    param_names = frozenset()
    example: ClassVar[Json] = {"message": "hello"}
    example_result: ClassVar[Json] = {"message": "hello"}

    async def execute(self, inputs: Json, context: Context) -> Json:
        return inputs
