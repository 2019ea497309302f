"""Experiments: store one as a tree, and list them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import orjson
from django.conf import settings
from django.db import transaction
from django.db.models import Q

from accounts.callers import Caller
from apflow_site.db.beforehand import beforehand
from llmkeys.providers import SentKey
from tasks.executors.evaluate import ID as EVALUATE
from tasks.executors.evaluate import problems
from tasks.models import Experiment, Run
from tasks.rules.exceptions import ExperimentNotFound, InvalidParams
from tasks.rules.strict_json import Json
from tasks.services import flows
from tasks.services.evals.datasets import get_version, problems_of_rows
from tasks.services.trees import NEW, Execution, execute_tree
from tasks.services.trees.queries import NOT_A_CURSOR, latest_runs

RUN_TREE: Final = "run_tree_executor"
TASKS_OF_CASE: Final = 2
"""The tasks that the map adds for each case: one runs the flow, the other scores its result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """An experiment that is not stored: the tasks of its tree, and what its row has."""

    tasks: list[Json]
    facts: Json


@transaction.atomic
def run_experiment(
    *,
    caller: Caller,
    dataset: str,
    evaluators: Sequence[Json],
    dataset_version: int | None = None,
    flow: str | None = None,
    versions: Sequence[int] | None = None,
    repeats: int = 1,
    at_once: int = 10,
    context_id: str | None = None,
    reserved_id: str | None = None,
    llm_key: SentKey | None = None,
) -> Execution:
    """Store a tree that runs versions of a flow on all rows of a data set of the caller and scores the results, and queue its run.

    `flow` is by default that of the data set, and `versions` its newest two. Raises DatasetNotFound, FlowNotFound, or InvalidParams for
    rows and evaluators that do not fit, by their places; then nothing is stored.
    """
    given: Json = {
        "dataset": dataset,
        "dataset_version": dataset_version,
        "flow": flow,
        "versions": None if versions is None else list(versions),
        "evaluators": list(evaluators),
        "repeats": repeats,
        "at_once": at_once,
    }
    planned = beforehand("experiment", partial(_plan, caller, **given), given)
    execution = execute_tree(
        caller=caller,
        tasks=planned.tasks,
        id_conflict=NEW,
        context_id=context_id,
        reserved_id=reserved_id,
        llm_key=llm_key,
    )
    Experiment.objects.create(
        id=execution.run.root_id, user_id=caller.user_id, created_at=execution.run.created_at, **planned.facts
    )
    return execution


def get_experiment(*, caller: Caller, experiment_id: str) -> Experiment:
    """Return an experiment that the caller may see. Raises ExperimentNotFound."""
    found = Experiment.objects.for_caller(caller).filter(id=experiment_id).first()
    if found is None:
        raise ExperimentNotFound(experiment_id[:255])
    return found


def list_experiments(
    *, caller: Caller, user_id: str | None = None, limit: int = 100, cursor: str | None = None
) -> tuple[list[tuple[Experiment, Run | None]], str | None]:
    """Return a page of experiments, newest first, each with its latest run, and the cursor of the next page (None at the end).

    Raises InvalidParams for an invalid cursor.
    """
    rows = Experiment.objects.for_caller(caller).order_by("-created_at", "-id")
    rows = rows if user_id is None else rows.filter(user_id=user_id)
    if cursor:
        moment, _, last_id = cursor.partition("_")
        try:
            last_at = datetime.fromtimestamp(int(moment) / 1_000_000, UTC)
        except (ValueError, OverflowError, OSError):
            raise InvalidParams([NOT_A_CURSOR]) from None
        if "\0" in last_id:
            raise InvalidParams([NOT_A_CURSOR])
        rows = rows.filter(Q(created_at__lt=last_at) | Q(created_at=last_at, id__lt=last_id), created_at__lte=last_at)
    page = list(rows[: limit + 1])
    runs = latest_runs(caller=caller, root_ids=[each.id for each in page[:limit]])
    shown = [(each, runs.get(each.id)) for each in page[:limit]]
    if len(page) <= limit:
        return shown, None
    last = page[limit - 1]
    return shown, f"{round(last.created_at.timestamp() * 1_000_000)}_{last.id}"


def _plan(
    caller: Caller,
    *,
    dataset: str,
    dataset_version: int | None,
    flow: str | None,
    versions: list[int] | None,
    evaluators: list[Json],
    repeats: int,
    at_once: int,
) -> Planned:
    """Check an experiment, and return what is to be stored. Raises what `run_experiment` raises."""
    if found := list(problems(evaluators, "evaluators")):
        raise InvalidParams(found)
    used, rows = get_version(caller=caller, name=dataset, version=dataset_version, user_id=caller.user_id)
    name = flow or used.flow
    if not name:
        raise InvalidParams([("flow", f"is required: the data set '{used.name}' names no flow")])
    if versions is None:
        newest = flows.get_flow(caller=caller, name=name, user_id=caller.user_id).version
        versions = [max(1, newest - 1), newest] if newest > 1 else [newest]
    for number in versions:
        _, version = flows.get_version(caller=caller, name=name, version=number, user_id=caller.user_id)
        if found := problems_of_rows(version, rows.rows):
            raise InvalidParams([(place, f"{reason} (version {number:,})") for place, reason in found])
    items = [
        {"number": number, "version": version, "repeat": repeat, **row}
        for number, row in enumerate(rows.rows)
        for repeat in range(repeats)
        for version in versions
    ]
    limits = settings.APFLOW.limits
    if (needed := TASKS_OF_CASE * len(items)) > limits.spawned_tasks:
        reason = (
            f"has {len(items):,} runs of the flow (rows × versions × repeats), which need {needed:,} tasks, and a tree may add "
            f"{limits.spawned_tasks:,} (limits.spawned_tasks). Use fewer rows or repeats"
        )
        raise InvalidParams([("dataset", reason)])
    tasks = _tasks(f"{name} on {used.name}", name, items, evaluators, at_once=at_once)
    if (size := len(orjson.dumps(tasks))) > limits.body_bytes:
        reason = (
            f"has {size:,} bytes with its rows for each version and repeat, and a request {limits.body_bytes:,} at most "
            "(limits.body_bytes). Use fewer rows or repeats"
        )
        raise InvalidParams([("dataset", reason)])
    facts: Json = {
        "dataset": used.name,
        "dataset_version": rows.number,
        "flow": name,
        "versions": versions,
        "evaluators": evaluators,
        "repeats": repeats,
        "cases": rows.count,
    }
    return Planned(tasks=tasks, facts=facts)


def _tasks(name: str, flow: str, items: list[Json], evaluators: list[Json], *, at_once: int) -> list[Json]:
    """Return the tree: a map whose items each run the flow, and score what it returns. Only the scores are results of the map."""
    for_each: dict[str, Any] = {"items": items, "as": "case", "max_parallel": at_once, "max_items": len(items)}
    return [
        {"id": "experiment", "name": name, "params": {"for_each": for_each}},
        {
            "id": "score",
            "name": "Score",
            "parent_id": "experiment",
            "schemas": {"method": EVALUATE},
            "dependencies": ["answer"],
            "inputs": {"evaluators": evaluators, "case": "{{case}}", "result": "{{answer}}"},
        },
        {
            "id": "answer",
            "name": "Run the flow",
            "parent_id": "score",
            "schemas": {"method": RUN_TREE},
            "inputs": {"flow": flow, "version": "{{case.version}}", "inputs": "{{case.inputs}}"},
        },
    ]
