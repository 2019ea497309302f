"""Workflows as executors: `workflow:NAME`. The worker runs their code (`tasks.worker.live`), and their steps are tasks."""

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from difflib import get_close_matches
from typing import Any, ClassVar, Final

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json
from aipartnerupflow.workflows.functions import LocalStep, Workflow
from llmkeys.sealed_texts import has_sealed
from tasks.rules.places import places_in, source_of
from tasks.rules.schema import mismatch
from tasks.rules.tree import WORKFLOW

STEP: Final = "step_executor"
LOCAL: Final[ContextVar[Callable[[], Coroutine[Any, Any, LocalStep]]]] = ContextVar(
    "the step that only the code of its workflow has"
)


class StepRaised(ExecutorError):
    """The failure of a step whose workflow gets the exception as it is: `raised` is its name and its arguments, see `step(raises=…)`."""

    def __init__(self, message: str, raised: tuple[str, list[Any]]) -> None:
        super().__init__(message)
        self.raised = raised


class WorkflowTask(Executor):
    """A workflow. `executor_of` makes the class of each."""

    tags = ("code", "workflow")
    param_names = frozenset()
    secret_inputs = frozenset()
    workflow: ClassVar[Workflow[..., Any]]
    takes_more: ClassVar[bool]
    """Whether the workflow takes arguments of any name."""

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        """Refuse inputs that are no arguments, unless a place in another input names them, and values that are not what their hints say."""
        found = [place for name, value in inputs.items() for place in places_in(value, name)]
        known, used = self.input_schema["properties"], {source_of(path) for _, path in found}
        open_ones = {place.partition(".")[0].partition("[")[0] for place, _ in found}
        rules = {part: rule for part, rule in self.input_schema.items() if part in ("properties", "$defs")}
        for name, value in inputs.items():
            if name not in known and name not in used and not self.takes_more:
                close = get_close_matches(name[:255], known, n=1)
                hint = f"did you mean '{close[0]}'?" if close else f"it has {', '.join(known) or 'none'}"
                raise ExecutorError(f"inputs.{name[:255]}: {self.workflow.__name__}() has no such parameter; {hint}")
            if name in known and name not in open_ones and not has_sealed(value) and not mismatch(rules, {name: value}):
                try:
                    self.workflow.argument(name, value)
                except ValueError as error:
                    raise ExecutorError(f"inputs.{name}: {error}") from None

    def arguments_in(self, inputs: Json) -> Json:
        """Return the inputs that are arguments: results of dependencies are inputs, too."""
        names = inputs if self.takes_more else self.input_schema["properties"]
        return {name: value for name, value in inputs.items() if name in names}

    async def execute(self, inputs: Json, context: Context) -> Any:
        raise ExecutorError(f"{self.id} runs only as a task of a run.", permanent=True)


def executor_of(workflow: Workflow[..., Any]) -> type[WorkflowTask]:
    """Return the executor class of a workflow."""
    described = (workflow.__doc__ or workflow.__name__).strip().partition("\n")[0]
    schema = dict(workflow.input_schema)
    if not (takes_more := schema["additionalProperties"]):
        del schema["additionalProperties"]  # the results of dependencies are inputs, too
    return type(
        workflow.__name__,
        (WorkflowTask,),
        {
            "__module__": workflow.__module__,
            "id": f"{WORKFLOW}{workflow.__name__}",
            "name": workflow.__name__,
            "description": described[:255],
            "input_schema": schema,
            "result_schema": workflow.result_schema,
            "takes_more": takes_more,
            "workflow": workflow,
        },
    )
