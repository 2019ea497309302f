"""Rows of a data set from runs of a flow: their inputs, and as `expected` what a person answered or what they returned."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from django.db import transaction
from django.db.models import Exists, OuterRef

from accounts.callers import Caller
from apflow_site.db.beforehand import beforehand
from tasks.models import Dataset, DatasetVersion, Experiment, Flow, Question, Run, RunInputs, Task
from tasks.rules.exceptions import InvalidParams, RunNotFound
from tasks.rules.specs import LISTED
from tasks.rules.strict_json import Json
from tasks.services import flows
from tasks.services.evals.datasets import Problem, Saved, key_of, save_dataset
from tasks.services.flows.flow_lists import runs_of
from tasks.services.trees.queries import latest_runs
from tasks.status import Status
from tasks.storage import loads

ANSWER: Final = "answer"
RESULT: Final = "result"
NOTHING: Final = "nothing"
NUMBERED: Final = re.compile(r"rows\[(\d+)\]")
MOST_SEARCHED: Final = 10_000
"""The newest runs of a flow among which those with a status are looked for."""
OF_NO_FLOW: Final = (
    "is a run of no flow, or of one that has been deleted, and the rows of a data set are inputs of a flow"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A saved version. `known` ones of so many `runs` have the inputs of a row that was there, which stays, or of a newer run."""

    saved: Saved
    runs: int
    known: int


@transaction.atomic
def add_runs(
    *,
    caller: Caller,
    name: str,
    run_ids: Sequence[str] = (),
    flow: str | None = None,
    statuses: Sequence[str] = (Status.COMPLETED.value,),
    since: datetime | None = None,
    limit: int = 100,
    expected: str = ANSWER,
    tags: Sequence[str] = (),
) -> Added:
    """Save a version of a data set of the caller with a further row for each of these runs, or of the newest ones of a flow.

    An id of a tree means its latest run. Raises RunNotFound, FlowNotFound, or InvalidParams; then nothing is stored.
    """
    given: Json = {
        "run_ids": [*run_ids],
        "flow": flow,
        "statuses": [*statuses],
        "since": since and since.isoformat(),
        "limit": limit,
        "expected": expected,
    }
    of_flow, found = beforehand("rows of runs", partial(_rows, caller, **given), given)
    rows = [row | ({"tags": [*tags]} if tags else {}) for row in found]
    dataset = Dataset.objects.filter(user_id=caller.user_id, name=name).first()
    _refuse_other(dataset, of_flow)
    newest: DatasetVersion | None = None
    if dataset is not None:
        newest = DatasetVersion.objects.filter(dataset_id=dataset.id, number=dataset.version).first()
    known = {key_of(row["inputs"]) for row in newest.rows} if newest else set[bytes]()
    new: list[Json] = []
    for row in rows:
        if (key := key_of(row["inputs"])) not in known:
            known.add(key)
            new.append(row)
    if dataset is not None and newest is not None and not new:
        saved = Saved(dataset=dataset, version=newest, is_new=False, replaced=0)
    else:
        try:
            saved = save_dataset(
                caller=caller, name=name, rows=new, appends=True, flow=of_flow if dataset is None else None
            )
        except InvalidParams as error:
            raise InvalidParams([_of_run(problem, new) for problem in error.problems]) from None
    return Added(saved=saved, runs=len(rows), known=len(rows) - len(new))


def rows_of(*, caller: Caller, run_ids: Sequence[str]) -> tuple[str, list[Json]]:
    """Return the name of the flow of runs, and the rows that they make, with their results where nobody answered. Raises as `add_runs`."""
    flow, rows = _rows(caller, run_ids=run_ids, expected=ANSWER)
    _, with_results = _rows(caller, run_ids=run_ids, expected=RESULT)
    return flow, [other | row for row, other in zip(rows, with_results, strict=True)]


def add_row(*, caller: Caller, name: str, flow: str, row: Json) -> Saved:
    """Save a version of a data set with a row of a run of this flow, as a person has edited it: it takes the place of one with its inputs."""
    dataset = Dataset.objects.filter(user_id=caller.user_id, name=name).first()
    _refuse_other(dataset, flow)
    return save_dataset(caller=caller, name=name, rows=[row], appends=True, flow=flow if dataset is None else None)


def _refuse_other(dataset: Dataset | None, flow: str) -> None:
    """Raise InvalidParams for a data set that has the inputs of another flow."""
    if dataset is not None and dataset.flow not in ("", flow):
        raise InvalidParams([("name", f"has the inputs of the flow '{dataset.flow}', and these are runs of '{flow}'")])


def _rows(
    caller: Caller,
    *,
    run_ids: Sequence[str],
    expected: str,
    flow: str | None = None,
    statuses: Sequence[str] = (),
    since: str | None = None,
    limit: int = 0,
) -> tuple[str, list[Json]]:
    """Return the name of the flow of the runs, and their rows."""
    if flow is None:
        runs = _named(caller, run_ids)
        flow = _flow_of(runs)
    else:
        # The runs of an experiment have the rows of a data set. Those of a demo have results that are made up.
        of_experiment = Question.objects.filter(
            id=OuterRef("wait_id"), run__root_id__in=Experiment.objects.values("id")
        )
        its = flows.get_flow(caller=caller, name=flow, user_id=caller.user_id).id
        period = {} if since is None else {"created_at__gte": datetime.fromisoformat(since)}
        searched = runs_of(its).filter(**period).values("id")[:MOST_SEARCHED]
        matching = runs_of(its).filter(~Exists(of_experiment), id__in=searched, status__in=statuses, is_demo=False)
        runs = list(matching[:limit])
        if not runs:
            raise InvalidParams([("flow", f"'{flow}' has no such runs; those of experiments and demos do not count")])
    ids = [run.id for run in runs]
    of_runs = RunInputs.objects.filter(run_id__in=ids)
    loads.spend_on(of_runs, "inputs")
    inputs = dict(of_runs.values_list("run_id", "inputs"))
    values = _answers(ids) if expected == ANSWER else results_of(caller, runs) if expected == RESULT else {}
    rows = [
        {
            "inputs": inputs.get(run.id, {}),
            **({"expected": values[run.id]} if run.id in values else {}),
            "source": {"run_id": run.id},
        }
        for run in runs
    ]
    return flow, rows


def _named(caller: Caller, ids: Sequence[str]) -> list[Run]:
    """Return the caller's own runs with these ids, or the latest ones of the trees. Raises RunNotFound."""
    own = Run.objects.filter(user_id=caller.user_id)
    by_id = {run.id: run for run in own.filter(id__in=ids)}
    trees = latest_runs(caller=caller, root_ids=[each for each in ids if each not in by_id])
    found = by_id | {root_id: run for root_id, run in trees.items() if run.user_id == caller.user_id}
    for each in ids:
        if each not in found:
            raise RunNotFound(each[:255], close_matches=own.ids_like(each))
    return [*{found[each].id: found[each] for each in ids}.values()]


def _flow_of(runs: Sequence[Run]) -> str:
    """Return the name of the only flow of which all are runs. Raises InvalidParams."""
    names = dict(Flow.objects.filter(id__in={run.flow_id for run in runs if run.flow_id}).values_list("id", "name"))
    problems = [
        (f"run_ids[{number}]", f"'{run.id}' {OF_NO_FLOW}")
        for number, run in enumerate(runs)
        if run.flow_id is None or run.flow_id not in names
    ]
    if not problems and len(different := sorted({*names.values()})) > 1:
        problems = [("run_ids", f"are runs of several flows: {', '.join(different[:3])}")]
    if problems:
        raise InvalidParams(problems[:LISTED])
    return str(names[runs[0].flow_id or ""])


def _answers(run_ids: Sequence[str]) -> dict[str, Any]:
    """Map each run in which a person has answered a question to the last answer."""
    asked = Question.objects.for_people().filter(run_id__in=run_ids, answered_by__isnull=False)
    return dict(asked.order_by("answered_at", "id").values_list("run_id", "answer"))


def results_of(caller: Caller, runs: Sequence[Run]) -> dict[str, Any]:
    """Map each run that completed to the result of its root; a run that another one of its tree followed has none of its own any more."""
    latest = latest_runs(caller=caller, root_ids=[*{run.root_id for run in runs}])
    roots = {run.root_id: run.id for run in latest.values() if run.status == Status.COMPLETED}
    tasks = Task.objects.filter(id__in=roots)
    loads.spend_on(tasks, "result")
    results = {roots[root_id]: result for root_id, result in tasks.values_list("id", "result")}
    return {run.id: results[run.id] for run in runs if run.id in results}


def _of_run(problem: Problem, rows: Sequence[Json]) -> Problem:
    """Name the run in the place of a problem: `run 01a2….inputs.who` for `rows[3].inputs.who`."""
    place, reason = problem
    numbered = NUMBERED.match(place)
    if numbered is None:
        return problem
    run_id = rows[int(numbered[1])]["source"]["run_id"]
    return f"run {run_id}{place[numbered.end() :]}", reason
