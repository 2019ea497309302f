"""The history of runs: list them, and read one. Each function returns only what its caller may see."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from heapq import merge
from itertools import islice
from typing import Final

from django.db.models import Exists, F, OuterRef, Q

from accounts.callers import Caller
from tasks.models import Firing, Flow, ModelCall, Question, Run, RunInputs, RunQuerySet, RunTag, Score, Task
from tasks.queue import leases
from tasks.queue.leases import Suspects
from tasks.queue.suspicion import is_suspected
from tasks.rules.exceptions import FlowNotFound, RunNotFound
from tasks.rules.strict_json import Json
from tasks.services.history import run_search
from tasks.services.runs.child_runs import parent_of
from tasks.services.runs.run_inputs import tags_of
from tasks.services.spending.usage import first_calls
from tasks.services.trees.queries import after_cursor, cursor_at, cursor_of, read_cursor, root_of
from tasks.services.waits.needed_code import NeededCode, needed_by
from tasks.status import Status
from tasks.storage import loads

STATUSES: Final = (Status.PENDING, Status.IN_PROGRESS, Status.COMPLETED, Status.FAILED, Status.CANCELLED)
"""The statuses that a run can have."""
MOST_TIMES: Final = 5_000
"""The number of runs of each status in a chart."""
MOST_MATCHES: Final = 1_000
"""The number of runs with a text in a chart."""
ERROR_SHOWN: Final = 300
"""The number of characters of the error that a list shows of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A period of creation: `since` is the first moment, and `until` the moment after the last. None: no bound."""

    since: datetime | None = None
    until: datetime | None = None

    @property
    def conditions(self) -> Q:
        found = Q() if self.since is None else Q(created_at__gte=self.since)
        return found if self.until is None else found & Q(created_at__lt=self.until)


ALWAYS: Final = Period()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Filters of runs. `since` is the first moment of their creation, and `until` the moment after the last."""

    task_id: str | None = None
    flow: str | None = None
    statuses: Collection[str] = ()
    tag: str | None = None
    text: str | None = None
    user_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    is_descending: bool = True

    @property
    def sign(self) -> str:
        """The sign of the columns by which the runs are ordered."""
        return "-" if self.is_descending else ""

    @property
    def conditions(self) -> Q:
        """The conditions on columns that each index of runs by their creation has."""
        found = Period(since=self.since, until=self.until).conditions
        return found if self.user_id is None else found & Q(user_id=self.user_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """A run with what its own row does not have: the name of its tree, the name of its flow (None if it is deleted), and
    the time of a schedule that it was started for.
    """

    run: Run
    name: str
    flow: str | None = None
    firing: Firing | None = None
    tags: Sequence[str] = ()

    @property
    def error(self) -> str | None:
        """The start of the error that failed the run."""
        return next((failure.error[:ERROR_SHOWN] for failure in failures_of(self.run)), None)

    @property
    def seconds(self) -> float | None:
        """The duration, so far. None before the start."""
        if self.run.started_at is None:
            return None
        return max(0.0, ((self.run.finished_at or datetime.now(UTC)) - self.run.started_at).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A task that failed a run, or was not run because the task `cause_id` failed."""

    task_id: str
    name: str
    error: str
    cause_id: str | None = None

    @property
    def native(self) -> Json:
        """The failure in replies and messages: only one that was not run has `not_run` and `cause_id`."""
        found: Json = {"task_id": self.task_id, "name": self.name, "error": self.error}
        return found if self.cause_id is None else found | {"not_run": True, "cause_id": self.cause_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDetail:
    """A run with its inputs, the run that waits for it, the first tasks that failed it, the cause first, and its first
    model calls, without what was said. `suspects` are all suspected runs if this is one, else None. `needs` is the code for which it waits.
    """

    facts: RunFacts
    inputs: Json
    parent: Question | None
    failures: Sequence[Failure]
    calls: Sequence[ModelCall]
    scores: Sequence[Score]
    suspects: Suspects | None
    needs: Sequence[NeededCode]


def list_runs(
    *, caller: Caller, wanted: RunFilter, limit: int = 50, cursor: str = ""
) -> tuple[list[RunFacts], str | None]:
    """Return a page of the caller's runs, the newest first, and the cursor of the next page (None at the end).

    Raises TaskNotFound, FlowNotFound, or InvalidParams for an invalid cursor.
    """
    found = _of_subject(caller, wanted).filter(wanted.conditions).exclude(root_id=F("id"))  # those have no tree yet
    if wanted.tag is not None or wanted.text is not None:
        runs, last = _search(caller, found, wanted, limit=limit, cursor=cursor)
        return with_facts(runs), None if last is None else cursor_at(*last)
    if cursor:
        found = found.filter(after_cursor(cursor, descending=True))
    if wanted.task_id is not None or wanted.flow is not None:  # these have indexes of their own
        found = found.filter(status__in=wanted.statuses) if wanted.statuses else found
        newest = list(found.order_by("-created_at", "-id")[: limit + 1])
    else:
        newest = list(islice(_in_order(found, wanted.statuses, most=limit + 1), limit + 1))
    page = newest[:limit]
    return with_facts(page), cursor_of(page[-1]) if len(newest) > limit else None


def _search(
    caller: Caller, found: RunQuerySet, wanted: RunFilter, *, limit: int, cursor: str
) -> tuple[list[Run], run_search.Place | None]:
    matches = Q() if wanted.text is None else run_search.has_text(wanted.text)
    if wanted.statuses:
        matches &= Q(status__in=wanted.statuses)
    after = read_cursor(cursor) if cursor else None
    source = partial(_tagged, caller, wanted) if wanted.tag is not None else partial(_places, found, wanted)
    return run_search.search(found, source, matches, limit=limit, after=after, is_descending=wanted.is_descending)


def _tagged(caller: Caller, wanted: RunFilter, after: run_search.Place | None, most: int) -> list[run_search.Place]:
    """Return the next runs with the tag, whether or not they match otherwise."""
    rows = RunTag.objects.filter(wanted.conditions, tag=wanted.tag)
    if not caller.sees_all:
        rows = rows.filter(user_id=caller.user_id)
    if after is not None and wanted.is_descending:
        rows = rows.filter(Q(created_at__lte=after[0]) & (Q(created_at__lt=after[0]) | Q(run_id__lt=after[1])))
    elif after is not None:
        rows = rows.filter(Q(created_at__gte=after[0]) & (Q(created_at__gt=after[0]) | Q(run_id__gt=after[1])))
    ordered = rows.order_by(f"{wanted.sign}created_at", f"{wanted.sign}run_id")
    return list(ordered.values_list("created_at", "run_id")[:most])


def _places(found: RunQuerySet, wanted: RunFilter, after: run_search.Place | None, most: int) -> list[run_search.Place]:
    """Return the next runs of those that are searched."""
    if after is not None:
        found = found.filter(after_cursor(cursor_at(*after), descending=wanted.is_descending))
    ordered = found.order_by(f"{wanted.sign}created_at", f"{wanted.sign}id").values_list("created_at", "id")
    if wanted.task_id is not None or wanted.flow is not None:
        return list(ordered[:most])
    of_each = [list(ordered.filter(status=status)[:most]) for status in wanted.statuses or STATUSES]
    return list(islice(merge(*of_each, reverse=wanted.is_descending), most))


def _of_subject(caller: Caller, wanted: RunFilter) -> RunQuerySet:
    found = Run.objects.for_caller(caller)
    if wanted.task_id is not None:
        found = found.filter(root_id=root_of(caller=caller, task_id=wanted.task_id))
    if wanted.flow is not None:
        flows = Flow.objects.for_caller(caller)
        if wanted.user_id is not None or not caller.sees_all:
            flows = flows.filter(user_id=wanted.user_id or caller.user_id)
        ids = list(flows.filter(name=wanted.flow).values_list("id", flat=True))
        if not ids:
            raise FlowNotFound(wanted.flow, close_matches=flows.names_like(wanted.flow))
        found = found.filter(flow_id__in=ids)
    return found


def _in_order(found: RunQuerySet, statuses: Collection[str], *, most: int, is_descending: bool = True) -> Iterator[Run]:
    """Return the first runs by their creation. The indexes have them in order for each status, so each gives its first ones."""
    sign = "-" if is_descending else ""
    ordered = found.order_by(f"{sign}created_at", f"{sign}id")
    of_each = [list(ordered.filter(status=status)[:most]) for status in statuses or STATUSES]
    return merge(*of_each, key=lambda run: (run.created_at, run.id), reverse=is_descending)


def with_facts(runs: Sequence[Run]) -> list[RunFacts]:
    """Return the runs with the names of their trees and flows. A run whose tree is being deleted is left out."""
    names = dict(Task.objects.filter(id__in={run.root_id for run in runs}).values_list("id", "name"))
    flows = dict(Flow.objects.filter(id__in={run.flow_id for run in runs if run.flow_id}).values_list("id", "name"))
    of_runs = Firing.objects.filter(run_id__in=[run.id for run in runs])
    fired = {firing.run_id: firing for firing in of_runs.only("run_id", "schedule_id", "scheduled_for")}
    tags = tags_of([run.id for run in runs])
    return [
        RunFacts(
            run=run,
            name=names[run.root_id],
            flow=flows.get(run.flow_id or ""),
            firing=fired.get(run.id),
            tags=tags.get(run.id, ()),
        )
        for run in runs
        if run.root_id in names
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """The times when runs were created, by status. `cut` are the statuses that may have more."""

    moments: Mapping[str, Sequence[datetime]]
    cut: Collection[str]


def times_of(*, caller: Caller, wanted: RunFilter) -> Times:
    """Return when the runs were created: of each status the newest MOST_TIMES; of a tag, the newest of all. `search_runs`
    has those of a text. Raises what `list_runs` raises.
    """
    found = _of_subject(caller, wanted).filter(wanted.conditions)
    times = found.order_by("-created_at", "-id").values_list("created_at", flat=True)
    if wanted.tag is not None:
        times = times.filter(id__in=[run_id for _, run_id in _tagged(caller, wanted, None, MOST_TIMES)])
    moments = {status: list(times.filter(status=status)[:MOST_TIMES]) for status in wanted.statuses or STATUSES}
    return Times(moments=moments, cut=[status for status, each in moments.items() if len(each) >= MOST_TIMES])


def search_runs(*, caller: Caller, wanted: RunFilter, limit: int) -> tuple[list[RunFacts], str | None, Times]:
    """Return the first page that `list_runs` has of a text, and when its matches were created, from one search: the
    newest MOST_MATCHES, as far as the search comes in its time. Raises what `list_runs` raises.
    """
    found = _of_subject(caller, wanted).filter(wanted.conditions).exclude(root_id=F("id"))
    runs, last = _search(caller, found, wanted, limit=MOST_MATCHES, cursor="")
    page = runs[:limit]
    moments: dict[str, list[datetime]] = {}
    for run in runs:
        moments.setdefault(run.status, []).append(run.created_at)
    times = Times(moments=moments, cut=[*moments] if last is not None else [])
    if len(runs) > limit:
        return with_facts(page), cursor_of(page[-1]), times
    return with_facts(page), None if last is None else cursor_at(*last), times


def own_run(*, caller: Caller, run_id: str) -> Run:
    """Return a run that has a tree. Raises RunNotFound, also for a run of another owner."""
    own = Run.objects.for_caller(caller).exclude(root_id=F("id"))
    run = own.filter(id=run_id).first()
    if run is None:
        raise RunNotFound(run_id, close_matches=own.ids_like(run_id))
    return run


def is_latest(run: Run) -> bool:
    """Return whether no later run of the tree has been created."""
    return not Run.objects.filter(root_id=run.root_id, number__gt=run.number).exists()


def get_run(*, caller: Caller, run_id: str) -> RunDetail:
    """Return a run. Raises RunNotFound, also for a run of another owner, or ResponseTooLarge."""
    facts = facts_of(caller=caller, run_id=run_id)
    run = facts.run
    is_held_back = run.finished_at is None and is_suspected(losses=run.losses, strikes=run.strikes)
    return RunDetail(
        facts=facts,
        inputs=inputs_of(run_id),
        parent=parent_of(run),
        failures=failures_of(run),
        calls=first_calls(run_id=run_id),
        scores=scores_of(run_id),
        suspects=leases.suspects() if is_held_back else None,
        needs=needed_by(run),
    )


def facts_of(*, caller: Caller, run_id: str) -> RunFacts:
    """Return a run. Raises RunNotFound, also for a run of another owner, or if its tree is being deleted."""
    own = Run.objects.for_caller(caller)
    found = with_facts(list(own.filter(id=run_id)))
    if not found:
        raise RunNotFound(run_id, close_matches=own.exclude(root_id=F("id")).ids_like(run_id))
    return found[0]


def scores_of(run_id: str) -> list[Score]:
    """Return the scores of a run that the caller may see, and of its tasks, by name."""
    return list(Score.objects.filter(run_id=run_id).order_by("task_id", "name", "source"))


def inputs_of(run_id: str) -> Json:
    """Return the inputs of a run that the caller may see. Raises ResponseTooLarge."""
    found = RunInputs.objects.filter(run_id=run_id)
    loads.spend_on(found, "inputs")
    return next(iter(found.values_list("inputs", flat=True)), {})


def failures_of(run: Run) -> list[Failure]:
    """Return the first tasks that failed the run: the causes, then those that were not run for one."""
    return [Failure(**failure) for failure in run.failures or ()]


@dataclass(frozen=True, slots=True, kw_only=True)
class RootFilter:
    """Filters of roots by their latest run, and the order of these runs. `statuses` are those of the roots."""

    run_statuses: Collection[str] = ()
    statuses: Collection[str] = ()
    tag: str | None = None
    text: str | None = None
    user_id: str | None = None
    name: str | None = None
    created: Period = ALWAYS
    is_descending: bool = True

    @property
    def of_runs(self) -> RunFilter:
        """The filter of runs by which those with a tag or text are searched."""
        return RunFilter(
            statuses=self.run_statuses,
            tag=self.tag,
            text=self.text,
            user_id=self.user_id,
            is_descending=self.is_descending,
        )

    @property
    def conditions(self) -> Q:
        """The conditions on runs."""
        roots = Task.objects.filter(self.created.conditions, id=OuterRef("root_id"))
        if self.statuses:
            roots = roots.filter(status__in=self.statuses)
        if self.name is not None:
            roots = roots.filter(name=self.name)
        later = Run.objects.filter(root_id=OuterRef("root_id"), number__gt=OuterRef("number"))
        found = ~Exists(later) & Q(Exists(roots))
        return found if self.user_id is None else found & Q(user_id=self.user_id)


def roots_by_run(
    *, caller: Caller, wanted: RootFilter, limit: int = 100, cursor: str = ""
) -> tuple[list[str], str | None]:
    """Return the roots whose latest run has one of these statuses, in the order of the runs, and the cursor of the next page.

    Raises InvalidParams for an invalid cursor.
    """
    found = Run.objects.for_caller(caller).filter(wanted.conditions)
    if wanted.tag is not None or wanted.text is not None:
        matches, last = _search(caller, found, wanted.of_runs, limit=limit, cursor=cursor)
        return [run.root_id for run in matches], None if last is None else cursor_at(*last)
    if cursor:
        found = found.filter(after_cursor(cursor, descending=wanted.is_descending))
    in_order = _in_order(found, wanted.run_statuses, most=limit + 1, is_descending=wanted.is_descending)
    first = list(islice(in_order, limit + 1))
    page = first[:limit]
    return [run.root_id for run in page], cursor_of(page[-1]) if len(first) > limit else None
