"""The arguments of the server's own tools."""

from typing import Annotated, Any, Final

from msgspec import Meta

from a2a.core.parsing import Params, Text
from a2a.methods.params import FlowName, Tags, Version
from tasks.rules.strict_json import Json

MOST_SECONDS: Final = 45
NEW_TASK: Final = {"$ref": "#/$defs/NewTask"}
NEW_TASKS: Final = {"type": "array", "items": NEW_TASK, "minItems": 1}
NewTasks = Annotated[Any, Meta(extra_json_schema={"anyOf": [NEW_TASKS, NEW_TASK]})]
"""Tasks in a request. The rules for tasks validate them; this is their published schema."""


class RunTree(Params, frozen=True, kw_only=True):
    """run_tree"""

    tasks: NewTasks
    run_inputs: Json | None = None
    """Values for `{{run.inputs.topic}}` in the tree, for this run."""
    tags: Tags | None = None
    use_demo: bool = False


class RunFlow(Params, frozen=True, kw_only=True):
    """run_flow"""

    name: FlowName
    version: Version | None = None
    inputs: Json | None = None
    tags: Tags | None = None
    use_demo: bool = False


class GenerateTree(Params, frozen=True, kw_only=True):
    """generate_tree"""

    requirement: Annotated[str, Meta(min_length=1, max_length=20_000)]
    model: Text | None = None


class GetRun(Params, frozen=True, kw_only=True):
    """get_run"""

    run_id: Text
    wait_seconds: Annotated[float, Meta(ge=0, le=MOST_SECONDS)] = 0
    """The seconds to wait for the end of the run."""
    with_tree: bool = True


class CancelRun(Params, frozen=True, kw_only=True):
    """cancel_run"""

    run_id: Text
    force: bool = False
