"""Judges of flows: they score a share of the completed runs of a flow, after these have ended, within a budget for each day.

No run waits for a judge. Supervisors look now and then which runs have ended (`sweep`). A judge has one tree of its owner in
progress at a time, which scores a few runs. One transaction stores the scores of the tree that has ended, moves the position of
the judge, and starts the next tree. So any number of processes may sweep, and one that dies in between has done nothing.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Window
from django.db.models.functions import RowNumber

from accounts import audit, users
from accounts.audit import Action
from accounts.callers import Caller
from tasks.executors.evaluate import COMPARING, KINDS, kind_of, problems
from tasks.executors.evaluate import ID as EVALUATE
from tasks.models import Experiment, Flow, Judge, Question, Run, RunBudget, RunInputs, Score, Task
from tasks.queue import clock
from tasks.rules.budgets import Spent
from tasks.rules.exceptions import FlowNotFound, InvalidParams, LimitReached, TasksError
from tasks.rules.flows import place_of
from tasks.rules.places import escaped
from tasks.rules.strict_json import Json
from tasks.rules.token_usage import dollars
from tasks.services import flows
from tasks.services.evals import scores
from tasks.services.evals.rows_of_runs import results_of
from tasks.services.evals.scoring import scoring_code
from tasks.services.trees import execute_tree
from tasks.status import Status
from tasks.storage import loads

logger = logging.getLogger(__name__)

Inform = Callable[[Judge, Run], None]
"""Queues messages about scores that have fallen, in the transaction that stores them. `Run` is that of the tree that gave the last one."""
MOST: Final = 10
"""The number of judges of a flow."""
RUNS: Final = 50
"""The newest scores of which the mean is shown and compared, by default."""
LATE: Final = timedelta(seconds=10)
"""The time for which an end of a run may be dated before it is committed, and by which clocks may differ. A run that is later is not judged."""
AT_ONCE: Final = 10
"""The number of judges that one sweep looks at."""
PAGE: Final = 1_000
"""The number of ended runs that one look at a judge passes."""
BATCH: Final = 10
"""The number of runs that one tree scores."""
TOGETHER: Final = 2
"""The number of them that are scored at the same time: so many may spend more than is left of the budget."""
LARGEST: Final = 2**18
"""The bytes of the inputs, and of the result, of a run that is judged."""
PREFIX: Final = "judging-"
"""The beginning of the ids of the trees of judges."""
SPENDING: Final = ("judge", "flow", "workflow")
"""The evaluators that may call models."""
ALONE: Final = tuple(kind for kind in KINDS if kind != "exact")
NO_EXPECTED: Final = (
    "compares the result with what a row of a data set expects, and a run has no such row. A judge is one of {kinds}"
)
NOT_OF_ONE: Final = "compares results or asks a person. A judge is one of {kinds}"
NOT_PASSED: Final = "names expected, which a run does not have; a judge has inputs and result"
NO_BUDGET: Final = (
    "is required: a {kind} may call models for each run that it scores. 0.5 is half a dollar for each day (UTC)"
)
TOO_LARGE: Final = f"The inputs or the result of the run have more than {LARGEST // 1024:,} KiB."
TREE_DELETED: Final = "The tree that judged was deleted."


@transaction.atomic
def set_judge(
    *,
    caller: Caller,
    flow: str,
    name: str,
    evaluator: Any,
    sample: float,
    cost_usd_per_day: float | None = None,
    below: float | None = None,
    runs: int = RUNS,
    user_id: str | None = None,
) -> Judge:
    """Let an evaluator score `sample` percent of the runs of a flow that complete from now on, or replace the judge with this name.

    With `below`, the owner is informed when the mean of the newest `runs` scores falls below it. Raises FlowNotFound, InvalidParams with
    the field, or LimitReached.
    """
    of = flows.get_flow(caller=caller, name=flow, user_id=user_id)
    checked = _checked(Caller(user_id=of.user_id), name, evaluator)
    if cost_usd_per_day is None and (kind := kind_of(checked)[0]) in SPENDING:
        raise InvalidParams([("cost_usd_per_day", NO_BUDGET.format(kind=kind))])
    if not Flow.objects.filter(id=of.id).select_for_update():  # deleted meanwhile
        raise FlowNotFound(flow)
    own, now = Judge.objects.filter(flow=of), clock.database_time()
    judge = own.filter(name=name).select_for_update().first()
    if judge is None:
        if own.count() >= MOST:
            raise LimitReached(f"The flow has {MOST} judges, which is the most. Delete one of them first.")
        judge = Judge(flow=of, name=name, position=now, looked_at=now, day=now.date())
    elif judge.evaluator != checked:
        judge.recent, judge.alert = [], None  # scores by another measure
    judge.evaluator, judge.sample, judge.cost_usd = checked, sample, cost_usd_per_day
    judge.below, judge.runs, judge.recent = below, runs, judge.recent[:runs]
    judge.alert = judge.alert if below is not None else None
    judge.save()
    audit.record(Action.JUDGE_SET, actor=caller.user_id, target=name, owner=of.user_id, flow=of.name)
    return judge


def list_judges(*, caller: Caller, flow: str, user_id: str | None = None) -> list[Judge]:
    """Return the judges of a flow, by name. Raises FlowNotFound."""
    return judges_of(flows.get_flow(caller=caller, name=flow, user_id=user_id))


def judges_of(flow: Flow) -> list[Judge]:
    """Return the judges of a flow that the caller may see, by name."""
    return list(Judge.objects.filter(flow=flow).select_related("flow").order_by("name"))


@transaction.atomic
def delete_judge(*, caller: Caller, flow: str, name: str, user_id: str | None = None) -> bool:
    """Delete a judge. Its scores stay, and what it judges at present is not scored. False: there is none with that name. Raises FlowNotFound."""
    of = flows.get_flow(caller=caller, name=flow, user_id=user_id)
    deleted, _ = Judge.objects.filter(flow=of, name=name).delete()
    if deleted:
        audit.record(Action.JUDGE_DELETED, actor=caller.user_id, target=name, owner=of.user_id, flow=of.name)
    return deleted > 0


def spent_today(judge: Judge) -> float:
    """Return what the judge has spent on this day in UTC, in US dollars, with the tree that judges at present."""
    today = judge.spent_nanos if judge.day == datetime.now(UTC).date() else 0
    return dollars(today + (_spent(_run_of(judge)) if judge.root_id else 0))


def sweep(inform: Inform) -> int:
    """Move on the judges that have something to do, those of each user in turn. Returns how many."""
    now = clock.database_time()
    is_running = Run.objects.unfinished().filter(root_id=OuterRef("root_id"))
    ended = _ended(OuterRef("flow_id"), OuterRef("position"), OuterRef("position_id"), now)
    due = Judge.objects.filter(Q(Exists(ended), root_id="") | (~Q(root_id="") & ~Exists(is_running)))
    turn = Window(RowNumber(), partition_by=F("flow__user_id"), order_by=("looked_at", "id"))
    ids = due.annotate(turn=turn).order_by("turn", "looked_at", "id").values_list("id", flat=True)[:AT_ONCE]
    return sum(_look(judge_id, now, inform) for judge_id in list(ids))


def _look(judge_id: str, now: datetime, inform: Inform) -> bool:
    """Store what a judge has found, and start what is next. False: another process does."""
    try:
        return _with_locked(judge_id, now, partial(_collect, inform=inform)) and _with_locked(
            judge_id, now, _start_next
        )
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:  # of one judge: the others continue
        reason = error.message if isinstance(error, TasksError) else "The log of the server has the reason."
        if not isinstance(error, TasksError):
            logger.exception("Judge %s failed", judge_id, extra={"event": "judge.broken", "judge": judge_id})
        changed = {"problem": f"Judging failed: {reason}"[:1000], "looked_at": now}
        return Judge.objects.filter(id=judge_id).update(**changed) > 0


@transaction.atomic
def _with_locked(judge_id: str, now: datetime, step: Callable[[Judge, datetime], None]) -> bool:
    locked = Judge.objects.select_for_update(skip_locked=True, of=("self",)).select_related("flow")
    judge = locked.filter(id=judge_id).first()
    if judge is None:
        return False
    step(judge, now)
    judge.looked_at = now
    judge.save()
    return True


# --- the runs that are judged ---


def _ended(flow_id: Any, position: Any, position_id: Any, now: datetime) -> "QuerySet[Run]":
    """Return the runs of a flow that completed after the position, up to the time from which on others may still be committed."""
    since = Run.objects.filter(flow_id=flow_id, finished_at__gte=position, finished_at__lte=now - LATE)
    return since.exclude(finished_at=position, id__lte=position_id).filter(status=Status.COMPLETED, is_demo=False)


def _start_next(judge: Judge, now: datetime) -> None:
    """Move the position past the runs that have ended, up to the last of a batch, and start the tree that scores these. Raises TasksError."""
    if judge.root_id or users.disabled_among([judge.flow.user_id]):
        return
    if judge.day != now.date():
        judge.day, judge.spent_nanos = now.date(), 0
    left = None if judge.cost_usd is None else judge.cost_usd - dollars(judge.spent_nanos)
    chosen: list[Run] = []
    ended = _ended(judge.flow_id, judge.position, judge.position_id, now).order_by("finished_at", "id")
    for run in ended.only("root_id", "wait_id", "finished_at")[:PAGE]:
        assert run.finished_at is not None  # noqa: S101  (the query)
        judge.position, judge.position_id = run.finished_at, run.id
        if not is_sampled(judge, run.id) or _is_judging_or_experiment(run):
            continue
        if left is not None and left <= 0:
            judge.over_budget += 1
            continue
        chosen.append(run)
        if len(chosen) == BATCH:
            break
    cases = _cases(judge, chosen)
    if not cases:
        return
    root_id = f"{PREFIX}{judge.id}-{judge.batches}"
    tasks = _tasks(judge, root_id, [case for _, case in cases], left)
    try:
        execution = execute_tree(caller=Caller(user_id=judge.flow.user_id), tasks=tasks)
    except InvalidParams as error:  # also at the next look, which is of other runs
        judge.not_scored, judge.problem = judge.not_scored + len(cases), error.message
        return
    stored = [execution.ids[task["id"]] for task in tasks[1:]]
    judge.root_id, judge.batches = execution.run.root_id, judge.batches + 1
    judge.in_hand = {task_id: run_id for task_id, (run_id, _) in zip(stored, cases, strict=True)}


def is_sampled(judge: Judge, run_id: str) -> bool:
    """Return whether the run is one of those that are judged: always the same, also if more or fewer are."""
    return place_of(judge.flow.name, judge.name, run_id) < judge.sample


def _is_judging_or_experiment(run: Run) -> bool:
    """Return whether the first of the runs that wait for the run is one of a judge, or an experiment. `limits.nested_runs` limits how many there are."""
    first = run
    while first.wait_id is not None:
        above = Run.objects.filter(id__in=Question.objects.filter(id=first.wait_id).values("run_id")).first()
        if above is None:
            break
        first = above
    return first is not run and (
        first.root_id.startswith(PREFIX) or Experiment.objects.filter(id=first.root_id).exists()
    )


def _cases(judge: Judge, runs: Sequence[Run]) -> list[tuple[str, Json]]:
    """Return the inputs and the result of each run. A larger one is not scored; one whose tree was deleted, or runs again, is left out."""
    ids, roots = [run.id for run in runs], [run.root_id for run in runs]
    of_runs = RunInputs.objects.filter(run_id__in=ids).annotate(size=loads.size_of("inputs"))
    of_roots = Task.objects.filter(id__in=roots).annotate(size=loads.size_of("result"))
    large = {
        *of_runs.filter(size__gt=LARGEST).values_list("run_id", flat=True),
        *of_roots.filter(size__gt=LARGEST).values_list("id", flat=True),
    }
    fitting = [run for run in runs if not large & {run.id, run.root_id}]
    if len(fitting) < len(runs):
        judge.not_scored, judge.problem = judge.not_scored + len(runs) - len(fitting), TOO_LARGE
    results = results_of(Caller(user_id=judge.flow.user_id), fitting)
    inputs = dict(RunInputs.objects.filter(run_id__in=results).values_list("run_id", "inputs"))
    return [
        (run.id, {"case": {"inputs": inputs.get(run.id, {})}, "result": results[run.id]})
        for run in fitting
        if run.id in results
    ]


def _tasks(judge: Judge, root_id: str, cases: Sequence[Json], left: float | None) -> list[Json]:
    """Return a tree with a task for each case. One that fails does not fail the tree, of which the owner would be informed."""
    params = {} if left is None else {"params": {"budget": {"cost_usd": left}}}
    tasks: list[Json] = [{"id": root_id, "name": f"Judge {judge.flow.name}: {judge.name}", **params}]
    for place, case in enumerate(cases):
        before = [{"id": f"{root_id}-{place - TOGETHER}", "required": False}] if place >= TOGETHER else []
        evaluator = {"name": judge.name, "with": judge.evaluator}
        tasks.append(
            {
                "id": f"{root_id}-{place}",
                "name": "Score a run",
                "parent_id": root_id,
                "schemas": {"method": EVALUATE},
                "params": {"allow_failure": True},
                "dependencies": before,
                "inputs": {"evaluators": [evaluator], **escaped(case)},
            }
        )
    return tasks


# --- what a judge has found ---


def _run_of(judge: Judge) -> Run | None:
    """Return the newest run of the tree that judges; None if it was deleted."""
    return Run.objects.filter(root_id=judge.root_id).order_by("-number").first()


def _spent(run: Run | None) -> int:
    """Return what a run has spent, in billionths of a US dollar: with the trees that it ran, where a budget counts them."""
    if run is None:
        return 0
    state = RunBudget.objects.filter(run_id=run.id).values_list("state", flat=True).first()
    return Spent.read(state).cost_nanos if state else run.cost_nanos or 0


def _collect(judge: Judge, now: datetime, *, inform: Inform) -> None:
    """Store the scores of the tree if it has ended, count what was not scored, and inform the owner if the scores have fallen."""
    run = _run_of(judge) if judge.root_id else None
    if not judge.root_id or (run is not None and run.finished_at is None):
        return
    judge.problem = ""
    ended = {task.id: task for task in Task.objects.filter(id__in=judge.in_hand)}
    judged = {
        each.id: each for each in Run.objects.filter(id__in=judge.in_hand.values()).order_by("id").select_for_update()
    }
    for task_id, run_id in judge.in_hand.items():
        task = ended.get(task_id)
        found: Json = ((task and task.result) or {}).get(judge.name) or {"value": None, "reason": task and task.error}
        value, reason = found["value"], found.get("reason")
        if value is None:
            judge.not_scored += 1
            judge.problem = reason or TREE_DELETED
            continue
        judge.judged += 1
        if isinstance(value, int | float):
            judge.recent = [float(value), *judge.recent][: judge.runs]
        if run_id in judged:
            given = {"value": value, "reason": reason, "by": judge.flow.user_id, "at": now}
            score, _ = Score.objects.update_or_create(
                run_id=run_id, task_id="", name=judge.name, source=scores.JUDGE, defaults=given
            )
            scores.export(judged[run_id], score)
    judge.spent_nanos += _spent(run)
    judge.root_id, judge.in_hand = "", {}
    if judge.below is None or len(judge.recent) < judge.runs or judge.mean is None:
        return
    if judge.mean >= judge.below:
        judge.alert = None
    elif judge.alert is None:
        judge.alert = {"mean": judge.mean, "at": now.isoformat()}
        if run is not None:
            inform(judge, run)


def _checked(owner: Caller, name: str, given: Any) -> Json:
    """Return the evaluator with the version of a flow, and the values that it gets. Raises InvalidParams, FlowNotFound or ExecutorNotFound."""
    kind = given if isinstance(given, str) else next(iter(given))
    if kind == "exact" or kind in COMPARING:
        reason = NO_EXPECTED if kind == "exact" else NOT_OF_ONE
        raise InvalidParams([("evaluator", reason.format(kinds=", ".join(ALONE)))])
    evaluator = {"name": name, "with": given}
    try:
        if found := list(problems([evaluator], "evaluators", kinds=ALONE)):
            raise InvalidParams(found)
        if isinstance(given[kind], dict) and "expected" in given[kind].get("inputs", ()):
            raise InvalidParams([(f"evaluator.{kind}.inputs", NOT_PASSED)])
        made: Json = scoring_code(owner, [evaluator])[0]["with"]
        if kind in ("flow", "workflow", "function"):
            passed = [each for each in made[kind]["inputs"] if each != "expected"]
            made = {kind: made[kind] | {"inputs": passed}}
        return made
    except InvalidParams as error:
        renamed = [(place.replace("evaluators[0].with", "evaluator"), why) for place, why in error.problems]
        raise InvalidParams([(place.replace("evaluators[0].", ""), why) for place, why in renamed]) from None
