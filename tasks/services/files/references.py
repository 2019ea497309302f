"""References of trees, flows, schedules, data sets and sent events to files. A reference is written in the transaction of what names the file.

The files are locked first, in the order of their ids: two transactions that delete the last two references of a file would
otherwise each still see the other's, and the sweep could delete a file that is being named.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from django.db.models import Case, Exists, OuterRef, Value, When

from tasks.models import File, FileReference, Run, Task
from tasks.rules.exceptions import MOST_LISTED, InvalidParams
from tasks.rules.files import FILE, MARK, files_asked, files_in, is_file
from tasks.rules.strict_json import Json
from tasks.storage.bulk import batched

TREE: Final = "tree:"
FLOW: Final = "flow:"
SCHEDULE: Final = "schedule:"
MISSING: Final = "there is no complete file '{}' of this owner"
DATASET: Final = "dataset:"
EVENT: Final = "event:"
AT_ONCE: Final = 500
LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


def named_in(*values: Any) -> set[str]:
    """Return the ids of the files in JSON values. Values without one cost no more than their encoding."""
    text = orjson.dumps(values)
    return {str(file[FILE]) for file in files_in(orjson.loads(text))} if MARK in text else set()


def note_trees(rows: Iterable[Task]) -> None:
    """Refer to the files that new rows of trees name: in inputs and in items of maps, or in the results of copies.

    Raises InvalidParams for a file in inputs that their owner does not have.
    """
    inputs, results = defaultdict[tuple[str, str], set[str]](set), defaultdict[tuple[str, str], set[str]](set)
    for row in rows:
        tree = row.root_id, row.user_id
        inputs[tree] |= named_in(row.inputs, (row.params or {}).get("for_each"))
        results[tree] |= named_in(row.result)
    for (root_id, owner), ids in sorted(inputs.items()):
        refer(f"{TREE}{root_id}", ids, owner=owner)
    for (root_id, owner), ids in sorted(results.items()):
        refer(f"{TREE}{root_id}", ids, owner=owner, may_be_missing=True)


def refer(holder: str, file_ids: Collection[str], *, owner: str, may_be_missing: bool = False) -> None:
    """Refer to files of an owner, in the caller's transaction.

    Raises InvalidParams if one is not there, not complete, or of another user, unless it `may_be_missing`: a result may have any JSON.
    """
    for ids in batched(sorted(file_ids), AT_ONCE):
        known = FileReference.objects.filter(holder=holder, file_id__in=ids).values_list("file_id", flat=True)
        new = sorted(set(ids) - set(known))
        if not new:
            continue
        own = File.objects.filter(id__in=new, user_id=owner, completed_at__isnull=False)
        found = list(own.select_for_update().order_by("id").values_list("id", flat=True))
        if not may_be_missing and (missing := sorted(set(new) - set(found))):
            raise InvalidParams([("inputs", MISSING.format(file_id[:100])) for file_id in missing[:3]])
        File.objects.filter(id__in=found).update(unused_since=None)
        FileReference.objects.bulk_create(
            [FileReference(holder=holder, file_id=file_id) for file_id in found], ignore_conflicts=True
        )


def refuse_foreign(schema: Json | None, value: Any, *, owner: str, place: str) -> None:
    """Raise InvalidParams, with its place, for a value that a schema asks to be a file and that is no complete one of the owner."""
    asked = (
        {} if schema is None else {where: each for where, each in files_asked(schema, value, place) if is_file(each)}
    )
    found = set[str]()
    for ids in batched(sorted({each[FILE] for each in asked.values()}), AT_ONCE):
        own = File.objects.filter(id__in=ids, user_id=owner, completed_at__isnull=False)
        found.update(own.values_list("id", flat=True))
    missing = [(where, MISSING.format(each[FILE][:100])) for where, each in asked.items() if each[FILE] not in found]
    if missing:
        raise InvalidParams(missing[:MOST_LISTED])


def release(holders: Sequence[str]) -> None:
    """Delete the references of what is deleted, in the caller's transaction.

    A file that nothing names any more is unused from now on; one that a run has made goes with the next sweep.
    """
    rows = FileReference.objects.filter(holder__in=holders)
    for ids in batched(sorted(set(rows.values_list("file_id", flat=True))), AT_ONCE):
        list(File.objects.filter(id__in=ids).select_for_update().order_by("id").values_list("id"))
        FileReference.objects.filter(holder__in=holders, file_id__in=ids).delete()
        left = FileReference.objects.filter(file_id=OuterRef("id"))
        since = Case(When(is_made=True, then=Value(LONG_AGO)), default=Value(datetime.now(UTC)))
        File.objects.filter(~Exists(left), id__in=ids).update(unused_since=since)


def note_results(named: Mapping[str, Collection[str]]) -> None:
    """Refer to the files that results of runs, or tasks that runs add, name; by the ids of the runs."""
    runs = Run.objects.filter(id__in=named).order_by("root_id").values_list("id", "root_id", "user_id")
    for run_id, root_id, owner in runs:
        refer(f"{TREE}{root_id}", named[run_id], owner=owner, may_be_missing=True)
