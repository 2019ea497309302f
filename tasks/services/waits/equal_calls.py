"""The cache of results for the engine: a task takes a stored result, makes the call, or waits for the equal one that does.

Calls are equal if they have the same key (`tasks.rules.caching`). The first task has a row of `CallInFlight` until its attempt ends,
in whichever worker. Others wait with a question whose `event` is that key. The end of the call wakes all of them if there is a result,
else the first, which makes the call. It removes the row before it looks for those that wait, and a wait looks for the row once it is
stored: so none is missed.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Now

from apflow_site.db.prepared import Prepared
from tasks.models import CachedResult, CallInFlight, Question, QuestionQuerySet, Run
from tasks.queue.clock import database_time
from tasks.services import waits
from tasks.services.waits.questions import OpenQuestion, questions_by_id
from tasks.status import WaitKind
from tasks.storage.writes import Insert, Row, write

END: Final = "DELETE FROM tasks_callinflight WHERE run_id = %s AND task_id = %s RETURNING key"
STORE: Final = Insert(
    table="tasks_cachedresult",
    key=("key",),
    replaced=tuple(field.attname for field in CachedResult._meta.concrete_fields if not field.primary_key),
)


class Asking(NamedTuple):
    """A task that would make a call. `key` is that of its result, which must not be older than so many seconds."""

    key: str
    flight: str
    """The key of the call: that of the result and, if users share that, their own."""
    seconds: int
    run_id: str
    task_id: str


class Found(NamedTuple):
    """A stored result, and the task that it is of."""

    result: Any
    user_id: str
    task_id: str
    run_id: str
    stored_at: datetime


class CallEnd(NamedTuple):
    """The end of an attempt at a task with `params.cache`. `stored` is a row of `CachedResult`; None if there is no result."""

    run_id: str
    task_id: str
    flight: str | None = None
    """The key of the call; None if this worker has not looked for one."""
    stored: Row | None = None


def look(_user_id: str, asking: Sequence[Asking]) -> dict[Asking, Found]:
    """Return the results that are there."""
    rows = CachedResult.objects.filter(key__in={each.key for each in asking}, expires_at__gt=Now())
    found = {row[0]: Found(*row[1:]) for row in rows.values_list("key", *Found._fields)}
    if not found:
        return {}
    now = database_time()
    there = ((each, found.get(each.key)) for each in asking)
    return {
        each: result
        for each, result in there
        if result is not None and result.stored_at > now - timedelta(seconds=each.seconds)
    }


@transaction.atomic
def take(user_id: str, asking: Sequence[Asking]) -> dict[Asking, Found | str]:
    """Let the tasks make their calls, unless there is a result meanwhile, or an equal call is under way.

    Maps the others to the result, or to the id of the task for which they have to wait.
    """
    keys = sorted({each.flight for each in asking})
    rows = CallInFlight.objects.filter(key__in=keys)
    rows.filter(~Exists(_run_of_flight())).delete()
    first = {each.flight: each for each in reversed(asking)}
    new = [CallInFlight(key=key, run_id=first[key].run_id, task_id=first[key].task_id) for key in keys]
    CallInFlight.objects.bulk_create(new, ignore_conflicts=True)
    holders = {row.key: row for row in rows}
    results = look(user_id, asking)
    found = dict[Asking, Found | str](results)
    for each in asking:
        holder = holders.get(each.flight)
        is_own = holder is not None and (holder.run_id, holder.task_id) == (each.run_id, each.task_id)
        if is_own and each in results:
            rows.filter(key=each.flight).delete()
        elif holder is not None and not is_own and each not in results:
            found[each] = holder.task_id
    return found


@transaction.atomic
def settle(key: str, wait_ids: Sequence[str]) -> dict[str, OpenQuestion]:
    """End those waits if the call is over by now, and return the waits as they are then."""
    if not list(CallInFlight.objects.select_for_update().filter(Exists(_run_of_flight()), key=key)):
        Question.objects.filter(id__in=wait_ids, closed_at=None, answered_at=None).update(answered_at=Now())
    return questions_by_id(wait_ids)


def end_calls(ends: Iterable[CallEnd]) -> None:
    """Store the results of calls, and let others take or make them, in the transaction that ends the attempts."""
    woken = dict[str, bool]()
    with connection.cursor() as cursor:
        for end in ends:
            cursor.execute(END, [end.run_id, end.task_id])
            keys = {*(key for (key,) in cursor.fetchall()), *([end.flight] if end.flight and end.stored else [])}
            woken |= {key: woken.get(key, False) or end.stored is not None for key in keys}
            if end.stored is not None:
                write(STORE, [end.stored])
    if woken:
        transaction.on_commit(partial(_wake, woken), robust=True)


def _wake(keys: dict[str, bool]) -> None:
    """End the waits for these calls: all if there is a result, else the first."""
    waiting = list(_waiting().filter(event__in=keys).order_by("asked_at", "id").values_list("id", "event"))
    first = {key: wait_id for wait_id, key in reversed(waiting)}
    _end([wait_id for wait_id, key in waiting if keys[str(key)] or first[key] == wait_id])


def sweep() -> None:
    """End the waits for calls that are not under way, if a process died before it did so, or after one of them was to make the call."""
    _end([wait_id for (wait_id,) in FORGOTTEN.rows()])


def _end(wait_ids: Sequence[str]) -> None:
    if wait_ids:
        Question.objects.filter(id__in=wait_ids, closed_at=None, answered_at=None).update(answered_at=Now())
        waits.resume_after(wait_ids)


def _waiting() -> QuestionQuerySet:
    return Question.objects.filter(kind=WaitKind.CALL, closed_at=None, answered_at=None).in_open_runs()


def _run_of_flight() -> "QuerySet[Run]":
    """Return the run whose task makes the call: without it the row is void."""
    return Run.objects.unfinished().filter(id=OuterRef("run_id"))


def void_calls() -> "QuerySet[CallInFlight]":
    """Return the rows of calls whose runs are over or deleted."""
    return CallInFlight.objects.filter(~Exists(_run_of_flight()))


def _forgotten() -> "QuerySet[Question, tuple[str]]":
    under_way = CallInFlight.objects.filter(Exists(_run_of_flight()), key=OuterRef("event"))
    return _waiting().filter(~Exists(under_way)).values_list("id")[:MOST_AT_ONCE]


MOST_AT_ONCE: Final = 1_000
#: Each server asks it every few seconds, also one that has nothing to do.
FORGOTTEN: Final = Prepared(_forgotten)
