"""The parameters of the methods for flows."""

from types import MappingProxyType
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from a2a.core.conditions import NotWith, Problem
from a2a.core.parsing import Params, Text
from a2a.methods.params import NewTasks, Starts
from tasks.rules.flows import NAME

RESUMES = "resume with tasks.execute and the task_id of the reply; this request would start another run"
FlowName = Annotated[str, Meta(pattern=f"^{NAME.pattern}$")]
Version = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class SaveFlow(Params, frozen=True, kw_only=True):
    """flows.save: `tasks`, or the tree of a stored task."""

    CONDITIONS = (NotWith("task_id", "tasks", "cannot be combined with tasks: send one of them"),)
    name: FlowName
    tasks: NewTasks | UnsetType = UNSET
    task_id: Text | None = None
    inputs_schema: dict[str, Any] | None = None
    """A JSON Schema of the inputs of a run; its defaults are filled in."""
    description: Annotated[str, Meta(max_length=10_000)] = ""
    is_tool: bool | None = None
    """Whether MCP clients of the owner get it as a tool; by default as it was, and of a new flow false."""

    def contradictions(self) -> list[Problem]:
        is_missing = self.tasks is UNSET and self.task_id is None
        missing = [("tasks", "required, or task_id for the tree of a stored task")]
        return [*(missing if is_missing else []), *super().contradictions()]


class GetFlow(Params, frozen=True, kw_only=True):
    """flows.get"""

    name: FlowName
    version: Version | None = None
    """Default: the newest one."""
    user_id: Text | None = None
    """The owner; only administrators see flows of others."""


class RunFlow(Starts, frozen=True, kw_only=True):
    """flows.run"""

    ALIASES = MappingProxyType({"run_inputs": "inputs"})
    name: FlowName
    version: Version | None = None
    inputs: dict[str, Any] | None = None
    """Values for `{{run.inputs.topic}}` in the flow, for this run."""
    user_id: Text | None = None

    def contradictions(self) -> list[Problem]:
        resumes = [("last_event_id", RESUMES)] if self.last_event_id is not None else []
        return [*super().contradictions(), *resumes]


class ListFlows(Params, frozen=True, kw_only=True):
    """flows.list"""

    user_id: Text | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    cursor: str | None = None


class FlowNamed(Params, frozen=True, kw_only=True):
    """flows.versions and flows.delete"""

    name: FlowName
    user_id: Text | None = None
