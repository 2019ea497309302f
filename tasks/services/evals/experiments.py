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
from tasks.executors.compare import ID as COMPARE
from tasks.executors.evaluate import ASKING, COMPARING, KINDS, is_of, problems
from tasks.executors.evaluate import ID as EVALUATE
from tasks.executors.judging import needs_two
from tasks.models import Experiment, Run
from tasks.rules import budgets, caching
from tasks.rules.exceptions import ExperimentNotFound, InvalidParams
from tasks.rules.strict_json import Json
from tasks.rules.tree import WORKFLOW
from tasks.services import flows
from tasks.services.evals.datasets import get_version
from tasks.services.evals.scoring import scoring_code
from tasks.services.evals.variants import Variant, variants_of_flow, variants_of_workflow
from tasks.services.trees import NEW, Execution, execute_tree
from tasks.services.trees.queries import NOT_A_CURSOR, latest_runs

RUN_TREE: Final = "run_tree_executor"
SCORE: Final = "score"
ANSWER: Final = "answer"
"""The tasks that the map adds for each run of the flow: one scores the result, the other runs the flow. Their labels end with the index of the version."""
COMPARING_TASK: Final = "compare"
"""The task for each item that compares the versions, if an evaluator does."""
OF_CASE: Final = ("inputs", "expected", "tags")
"""The parts of a row that an experiment takes."""
NOT_TWO: Final = "compares two versions of the flow, and there {are}. Name two in versions or in variants"


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
    workflow: str | None = None,
    versions: Sequence[int] | None = None,
    variants: Sequence[Json] | None = None,
    split: str | None = None,
    seed: int | None = None,
    cache: str | None = None,
    budget: Json | None = None,
    repeats: int = 1,
    at_once: int = 10,
    context_id: str | None = None,
    reserved_id: str | None = None,
    llm_key: SentKey | None = None,
) -> Execution:
    """Store a tree that runs versions of a flow, or variants of it or of a `workflow`, on the rows of a data set of the caller and scores the
    results, and queue its run. With `split`, only rows with this tag are used.

    `flow` is by default that of the data set, and `versions` its newest two. `seed` and `cache` are for those of its tasks that may have
    them, and the `budget` is that of the run. Raises DatasetNotFound, FlowNotFound, ExecutorNotFound for a workflow, or InvalidParams for
    rows, variants and evaluators that do not fit, by their places; then nothing is stored.
    """
    given: Json = {
        "dataset": dataset,
        "dataset_version": dataset_version,
        "flow": flow,
        "workflow": workflow,
        "versions": None if versions is None else list(versions),
        "variants": None if variants is None else list(variants),
        "split": split,
        "seed": seed,
        "cache": cache,
        "budget": budget,
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
    workflow: str | None,
    versions: list[int] | None,
    variants: list[Json] | None,
    split: str | None,
    seed: int | None,
    cache: str | None,
    budget: Json | None,
    evaluators: list[Json],
    repeats: int,
    at_once: int,
) -> Planned:
    """Check an experiment, and return what is to be stored. Raises what `run_experiment` raises."""
    if found := list(problems(evaluators, "evaluators", kinds=(*KINDS, *COMPARING))):
        raise InvalidParams(found)
    if found := list(budgets.problems(budget, "budget")) if budget is not None else []:
        raise InvalidParams(found)
    if cache is not None and (found := list(caching.problems(cache, "cache"))):
        raise InvalidParams(found)
    used, rows = get_version(caller=caller, name=dataset, version=dataset_version, user_id=caller.user_id)
    numbered = [(number, row) for number, row in enumerate(rows.rows) if split is None or split in row.get("tags", ())]
    if not numbered:
        tags = sorted({tag for row in rows.rows for tag in row.get("tags", ())})
        known = f"its tags are: {', '.join(tags[:20])}" if tags else "its rows have no tags"
        reason = f"'{split}' is the tag of no row of version {rows.number:,} of the data set '{used.name}'; {known}"
        raise InvalidParams([("split", reason)])
    if workflow is not None:
        further = {"flow": flow, "versions": versions, "seed": seed, "cache": cache}
        compared = variants_of_workflow(workflow, variants or [{}], rows.rows, place="variants", further=further)
        name = f"{WORKFLOW}{workflow}"
    else:
        name = flow or used.flow
        if not name:
            raise InvalidParams([("flow", f"is required: the data set '{used.name}' names no flow")])
        if variants is None and versions is None:
            newest = flows.get_flow(caller=caller, name=name, user_id=caller.user_id).version
            versions = [max(1, newest - 1), newest] if newest > 1 else [newest]
        place, asked = (
            ("variants", variants) if variants else ("versions", [{"version": each} for each in versions or ()])
        )
        compared = variants_of_flow(caller, name, asked, rows.rows, place=place, seed=seed, cache=cache)
    of_two = [place for place, each in enumerate(evaluators) if needs_two(each["with"])]
    if of_two and (count := len(compared)) != 2:
        reason = NOT_TWO.format(are="is one" if count == 1 else f"are {count}")
        raise InvalidParams([(f"evaluators[{place}].with", reason) for place in of_two])
    items = [
        {"number": number, "repeat": repeat, **{name: row[name] for name in OF_CASE if name in row}}
        for number, row in numbered
        for repeat in range(repeats)
    ]
    runs = len(items) * len(compared)
    limits = settings.APFLOW.limits
    scoring = scoring_code(caller, evaluators)
    tasks = _tasks(f"{name} on {used.name}", name, compared, items, scoring, at_once=at_once)
    if budget is not None:
        tasks[0]["params"]["budget"] = budget
    asking = sum(
        is_of(each, *ASKING) * len(compared) + 2 * is_of(each, "pair_judge") + is_of(each, "person")
        for each in evaluators
    )
    needed = len(items) * (len(tasks) - 1 + asking)
    if needed > limits.spawned_tasks:
        reason = (
            f"has {runs:,} runs of the flow (rows × versions × repeats), which need up to {needed:,} tasks, and a tree may add "
            f"{limits.spawned_tasks:,} (limits.spawned_tasks). Use fewer rows or repeats"
        )
        raise InvalidParams([("dataset", reason)])
    if (size := len(orjson.dumps(tasks))) > limits.body_bytes:
        reason = (
            f"has {size:,} bytes with its rows for each repeat, and a request {limits.body_bytes:,} at most "
            "(limits.body_bytes). Use fewer rows or repeats"
        )
        raise InvalidParams([("dataset", reason)])
    facts: Json = {
        "dataset": used.name,
        "dataset_version": rows.number,
        "flow": name,
        "versions": [each.version for each in compared],
        "variants": [each.stored() for each in compared],
        "evaluators": evaluators,
        "repeats": repeats,
        "cases": len(numbered),
        "split": split or "",
    }
    return Planned(tasks=tasks, facts=facts)


def _tasks(
    name: str, flow: str, variants: Sequence[Variant], items: list[Json], evaluators: list[Json], *, at_once: int
) -> list[Json]:
    """Return the tree: a map whose items are the rows, each of which runs all variants and scores what they return.

    Only the scores are results of the map.
    """
    alone = [each for each in evaluators if is_of(each, *KINDS)]
    together = min(at_once, len(variants))
    for_each: dict[str, Any] = {
        "items": items,
        "as": "case",
        "max_parallel": at_once // together,
        "max_items": len(items),
    }
    tasks: list[Json] = [{"id": "experiment", "name": name, "params": {"for_each": for_each}}]
    for place, variant in enumerate(variants):
        runs = (
            {"workflow": flow.removeprefix(WORKFLOW)}
            if variant.version is None
            else {"flow": flow, "version": variant.version}
        )
        changes = {"changes": variant.changes} if variant.changes else {}
        answer = f"{ANSWER}{place}"
        tasks += [
            {
                "id": f"{SCORE}{place}",
                "name": f"Score {variant.name}",
                "parent_id": "experiment",
                "schemas": {"method": EVALUATE},
                "dependencies": [answer],
                "inputs": {"evaluators": alone, "case": "{{case}}", "result": f"{{{{{answer}}}}}"},
            },
            {
                "id": answer,
                "name": f"Run {variant.name}",
                "parent_id": f"{SCORE}{place}",
                "schemas": {"method": RUN_TREE},
                # All variants of a row begin together, if so many may be in progress.
                "dependencies": [{"id": f"{ANSWER}{place - together}", "required": False}] if place >= together else [],
                "inputs": {**runs, **changes, "inputs": "{{case.inputs}}"},
            },
        ]
    if comparing := [each for each in evaluators if is_of(each, *COMPARING)]:
        scores, answers = ([f"{kind}{place}" for place in range(len(variants))] for kind in (SCORE, ANSWER))
        tasks.append(
            {
                "id": COMPARING_TASK,
                "name": "Compare",
                "parent_id": "experiment",
                "schemas": {"method": COMPARE},
                "dependencies": [*scores, *answers],
                "inputs": {
                    "evaluators": comparing,
                    "case": "{{case}}",
                    "results": [f"{{{{{each}}}}}" for each in answers],
                    "scores": [f"{{{{{each}}}}}" for each in scores],
                },
            }
        )
    return tasks
