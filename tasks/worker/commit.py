"""One commit of a worker process: changes of any runs, each row's update with the event that reports it.

The runs are moved on first (`move_on`), which locks them. Changes of a run that another
worker has claimed since are refused, and the sequence numbers of its events are dense and in order.
On PostgreSQL everything after that is sent at once, with the commit.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import orjson
from django.db import DataError, connection
from django.db.backends.utils import CursorWrapper

from apflow_site.db.connections import IS_SQLITE
from apflow_site.db.pipelines import in_one_go
from llmkeys import run_secrets
from tasks.models import Run, Task
from tasks.queue import notify
from tasks.queue.leases import DB_NOW
from tasks.rules.exceptions import LeaseLost, TooManyWaits
from tasks.rules.files import MARK
from tasks.services import waits
from tasks.services.files.references import named_in, note_results
from tasks.services.messages import notifications
from tasks.services.trees import task_states
from tasks.services.waits.limit_waits import FREE_PLACES
from tasks.status import Status
from tasks.storage import usage
from tasks.storage.bulk import batched, insert_many, marks, records
from tasks.storage.writes import SomeRowUnchanged, is_unchanged, write
from tasks.telemetry import metrics
from tasks.worker.changes import (
    IN_ORDER,
    Change,
    Fence,
    PartBegun,
    QuestionAlarmed,
    QuestionAsked,
    QuestionClosed,
    RunClosed,
    StateStored,
    StepsAdded,
    TaskFinished,
    UsageAdded,
    rows_of,
)

MOST_IDS: Final = 1_000
"""The ids that one statement names."""
IS_SAME: Final = "IS" if IS_SQLITE else "IS NOT DISTINCT FROM"
RETURNED: Final = "RETURNING tasks_run.id, epoch, claim_token, last_seq"


def _is_held(run_id: str, epoch: str, token: str) -> str:
    # For a plain `finished_at IS NULL`, a plan that was made while there were few runs would read all unfinished ones.
    is_unfinished = "CAST(finished_at IS NULL AS integer) = 1"
    return f"id = {run_id} AND epoch = {epoch} AND claim_token {IS_SAME} {token} AND {is_unfinished}"


HELD: Final = _is_held("%s", "%s", "%s")
ADVANCE: Final = f"UPDATE tasks_run SET last_seq = last_seq + %s WHERE {HELD} {RETURNED}"  # noqa: S608  (constants of ours)
CLOSE: Final = (
    "UPDATE tasks_run SET last_seq = last_seq + %s, status = %s, finished_at = %s, lease_owner = NULL, lease_expires_at = NULL "  # noqa: S608
    f"WHERE {HELD} {RETURNED}"
)
MOVE: Final = ("run_id", "of_epoch", "of_token", "added", "ended_as", "ended_at")
MOVE_MANY: Final = f"""
WITH held AS MATERIALIZED (
    SELECT id, move.* FROM tasks_run
    JOIN json_to_recordset(%s::json) AS
        move(run_id varchar, of_epoch integer, of_token varchar, added integer, ended_as varchar, ended_at timestamptz)
    ON {_is_held("move.run_id", "move.of_epoch", "move.of_token")}
    WHERE id = ANY(%s) ORDER BY id FOR UPDATE OF tasks_run
)
UPDATE tasks_run SET last_seq = last_seq + added, status = COALESCE(ended_as, status), finished_at = ended_at,
    lease_owner = CASE WHEN ended_as IS NULL THEN lease_owner END,
    lease_expires_at = CASE WHEN ended_as IS NULL THEN lease_expires_at END
FROM held WHERE tasks_run.id = held.id {RETURNED}
"""  # noqa: S608  (constants of ours)
"""The statement for PostgreSQL: in the order of the ids, so that two of them cannot wait for each other."""


def move_on(changes: Iterable[Change]) -> dict[Fence, int]:
    """Move the runs of the changes on. Returns the number of the last event before theirs, for each fence that holds."""
    added, ends = Counter[Fence](), dict[Fence, RunClosed]()
    for change in changes:
        if change.IS_FENCED:
            added[change.fence] += len(change.events)
        if isinstance(change, RunClosed):
            ends[change.fence] = change
    moved = _moved(added, ends) if len(added) == 1 or IS_SQLITE else _moved_together(added, ends)
    return {(run_id, epoch, token): newest - added[run_id, epoch, token] for run_id, epoch, token, newest in moved}


def _moved(added: "Counter[Fence]", ends: dict[Fence, RunClosed]) -> list[Any]:
    rows = list[Any]()
    with connection.cursor() as cursor:
        for fence, count in added.items():
            if (end := ends.get(fence)) is None:
                cursor.execute(ADVANCE, [count, *fence])
            else:
                cursor.execute(CLOSE, [count, end.status, end.at, *fence])
            rows += cursor.fetchall()
    return rows


def _moved_together(added: "Counter[Fence]", ends: dict[Fence, RunClosed]) -> list[Any]:
    if not added:
        return []
    ended = [(end.status, end.at) if (end := ends.get(fence)) else (None, None) for fence in added]
    moves = [(*fence, added[fence], *end) for fence, end in zip(added, ended, strict=True)]
    with connection.cursor() as cursor:
        cursor.execute(MOVE_MANY, [records(moves, MOVE), [run_id for run_id, _, _ in added]])
        return list(cursor.fetchall())


NOTE_QUESTION: Final = f"UPDATE tasks_run SET asked_at = {DB_NOW} WHERE id = %s"  # noqa: S608  (constants of ours)
EVENT_COLUMNS: Final = ("run_id", "seq", "type", "task_id", "payload")
EVENT_ROWS: Final = (
    f"VALUES (%s, %s, %s, %s, %s, {DB_NOW})"
    if IS_SQLITE
    else f"SELECT *, {DB_NOW} FROM json_to_recordset(%s::json) "  # noqa: S608  (constants of ours)
    "AS event(run_id varchar, seq integer, type varchar, task_id varchar, payload text)"
)
SET_FAILURES: Final = "UPDATE tasks_run SET failures = %s, error_key = %s WHERE id = %s"
ADD_EVENTS: Final = f"INSERT INTO tasks_taskevent ({', '.join(EVENT_COLUMNS)}, created_at) {EVENT_ROWS}"


def commit(changes: Sequence[Change]) -> list[BaseException | None]:
    """Write the changes in one transaction; an error per change, or None.

    Raises SomeRowUnchanged, or what the database raises.
    """
    try:
        with in_one_go():
            before = move_on(changes)
            held = [not change.IS_FENCED or change.fence in before for change in changes]
            live = [change for change, is_held in zip(changes, held, strict=True) if is_held]
            live = _without_orphans(live, {run_id for run_id, _, _ in before})
            too_many = _beyond_limit(live)
            if too_many:
                live = [change for change in live if id(change) not in too_many]
            if live:
                _write_all(live, before)
    except DataError as error:
        if is_unchanged(error):
            raise SomeRowUnchanged from error
        raise
    metrics.published(sum(len(change.events) for change in live))
    for change in live:
        if change.tally:
            change.tally()
    return [
        too_many.get(id(change)) if is_held else LeaseLost(change.run_id)
        for change, is_held in zip(changes, held, strict=True)
    ]


def _beyond_limit(live: Sequence[Change]) -> dict[int, TooManyWaits]:
    """Map the ids of the waits for which their user has no place to the error. The users are in one order, as locks need it."""
    by_user = defaultdict[str, list[Change]](list)
    for change in live:
        if isinstance(change, QuestionAsked) and change.limited_user is not None:
            by_user[change.limited_user].append(change)
    refused = dict[int, TooManyWaits]()
    for user_id, asked in sorted(by_user.items()):
        fitting = waits.take_places(user_id, len(asked))
        refused |= {id(change): TooManyWaits(user_id) for change in asked[fitting:]}
    return refused


def _without_orphans(live: list[Change], held: Collection[str]) -> list[Change]:
    """Leave out what needs a run that has been deleted. Runs that have ended are locked, so that none is deleted meanwhile."""
    late = sorted({change.run_id for change in live if change.NEEDS_RUN and change.run_id not in held})
    if not late:
        return live
    runs = Run.objects.filter(id__in=late).order_by("id").select_for_update()
    there = set(runs.values_list("id", flat=True))
    return [change for change in live if not change.NEEDS_RUN or change.run_id in held or change.run_id in there]


def _write_all(live: Sequence[Change], before: Mapping[Fence, int]) -> None:
    """Write the rows kind by kind, each in the state that its change expects, then what follows from them, and the events."""
    by_kind = defaultdict[type[Change], list[Change]](list)
    for change in rows_of(live):
        by_kind[type(change)].append(change)
    for kind in filter(by_kind.__contains__, IN_ORDER):
        if kind.WRITE is not None:
            write(kind.WRITE, [change.row for change in by_kind[kind]])
        if kind is StepsAdded:
            insert_many(
                [row for change in by_kind[kind] if isinstance(change, StepsAdded) for row in change.whole], Task
            )
    _put_aside(by_kind[PartBegun])
    _add_up(by_kind[UsageAdded])
    if spawned := [row for change in live if not isinstance(change, StepsAdded) for row in change.rows]:
        insert_many(spawned, Task)
    asking = {change.run_id for kind in (QuestionAsked, QuestionClosed) for change in by_kind[kind]}
    _execute(NOTE_QUESTION, [(run_id,) for run_id in asking])
    _write_states(live)
    _refer_to_files(live)
    _execute(FREE_PLACES, [(change.run_id, change.frees) for change in live if change.frees is not None])
    if calls := [change.ends_call for change in live if change.ends_call is not None]:
        from tasks.services.waits import equal_calls  # noqa: PLC0415  few runs use it

        equal_calls.end_calls(calls)
    ended = {change.run_id: change for change in live if isinstance(change, RunClosed)}
    if ended:
        run_secrets.erase(list(ended))
    _append_events(live, before)
    _add_notifications(live, ended)
    if awaited := [change for change in ended.values() if change.wait_id is not None]:
        _execute(waits.END_FOR_RUN, [(change.at, change.wait_id) for change in awaited])
        waits.resume_after([str(change.wait_id) for change in awaited])
    notify.send(notify.EVENTS, can_wait=not ended)


def _execute(statement: str, rows: Sequence[Sequence[Any]]) -> CursorWrapper:
    """Execute the statement for each row."""
    cursor = connection.cursor()
    if len(rows) == 1:  # the other way costs more for one row
        cursor.execute(statement, rows[0])
    elif rows:
        cursor.executemany(statement, rows)
    return cursor


def _put_aside(begun: Iterable[Any]) -> None:
    """Set the tasks aside that belong to parts of workflows which are over."""
    for change in begun:
        for ids in batched(change.past, MOST_IDS):
            _execute(f"UPDATE tasks_task SET part = %s WHERE id IN ({marks(ids)})", [(change.over, *ids)])  # noqa: S608


def _add_up(added: Iterable[Any]) -> None:
    """Add what model calls used to the sums of their runs."""
    sums: dict[str, list[int]] = {}
    for change in added:
        of_run = sums.get(change.run_id, [0] * len(usage.OF_RUN))
        sums[change.run_id] = [old + new for old, new in zip(of_run, (1, *change.spending[1:]), strict=True)]
    _execute(usage.ADD_TO_RUN, [(*sums[run_id], run_id) for run_id in sorted(sums)])


def _write_states(live: Sequence[Change]) -> None:
    """Write what tasks keep, in the order in which they did, and delete what those have kept that end."""
    for change in live:
        if isinstance(change, StateStored):
            task = (change.run_id, change.task_id)
            _execute(task_states.DELETE, [(*task, key) for key in change.deleted])
            _execute(task_states.STORE, [(*task, key, value) for key, value in change.stored.items()])
        elif isinstance(change, TaskFinished) and change.keeps_state:
            _execute(task_states.DELETE_ALL, [(change.run_id, change.task_id)])


def _refer_to_files(live: Sequence[Change]) -> None:
    """Refer to the files that results and added tasks name. Results and inputs without one are only searched for the mark."""
    named = defaultdict[str, set[str]](set)
    for change in live:
        if isinstance(change, TaskFinished) and change.result and MARK.decode() in change.result:
            named[change.run_id] |= named_in(orjson.loads(change.result))
        if change.rows and MARK in orjson.dumps([row.inputs for row in change.rows]):
            named[change.run_id] |= named_in([row.inputs for row in change.rows])
    if named:
        note_results(named)


def _add_notifications(live: Sequence[Change], ended: Mapping[str, RunClosed]) -> None:
    """Say why runs failed, and queue the messages about that, and about questions to people and their reminders."""
    failures = [(end.failures, end.error_key, run_id) for run_id, end in ended.items() if end.error_key is not None]
    _execute(SET_FAILURES, failures)
    failed = [(run_id,) for run_id, end in ended.items() if end.status == Status.FAILED]
    if failed:
        _execute(notifications.add_for_failure(), failed)
    asked = [
        (change.run_id, change.question_id, change.question_id, change.run_id, change.event["seq"])
        for change in live
        if isinstance(change, QuestionAsked | QuestionAlarmed) and change.event and change.is_for_people
    ]
    if asked:
        _execute(notifications.add_for_question(), asked)


def _append_events(live: Sequence[Change], before: Mapping[Fence, int]) -> None:
    """Add the events with their numbers."""
    rows = list[tuple[Any, ...]]()
    newest = dict(before)
    for change in live:
        for event in change.events:
            event["seq"] = newest[change.fence] = seq = newest[change.fence] + 1
            rows.append((change.run_id, seq, event["type"], event["task_id"], orjson.dumps(event).decode()))
    if rows:
        _execute(ADD_EVENTS, rows if IS_SQLITE else [(records(rows, EVENT_COLUMNS),)])
