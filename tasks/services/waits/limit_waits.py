"""The named limits as rows that all workers share: tasks take units of them, or wait for their turn.

A wait for a limit is a question with `turn`, whose `event` is the key of the limit's row. It ends with an answer, which
has taken a unit already. Users take turns as for runs (`tasks.queue.fairness`).
"""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final, NamedTuple

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, Exists, Max, Min, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Now

from apflow_site.db.prepared import Prepared
from tasks.models import (
    Flow,
    LimitPlace,
    NamedLimit,
    Question,
    QuestionQuerySet,
    Run,
    RunTag,
    SharedLimit,
    WorkerProcess,
)
from tasks.queue import leases, notify, suspension
from tasks.queue.clock import database_time
from tasks.rules.limits import TOKENS, Facts, Limit, Report, id_of, passed, paused, read_limits
from tasks.rules.strict_json import Json
from tasks.services.waits.questions import OpenQuestion, questions_by_id
from tasks.status import WaitKind

START_SECONDS: Final = 0.05
"""The seconds until the next look whether tasks whose turn has come have started, or a place is free."""
AHEAD_SECONDS: Final = 1.0
"""The seconds for which units that were taken in advance may be used. Then those of a rate are lost, and places are given back."""
SHARE: Final = ""
"""The `run_id` of the places that a worker process has for its tasks; their `task_id` is the process."""
LOOK_SECONDS: Final = 1.0
"""The seconds until the next look whether a limit that lets nothing start has changed."""
FREE_PLACES: Final = "DELETE FROM tasks_limitplace WHERE run_id = %s AND task_id = %s"
"""The statement that gives back the places of a task, in the commit that ends its attempt."""
IS_WAITING: Final = "closed_at IS NULL AND kind = 'limit' AND answered_at IS NULL AND turn IS NOT NULL"
KEYS: Final = f"""
WITH RECURSIVE waits(name) AS (
    SELECT MIN(event) FROM tasks_question WHERE {IS_WAITING}
    UNION ALL
    SELECT (SELECT MIN(event) FROM tasks_question WHERE {IS_WAITING} AND event > waits.name)
    FROM waits WHERE name IS NOT NULL
)
SELECT name FROM waits WHERE name IS NOT NULL
"""  # noqa: S608  (constants of this module)
"""The keys of the limits for which tasks wait, by one look into the index for each: thousands may wait for one."""
STORE_SHARE: Final = (
    "INSERT INTO tasks_limitplace (key, run_id, task_id, places) VALUES (%s, '', %s, %s) "
    "ON CONFLICT (run_id, task_id, key) DO UPDATE SET places = excluded.places"
)
FOREVER: Final = 10.0**9
"""More seconds than anything is owed."""
MOST_LOOKS: Final = 10_000
"""The number of rows whose last look is remembered: a limit per user has one row for each."""


class Asking(NamedTuple):
    """A task that is about to start, or to call a model that will use about so many tokens."""

    user_id: str
    run_id: str
    task_id: str
    tokens: int = 1
    cost: int = 1


class Settlement(NamedTuple):
    """The tokens that a call has used, and those that were taken for it."""

    reserved: int
    used: int
    seconds_ago: float
    call_id: str


@dataclass(slots=True)
class Share:
    """The places of a limit that this process has for its tasks, as its row says, and those that have one: until a moment
    of the steady clock, more may start.
    """

    places: int = 0
    until: float = 0.0
    used: int = 0
    taken: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, asking: "Asking") -> None:
        self.taken[asking.run_id, asking.task_id] = asking.cost
        self.used += asking.cost

    def remove(self, asking: "Asking") -> None:
        self.used -= self.taken.pop((asking.run_id, asking.task_id), 0)


def facts_of_run(run_id: str) -> Facts:
    """Return the name of the run's flow, if it has one, and its tags."""
    flows = Flow.objects.filter(id__in=Run.objects.filter(id=run_id).values("flow_id"))
    return {
        "flow": tuple(flows.values_list("name", flat=True)),
        "tag": tuple(RunTag.objects.filter(run_id=run_id).values_list("tag", flat=True)),
    }


class SharedLimits:
    """The named limits, for the threads of one process."""

    def __init__(
        self, given: Mapping[str, Json], *, steady: Callable[[], float] = time.monotonic, process_id: str = ""
    ) -> None:
        """`given` are those of the configuration, `steady` is a clock in seconds that is never set."""
        self._given = given
        self._process_id = process_id
        self.limits: Mapping[str, Limit] = read_limits(given)
        """The limits by their ids: those of the configuration, in its order, and those that were set."""
        self._version: object = None
        self._steady = steady
        self._looks: dict[str, tuple[datetime, float]] = {}
        """The time of the database at the last look at a row, and that of the steady clock then."""
        self._ahead: dict[str, tuple[int, float]] = {}
        """The units of a row that this process has taken in advance, and until when by the steady clock."""
        self._shares: dict[str, Share] = {}
        self._lock = threading.Lock()
        """A lock of the shares: tasks start and end on the loop while a thread stores them."""

    def has_ahead(self, key: str, asking: Asking) -> bool:
        """Use units and places that were taken in advance. False: there are not enough."""
        limit, now, cost = self.limits[id_of(key)], self._steady(), asking.cost
        units, until = self._ahead.get(key, (0, 0.0))
        if limit.rates and (units < cost or now >= until):
            return False
        if limit.at_once is not None and not self._has_place(key, asking, now):
            return False
        if limit.rates:
            self._ahead[key] = units - cost, until
        return True

    def _has_place(self, key: str, asking: Asking, now: float) -> bool:
        with self._lock:
            share = self._shares.get(key)
            if share is None or now >= share.until or share.used + asking.cost > share.places:
                return False
            share.add(asking)
            return True

    def is_in_share(self, key: str, asking: Asking) -> bool:
        """Return whether the task has its place from the share of this process, and not a row of its own."""
        with self._lock:
            return key in self._shares and (asking.run_id, asking.task_id) in self._shares[key].taken

    def leave(self, key: str, asking: Asking) -> None:
        """Give the place of the task back to the share of this process."""
        with self._lock:
            if share := self._shares.get(key):
                share.remove(asking)

    def refresh(self) -> None:
        """Read what has been changed meanwhile."""
        version = NamedLimit.objects.version()
        if version != self._version:
            self.limits = read_limits(self._given) | {limit.id: limit for limit in _set_limits()}
            self._version = version
            self._ahead.clear()
            self._freeze(*self._shares)

    @transaction.atomic
    def take(self, key: str, asking: Sequence[Asking]) -> dict[Asking, float]:
        """Let as many of the tasks start as there is room for, if none waits.

        Maps those that have to wait to about how many seconds; 0.0 if they wait for a place.
        """
        limit = self.limits.get(id_of(key))
        if limit is None:  # it was removed a moment ago
            return {}
        self._freeze(key)
        row = self._locked(key, limit)
        before: dict[str, int] = dict(WAITING.rows(key=key))
        held = self._held(key, limit, but=self._process_id)
        if held and not before:
            self._forget_places(key, limit, [task.task_id for task in asking])
            held = self._held(key, limit, but=self._process_id)
        used = self._shares[key].used if key in self._shares else 0
        held += used
        may_start, seconds, counts = list[Asking](), dict[Asking, float](), Counter[str](before)
        if not before and limit.room(row.debts, held=held) >= (cost := sum(task.cost for task in asking)):
            row.debts = limit.taken(row.debts, cost=cost)
            held += cost
            may_start, asking = list(asking), ()
        for task in asking:
            if not counts and limit.fits(row.debts, tokens=task.tokens, cost=task.cost, held=held):
                row.debts = limit.taken(row.debts, tokens=task.tokens, cost=task.cost)
                held += task.cost
                may_start.append(task)
                continue
            own = counts[task.user_id]
            ahead = sum(min(count, own + 1) for user, count in counts.items() if user != task.user_id) + own
            seconds[task] = limit.wait(row.debts, tokens=task.tokens, cost=task.cost, ahead=ahead)
            counts[task.user_id] += 1
        ahead = 0 if seconds else limit.ahead(row.debts, held=held)
        if ahead and limit.rates:
            row.debts = limit.taken(row.debts, cost=ahead)
            if len(self._ahead) > MOST_LOOKS:
                self._ahead.clear()
            until = self._steady() + AHEAD_SECONDS
            transaction.on_commit(partial(self._ahead.__setitem__, key, (ahead, until)), robust=True)
        if ahead and limit.at_once is not None and self._process_id:
            self._take_share(key, may_start, places=used + sum(task.cost for task in may_start) + ahead)
        else:
            self._take_places(key, limit, [(task.run_id, task.task_id, task.cost) for task in may_start])
            self._take_share(key, (), places=used)
        row.save()
        return seconds

    def _freeze(self, *keys: str) -> None:
        """Let no task take a place of these shares, while or until they are stored again."""
        with self._lock:
            for key in keys:
                if share := self._shares.get(key):
                    share.until = 0.0

    def _take_share(self, key: str, tasks: Sequence[Asking], *, places: int) -> None:
        """Store the share of this process, from which these tasks have their places. Its tasks may have become fewer meanwhile, never more."""
        share = self._shares.get(key)
        if places == (share.places if share else 0) and not tasks:
            return
        if places:
            with connection.cursor() as cursor:
                cursor.execute(STORE_SHARE, [key, self._process_id, places])
        else:
            LimitPlace.objects.filter(key=key, run_id=SHARE, task_id=self._process_id).delete()
        transaction.on_commit(partial(self._share_is_stored, key, tasks, places), robust=True)

    def _share_is_stored(self, key: str, tasks: Sequence[Asking], places: int) -> None:
        with self._lock:
            share = self._shares.setdefault(key, Share())
            share.places = places
            for task in tasks:
                share.add(task)
            if tasks:
                share.until = self._steady() + AHEAD_SECONDS
            if not places:
                del self._shares[key]

    def shares(self) -> Sequence[str]:
        """Return the keys of which this process has a share."""
        with self._lock:
            return list(self._shares)

    @transaction.atomic
    def give_back(self, key: str, _: Sequence[None]) -> dict[None, None]:
        """Give back the places that the tasks of this process do not use, once no more may start with them."""
        share = self._shares.get(key)
        if share and share.until <= self._steady() and share.used < share.places:
            self._freeze(key)
            self._locked(key, self.limits.get(id_of(key))).save()
            self._take_share(key, (), places=share.used)
        return {}

    @transaction.atomic
    def settle_place(self, key: str, tasks: Sequence[Asking]) -> dict[Asking, None]:
        """Give tasks that have places of the share rows of their own: they will wait for another limit."""
        LimitPlace.objects.bulk_create(
            [LimitPlace(key=key, run_id=task.run_id, task_id=task.task_id, places=task.cost) for task in tasks],
            ignore_conflicts=True,
        )
        for task in tasks:
            transaction.on_commit(partial(self.leave, key, task), robust=True)
        return {}

    @transaction.atomic
    def settle(self, key: str, calls: Sequence[Settlement]) -> dict[Settlement, None]:
        """Correct what was taken for the tokens of calls by what they have used."""
        limit = self.limits.get(id_of(key))
        if limit is None or TOKENS not in limit.rates:  # it was changed meanwhile
            return {}
        row = self._locked(key, limit)
        for call in calls:
            debt = limit.rates[TOKENS].settled(
                row.debts[TOKENS], reserved=call.reserved, used=call.used, seconds_ago=call.seconds_ago
            )
            row.debts = {**row.debts, TOKENS: debt}
        row.save()
        return {}

    @transaction.atomic
    def hold(self, key: str, seconds: Sequence[float]) -> dict[float, None]:
        """Let nothing start for so long, because the service itself has asked for that."""
        self._ahead.pop(key, None)
        if limit := self.limits.get(id_of(key)):
            row = self._locked(key, limit)
            row.debts = {measure: rate.held(row.debts[measure], max(seconds)) for measure, rate in limit.rates.items()}
            row.save()
        return {}

    @transaction.atomic
    def tighten(self, key: str, reports: Sequence[Report]) -> dict[Report, None]:
        """Let no more start than the service says is left."""
        self._ahead.pop(key, None)
        if limit := self.limits.get(id_of(key)):
            row = self._locked(key, limit)
            for report in reports:
                if rate := limit.rates.get(report.measure):
                    debt = rate.left(row.debts[report.measure], report.left, seconds=report.seconds)
                    row.debts = {**row.debts, report.measure: debt}
            row.save()
        return {}

    @transaction.atomic
    def enter(self, key: str, wait_ids: Sequence[str]) -> dict[str, OpenQuestion]:
        """Give new waits their turns, and let those start for which there is room by now. Returns the waits as they are then."""
        limit = self.limits.get(id_of(key))
        row = self._locked(key, limit)
        new = list(Question.objects.unanswered().filter(id__in=wait_ids, turn=None).order_by("asked_at", "id"))
        last = _waiting(key).filter(user_id__in={wait.user_id for wait in new})
        turns = defaultdict[str | None, int](int, last.values_list("user_id").annotate(Max("turn")))
        for wait in new:
            wait.turn = turns[wait.user_id] = 1 + max(row.turn, turns[wait.user_id])
        Question.objects.bulk_update(new, ["turn"])
        self._forget_places(key, limit, [wait.task_id for wait in new])
        self._let_start(row, limit)
        row.save()
        return questions_by_id(wait_ids)

    def serve(self) -> float | None:
        """Let those waits end whose turn has come. Returns in how many seconds to look again; None if no task waits."""
        with connection.cursor() as cursor:
            cursor.execute(KEYS)
            keys = [key for (key,) in cursor.fetchall()]
        return min((self._served(key) for key in keys if _waiting(key).exists()), default=None)

    def _served(self, key: str) -> float:
        limit = self.limits.get(id_of(key))
        if limit is not None and limit.at_once is not None and self._held(key, limit) >= limit.at_once:
            return LOOK_SECONDS if limit.is_paused else START_SECONDS  # without a transaction that locks the row
        return self._serve(key)

    @transaction.atomic
    def _serve(self, key: str) -> float:
        limit = self.limits.get(id_of(key))
        row = self._locked(key, limit)
        self._let_start(row, limit)
        row.save()
        return max(START_SECONDS, limit.wait(row.debts)) if limit else 0.0

    def _locked(self, key: str, limit: Limit | None) -> SharedLimit:
        """Return the row, with what is owed now. Other transactions with it wait for the end of this one."""
        row = ROW.first(key=key)
        if row is None:
            SharedLimit.objects.bulk_create([SharedLimit(key=key, seen_at=database_time())], ignore_conflicts=True)
            row = SharedLimit.objects.select_for_update().get(key=key)
        begun = self._steady()  # before and after: the time of the query itself is no clock that was set
        now = database_time()
        looked_at, steady_then = self._looks.get(key, (row.seen_at, float("-inf")))
        seconds = min(FOREVER, self._steady() - steady_then)
        if len(self._looks) > MOST_LOOKS:
            self._looks.clear()
        # A look counts once the row has its time. The callers always save it, also if nothing starts.
        transaction.on_commit(partial(self._looks.__setitem__, key, (now, begun)), robust=True)
        time_passed = passed(row.seen_at, now, looked_at=looked_at, seconds_ago=seconds)
        row.debts = limit.after(row.debts, time_passed) if limit else {}
        row.seen_at = now
        return row

    def _let_start(self, row: SharedLimit, limit: Limit | None) -> None:
        """End the first waits for which there is room. Without its limit, which was removed, nothing is left to wait for."""
        in_turn = _waiting(row.key).order_by("turn", "asked_at", "id")
        waits = list[Question]()
        if limit is None:
            waits = list(in_turn)
        elif limit.fits(row.debts, held=(held := self._held(row.key, limit))):
            for wait in in_turn[: max(0, limit.late - _answered(row.key).count())]:
                tokens, cost = _wanted(wait)
                if not limit.fits(row.debts, tokens=tokens, cost=cost, held=held):
                    break
                row.debts = limit.taken(row.debts, tokens=tokens, cost=cost)
                held += cost
                waits.append(wait)
            self._take_places(row.key, limit, [(wait.run_id, wait.task_id, _wanted(wait)[1]) for wait in waits])
        if not waits:
            return
        Question.objects.filter(id__in=[wait.id for wait in waits]).update(answered_at=Now())
        row.turn = max(row.turn, *(wait.turn or 0 for wait in waits))
        notify.send(notify.RUNS)
        transaction.on_commit(partial(suspension.resume, sorted({wait.run_id for wait in waits})), robust=True)

    def _held(self, key: str, limit: Limit, *, but: str = "") -> int:
        """Return how many places are taken, but for the share of this process."""
        return 0 if limit.at_once is None else sum(held for _, held in HELD.rows(key=key, but=but))

    def _forget_places(self, key: str, limit: Limit | None, task_ids: Sequence[str]) -> None:
        """Forget the places that tasks have which are repeated after a crash."""
        if limit is not None and limit.at_once is not None:
            _places(key).filter(task_id__in=task_ids).delete()

    def _take_places(self, key: str, limit: Limit, tasks: Sequence[tuple[str, str, int]]) -> None:
        if limit.at_once is not None:
            places = [LimitPlace(key=key, run_id=run_id, task_id=task, places=cost) for run_id, task, cost in tasks]
            LimitPlace.objects.bulk_create(places, ignore_conflicts=True)


def _set_limits() -> Iterator[Limit]:
    """Return the limits that were set, and the pauses."""
    for row in NamedLimit.objects.order_by("id"):
        yield limit_in(row)


def limit_in(row: NamedLimit) -> Limit:
    """Return the limit, or the pause, of a row."""
    if row.kind:
        return paused(row.kind, row.name, owner=row.user_id, by=row.set_by, since=row.set_at)
    return read_limits({row.name: row.given}, owner=row.user_id)[row.name]


def forget_shares(*, may_expire: Callable[[], bool]) -> None:
    """Give back the places of worker processes that are dead: at once if this host sees that, else after the length of a lease.

    `may_expire` is as for `leases.sweep`.
    """
    shares = LimitPlace.objects.filter(run_id=SHARE)
    owners = set(shares.values_list("task_id", flat=True))
    if not owners:
        return
    alive_since = Now() - timedelta(seconds=settings.APFLOW.worker.lease_seconds)
    alive = WorkerProcess.objects.filter(id__in=owners, beat_at__gte=alive_since).values_list("id", flat=True)
    silent = owners.difference(alive)
    gone = {*leases.dead_owners(sorted(owners)), *(silent if silent and may_expire() else ())}
    if gone:
        shares.filter(task_id__in=gone).delete()


def leave(process_id: str) -> None:
    """Give back the places of this worker process, which ends."""
    shares = LimitPlace.objects.filter(run_id=SHARE, task_id=process_id)
    if shares.exists():  # a DELETE would take SQLite's lock
        shares.delete()


def places() -> "QuerySet[LimitPlace]":
    """Return the places of limits that tasks and worker processes have: those of runs that are over are void."""
    return LimitPlace.objects.filter(Q(run_id=SHARE) | Exists(Run.objects.unfinished().filter(id=OuterRef("run_id"))))


def _places(key: str) -> "QuerySet[LimitPlace]":
    return places().filter(key=key)


def _waiting(key: str | None = None) -> QuestionQuerySet:
    """Return the waits that have a turn and no answer, of this limit or of all."""
    found = Question.objects.filter(kind=WaitKind.LIMIT, turn__isnull=False) if key is None else _of(key)
    return found.filter(closed_at=None, answered_at=None).in_open_runs()


class Waits(NamedTuple):
    """The number of waits for limits, and the age of the first of them."""

    waiting: int
    oldest_seconds: float


def waits_for_limits() -> Waits:
    """Return what waits for limits and pauses."""
    found = _waiting().aggregate(count=Count("id"), first=Min("asked_at"))
    seconds = 0.0 if found["first"] is None else (database_time() - found["first"]).total_seconds()
    return Waits(found["count"], max(0.0, seconds))


def _wanted(wait: Question) -> tuple[int, int]:
    """Return the tokens that the wait is for, and its cost."""
    match = wait.match or {}
    return match.get("tokens", 1), match.get("cost", 1)


ROW: Final = Prepared(lambda *, key: SharedLimit.objects.select_for_update().filter(key=key))
WAITING: Final = Prepared(lambda *, key: _waiting(key).values_list("user_id").annotate(Count("id")))
HELD: Final = Prepared(
    lambda *, key, but: _places(key).exclude(run_id=SHARE, task_id=but).values_list("key").annotate(Sum("places"))
)
"""The places that are taken, but for the share of one process."""


def _answered(key: str) -> QuestionQuerySet:
    """Return the waits whose turn has come lately, and whose tasks have not started yet."""
    lately = Now() - timedelta(seconds=settings.APFLOW.worker.lease_seconds)
    return _of(key).filter(closed_at=None, answered_at__gte=lately)


def _of(key: str) -> QuestionQuerySet:
    return Question.objects.filter(kind=WaitKind.LIMIT, turn__isnull=False, event=key)
