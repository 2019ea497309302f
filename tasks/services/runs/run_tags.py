"""The tags of runs: set when a run starts, and found with it."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from django.db import transaction

from tasks.models import RunTag
from tasks.rules.tags import checked_tags
from tasks.services.trees import Created, Execution
from tasks.services.trees.further_runs import set_tags

T = TypeVar("T", bound=Created | Execution)
NOT_USED: Final = "The tree is already running, with the tags of that run: tags were not used."


@transaction.atomic
def with_tags(verb: Callable[..., T], tags: Sequence[str], **arguments: Any) -> T:
    """Call a function of `tasks.services` that starts a run, and give the run these tags.

    Without this, a further run of a tree has the tags of the one before it. A run that is already under way keeps its own. Raises InvalidParams.
    """
    checked = checked_tags(tags)
    result = verb(**arguments)
    assert result.run is not None  # noqa: S101  (the function starts a run)
    if isinstance(result, Execution) and not result.started:
        return replace(result, warnings=[*result.warnings, NOT_USED])
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
