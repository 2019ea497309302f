"""The inputs and the tags with which a run starts. Places of its tree name the inputs as `{{run.inputs.topic}}`."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from django.db import transaction

from llmkeys import sealed_texts
from tasks.models import RunInputs, RunTag
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json
from tasks.rules.tags import checked_tags
from tasks.services.flows import checked_inputs, refuse_unused
from tasks.services.secrets.write_only import sealed
from tasks.services.trees import Created, Execution
from tasks.services.trees.further_runs import flow_version_of, set_inputs, set_tags

FIELD: Final = "run_inputs"
NOT_USED: Final = "The tree is already running, with the inputs of that run: run_inputs was not used."
ALL_COMPLETED: Final = (
    "would not be used: all tasks of this run have completed, and completed tasks do not run again. "
    "To run them with other inputs, run a copy of the tree: tasks.fork, or tasks.execute with copy_execution and copy_children."
)
T = TypeVar("T", bound=Created | Execution)
TAGS_NOT_USED: Final = "The tree is already running, with the tags of that run: tags were not used."


@transaction.atomic
def with_inputs(
    verb: Callable[..., Execution], inputs: Json, /, *, replace_inputs: bool = False, **arguments: Any
) -> Execution:
    """Call a function of `tasks.services` that starts a run, and give the run these inputs.

    A further run of a tree, or the run of its copy, also has the inputs of the run before it; an input with the same
    name replaces the earlier one, and with `replace_inputs` all are replaced. In a run of a flow, defaults are filled in.
    A run that is already under way keeps its own inputs.

    Raises InvalidParams for inputs that no task uses, that do not fit the schema of the flow, or that are too large, and
    if all tasks have completed, so that none would use them.
    """
    execution = verb(**arguments)
    if not execution.started:
        return replace(execution, warnings=[*execution.warnings, NOT_USED])
    run = execution.run
    version = flow_version_of(run)
    refuse_unused(run, version, inputs, field=FIELD)
    before = None if replace_inputs else RunInputs.objects.filter(run_id=run.id).first()
    merged = inputs if before is None else before.inputs | inputs
    opened = sealed_texts.opened_where_possible(merged, owner=run.user_id)
    given = checked_inputs(version, opened, owner=run.user_id, field=FIELD)
    if execution.is_idle and (inputs or replace_inputs):
        raise InvalidParams([(FIELD, ALL_COMPLETED)])
    set_inputs(run, sealed(given, version.inputs_schema if version else None, owner=run.user_id))
    return execution


@transaction.atomic
def with_tags(verb: Callable[..., T], tags: Sequence[str], **arguments: Any) -> T:
    """Call a function of `tasks.services` that starts a run, and give the run these tags.

    Without this, a further run of a tree has the tags of the one before it. A run that is already under way keeps its own. Raises InvalidParams.
    """
    checked = checked_tags(tags)
    result = verb(**arguments)
    assert result.run is not None  # noqa: S101  (the function starts a run)
    if isinstance(result, Execution) and not result.started:
        return replace(result, warnings=[*result.warnings, TAGS_NOT_USED])
    set_tags(result.run, checked)
    return result


def tags_of(run_ids: Collection[str]) -> dict[str, list[str]]:
    """Map each of these runs that has tags to them, in the order of the alphabet."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    if run_ids:
        rows = RunTag.objects.filter(run_id__in=run_ids).values_list("run_id", "tag")
        for run_id, tag in sorted(rows):
            found[run_id].append(tag)
    return dict(found)
