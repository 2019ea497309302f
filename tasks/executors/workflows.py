"""Workflows as executors: `workflow:NAME`. The worker runs their code (`tasks.worker.live`), and their steps are tasks."""

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, ClassVar, Final

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json
from aipartnerupflow.workflows.functions import LocalStep, Workflow
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

    async def execute(self, inputs: Json, context: Context) -> Any:
        raise ExecutorError(f"{self.id} runs only as a task of a run.", permanent=True)


def executor_of(workflow: Workflow[..., Any]) -> type[WorkflowTask]:
    """Return the executor class of a workflow."""
    described = (workflow.__doc__ or workflow.__name__).strip().partition("\n")[0]
    return type(
        workflow.__name__,
        (WorkflowTask,),
        {
            "__module__": workflow.__module__,
            "id": f"{WORKFLOW}{workflow.__name__}",
            "name": workflow.__name__,
            "description": described[:255],
            "input_schema": workflow.input_schema | {"additionalProperties": True},
            "result_schema": workflow.result_schema,
            "workflow": workflow,
        },
    )
