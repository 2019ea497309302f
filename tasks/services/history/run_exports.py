"""A run as a whole, for a file: what it got, its tree as it was, and what happened in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from accounts.callers import Caller
from tasks.models import TaskEvent
from tasks.rules.strict_json import TEXT, Json
from tasks.services import history
from tasks.services.history.past_trees import PastTree, past_tree
from tasks.services.secrets.write_only import for_pages
from tasks.storage import loads


@dataclass(frozen=True, slots=True, kw_only=True)
class RunExport:
    """`events` are those that have not been deleted, in order; None: not asked for."""

    detail: history.RunDetail
    past: PastTree
    events: Sequence[Json] | None


def export(*, caller: Caller, run_id: str, with_events: bool) -> RunExport:
    """Return a run with its tree. Raises RunNotFound or ResponseTooLarge."""
    detail = history.get_run(caller=caller, run_id=run_id)
    past = past_tree(caller=caller, run_id=run_id)
    return RunExport(detail=detail, past=past, events=_events(run_id) if with_events else None)


def for_file(*, caller: Caller, run_id: str) -> RunExport:
    """Like `export`, with events; without the parts of inputs that pages do not show, for a file that people pass on."""
    found = export(caller=caller, run_id=run_id, with_events=True)
    for task in found.past.tasks:
        columns = vars(task)
        task.schemas = orjson.loads(columns.pop(f"schemas{TEXT}") or "null")
        task.inputs = for_pages(task, orjson.loads(columns.pop(f"inputs{TEXT}") or "{}"))
    return found


def _events(run_id: str) -> list[Json]:
    rows = TaskEvent.objects.filter(run_id=run_id)
    loads.spend_on(rows, "payload")
    return list(rows.order_by("seq").values_list("payload", flat=True))
