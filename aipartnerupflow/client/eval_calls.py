"""The methods for data sets and experiments as values, as in `calls`."""

from collections.abc import Sequence

from .calls import Call, given, headers_of
from .types import (
    AddedRuns,
    DatasetDeleted,
    DatasetRows,
    Datasets,
    Execution,
    ExperimentResult,
    Experiments,
    Json,
    Judge,
    JudgeDeleted,
    Judges,
    SavedDataset,
)


def save_dataset(
    name: str, rows: Sequence[Json], *, append: bool = False, flow: str | None = None
) -> Call[SavedDataset]:
    """Save rows `{"inputs": …, "expected": …, "tags": […]}` as the next version of a data set; with `append`, after those of the newest one.

    `flow` is the name of the flow whose inputs they are, "" for none; None leaves that as it is.
    """
    return Call("datasets.save", given(name=name, rows=list(rows), append=append, flow=flow))


def add_runs(
    name: str,
    run_ids: Sequence[str] | None = None,
    *,
    flow: str | None = None,
    status: str | Sequence[str] | None = None,
    since: str | None = None,
    limit: int | None = None,
    expected: str | None = None,
    tags: Sequence[str] | None = None,
) -> Call[AddedRuns]:
    """Save a version of a data set with a further row for each of these runs, or of the newest ones of a flow, unless it has their inputs.

    An id of a tree means its latest run. `expected` is `answer`, which is what a person answered last in the run, `result` or `nothing`. `status`, `since` and `limit` select
    runs of the flow: by default the newest 100 that completed.
    """
    params = given(
        name=name,
        run_ids=None if run_ids is None else list(run_ids),
        flow=flow,
        status=status if status is None or isinstance(status, str) else list(status),
        since=since,
        limit=limit,
        expected=expected,
        tags=None if tags is None else list(tags),
    )
    return Call("datasets.add", params)


def dataset(name: str, *, version: int | None = None, user_id: str | None = None) -> Call[DatasetRows]:
    """One version of a data set with its rows; by default the newest."""
    return Call("datasets.get", given(name=name, version=version, user_id=user_id))


def datasets(*, limit: int | None = None, cursor: str | None = None, user_id: str | None = None) -> Call[Datasets]:
    """Return a page of your data sets, by name, without their rows."""
    return Call("datasets.list", given(limit=limit, cursor=cursor, user_id=user_id))


def delete_dataset(name: str, *, user_id: str | None = None) -> Call[DatasetDeleted]:
    """Delete a data set and its versions. Experiments keep the cases that they have run."""
    return Call("datasets.delete", given(name=name, user_id=user_id))


def run_experiment(
    dataset: str,
    evaluators: Sequence[Json],
    *,
    flow: str | None = None,
    workflow: str | None = None,
    versions: Sequence[int] | None = None,
    variants: Sequence[Json] | None = None,
    seed: int | None = None,
    cache: str | None = None,
    budget: Json | None = None,
    dataset_version: int | None = None,
    split: str | None = None,
    repeats: int | None = None,
    at_once: int | None = None,
    wait: bool = False,
    wait_timeout_seconds: float = 30,
    tags: Sequence[str] | None = None,
    idempotency_key: str | None = None,
    llm_key: str | None = None,
) -> Call[Execution]:
    """Run versions of a flow on the rows of a data set, or on those with the tag `split`, and score what they return. `experiment` with its `task_id` has the result.

    An evaluator is `{"name": "accuracy", "with": "exact"}`, or has `{"exact": {"path": "/text"}}`, `{"expression": "…"}`, `{"schema": {…}}`,
    `{"judge": {"rubric": "…"}}`, `{"pair_judge": {"rubric": "…"}}`, `{"person": {"question": "…"}}`, `{"flow": "…"}`, `{"workflow": "…"}` or
    `{"function": "…"}` as `with`; with `"better": "lower"`, a lower score is better. A variant is `{"name": …, "version": …, "model": …, "system": …, "prompt": …, "temperature": …, "task": …,
    "inputs": {…}}`, all of them optional: a version of the flow with other inputs of its tasks. The other options are those of `execute`.
    """
    params = given(
        dataset=dataset,
        evaluators=list(evaluators),
        flow=flow,
        workflow=workflow,
        versions=None if versions is None else list(versions),
        variants=None if variants is None else list(variants),
        seed=seed,
        cache=cache,
        budget=budget,
        dataset_version=dataset_version,
        split=split,
        repeats=repeats,
        at_once=at_once,
        wait=wait,
        wait_timeout_seconds=wait_timeout_seconds if wait else None,
        tags=None if tags is None else list(tags),
    )
    return Call(
        "evals.run",
        params,
        wait_seconds=wait_timeout_seconds if wait else 0,
        headers=headers_of(idempotency_key, llm_key),
    )


def experiment(
    experiment_id: str, *, limit: int | None = None, cursor: str | None = None, order: str | None = None
) -> Call[ExperimentResult]:
    """Return what an experiment has found so far, with a page of its cases: those in which its versions differ most first.

    With `worse` as `order`, those in which a further version is worse than the first come first.
    """
    return Call("evals.get", given(experiment_id=experiment_id, limit=limit, cursor=cursor, order=order))


def case_pages(experiment_id: str, found: ExperimentResult | None = None) -> Call[ExperimentResult] | None:
    """Return the call for the first page of all cases of an experiment, or for the one after this; None at the end."""
    cursor = None if found is None else found["next_cursor"]
    return experiment(experiment_id, limit=1000, cursor=cursor) if found is None or cursor is not None else None


def experiments(
    *, limit: int | None = None, cursor: str | None = None, user_id: str | None = None
) -> Call[Experiments]:
    """Return a page of your experiments, the newest first."""
    return Call("evals.list", given(limit=limit, cursor=cursor, user_id=user_id))


def set_judge(
    flow: str,
    name: str,
    evaluator: Json,
    *,
    sample: float,
    cost_usd_per_day: float | None = None,
    below: float | None = None,
    runs: int | None = None,
    user_id: str | None = None,
) -> Call[Judge]:
    """Let an evaluator such as `{"expression": "length(result.text)"}` score `sample` percent of the runs of a flow, or replace the judge with this name.

    You are informed once when the mean of the newest `runs` scores falls `below` a number.
    """
    limits = given(cost_usd_per_day=cost_usd_per_day, below=below, runs=runs, user_id=user_id)
    return Call("judges.set", {"flow": flow, "name": name, "evaluator": evaluator, "sample": sample, **limits})


def judges(flow: str, *, user_id: str | None = None) -> Call[Judges]:
    """Return the judges of a flow with what they have found, by name."""
    return Call("judges.list", given(flow=flow, user_id=user_id))


def delete_judge(flow: str, name: str, *, user_id: str | None = None) -> Call[JudgeDeleted]:
    """Delete a judge of a flow. Its scores stay."""
    return Call("judges.delete", given(flow=flow, name=name, user_id=user_id))
