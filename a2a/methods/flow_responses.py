"""The results of the methods for flows, as types."""

from a2a.methods.response import Response
from a2a.methods.responses import Execution
from a2a.methods.task_schemas import NewTask
from tasks.rules.strict_json import Json


class FlowRef(Response, frozen=True, kw_only=True):
    """The flow of which a run was made, and the version. `name` is null if the flow has been deleted."""

    name: str | None
    version: int


class Flow(Response, frozen=True, kw_only=True):
    """One version of a flow. `newest_version` is what runs by default."""

    name: str
    user_id: str
    version: int
    newest_version: int
    description: str
    inputs_schema: Json | None
    tasks: list[NewTask]
    created_at: str


class SavedFlow(Flow, frozen=True, kw_only=True):
    """A saved version. `is_new` is false if the newest version has the same content: then none was added."""

    is_new: bool
    warnings: list[str]


class FlowExecution(Execution, frozen=True, kw_only=True):
    """The reply to the execution of a flow."""

    flow: FlowRef
