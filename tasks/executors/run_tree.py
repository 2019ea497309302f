"""Runs another tree, and waits for it without a worker."""

from typing import Any, ClassVar, Final

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, ParkedForTree
from tasks.executors.admission import checked
from tasks.rules.exceptions import TasksError
from tasks.rules.places import escaped
from tasks.rules.tree import WORKFLOW

DAY_SECONDS: Final = 86_400
SOURCES: Final = ("tasks", "copy_of", "flow", "workflow")
ONE_OF_THEM: Final = (
    "Give one of inputs.tasks, a list of tasks, inputs.copy_of, the id of a stored tree, inputs.flow, the name of a flow, "
    "and inputs.workflow, the name of a workflow."
)
CHANGES: Final[Json] = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "properties": {"inputs": {"type": "object"}, "params": {"type": "object"}},
        "additionalProperties": False,
    },
    "description": "Inputs and params in the place of those of tasks of the flow, by the ids of the tasks",
}


class RunTree(Executor):
    """Parks its task until the tree is over. The result of its root is that of the task."""

    id = "run_tree_executor"
    name = "Run a tree"
    description = (
        "Runs other tasks as a tree of their own, a copy of a stored tree, or a flow, with inputs of their own, and waits for it. "
        "The wait occupies no worker. The result of its root is the result; if it fails, the task fails."
    )
    tags = ("core",)
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "tasks": {
                "type": "array",
                "items": {"type": "object"},
                "minItems": 1,
                "description": "The tree, in the format of tasks.create. Its places are those of its own run",
            },
            "copy_of": {
                "type": "string",
                "minLength": 1,
                "maxLength": 255,
                "description": "The root of a stored tree, of which a copy runs",
            },
            "flow": {
                "type": "string",
                "minLength": 1,
                "maxLength": 100,
                "description": "The name of a flow of the same owner, or NAME@LABEL",
            },
            "version": {
                "type": "integer",
                "minimum": 1,
                "description": "The version of the flow. Default: that of the label, or the newest",
            },
            "changes": CHANGES,
            "workflow": {
                "type": "string",
                "minLength": 1,
                "maxLength": 100,
                "description": "The name of a workflow, whose arguments are `inputs`",
            },
            "inputs": {
                "type": "object",
                "description": "The inputs of the run: the tree uses them as {{run.inputs.NAME}}",
            },
            "timeout_seconds": {
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": 366 * DAY_SECONDS,
                "description": "The seconds to wait. Then the tree is cancelled, and the task fails. Default: forever",
            },
        },
    }
    result_schema: ClassVar[Json] = {"description": "The result of the root of the tree"}
    verbatim = frozenset({"tasks", "changes"})
    secret_inputs = frozenset()
    param_names = frozenset()
    example: ClassVar[Json] = {
        "tasks": [
            {"name": "Greet", "schemas": {"method": "echo_executor"}, "inputs": {"text": "Hello {{run.inputs.who}}"}}
        ],
        "inputs": {"who": "world"},
    }
    example_result: ClassVar[Json] = {"text": "Hello world"}

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        """Refuse a tree that `tasks.create` would refuse."""
        if sum(name in inputs for name in SOURCES) > 1:
            raise ExecutorError(ONE_OF_THEM)
        tasks = inputs.get("tasks")
        if not isinstance(tasks, list) or not tasks:
            return  # the schema says what is wrong, unless a result fills it in
        try:
            checked(tasks)
        except TasksError as error:
            raise ExecutorError(f"inputs.tasks: {error.message}") from None

    async def execute(self, inputs: Json, context: Context) -> Any:
        if context.reply is not None:
            end: Json = context.reply.answer
            if end["status"] == "completed":
                return end["result"]
            if end["task_id"] is None:
                raise ExecutorError(end["error"], permanent=True)
            why = f": {end['error']}" if end["error"] else "."
            raise ExecutorError(f"The tree '{end['task_id']}' ended as {end['status']}{why}")
        if sum(name in inputs for name in SOURCES) != 1:
            raise ExecutorError(ONE_OF_THEM, permanent=True)
        if (workflow := inputs.get("workflow")) is not None:
            arguments = (inputs.get("inputs") or {}) | inputs.get("changes", {}).get(workflow, {}).get("inputs", {})
            task = {"name": workflow, "schemas": {"method": f"{WORKFLOW}{workflow}"}, "inputs": escaped(arguments)}
            raise ParkedForTree([task], timeout_seconds=inputs.get("timeout_seconds"))
        raise ParkedForTree(
            inputs.get("tasks"),
            copy_of=inputs.get("copy_of"),
            flow=inputs.get("flow"),
            version=inputs.get("version"),
            changes=inputs.get("changes"),
            run_inputs=inputs.get("inputs"),
            timeout_seconds=inputs.get("timeout_seconds"),
        )
