"""The methods for data sets and experiments as values, as in `calls`."""

from collections.abc import Sequence

from .calls import Call, given, headers_of
from .types import (
    DatasetDeleted,
    DatasetRows,
    Datasets,
    Execution,
    ExperimentResult,
    Experiments,
    Json,
    SavedDataset,
)


def save_dataset(
    name: str, rows: Sequence[Json], *, append: bool = False, flow: str | None = None
) -> Call[SavedDataset]:
    """Save rows `{"inputs": …, "expected": …, "tags": […]}` as the next version of a data set; with `append`, after those of the newest one.

    `flow` is the name of the flow whose inputs they are, "" for none; None leaves that as it is.
    """
    return Call("datasets.save", given(name=name, rows=list(rows), append=append, flow=flow))


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
    versions: Sequence[int] | None = None,
    dataset_version: int | None = None,
    repeats: int | None = None,
    at_once: int | None = None,
    wait: bool = False,
    wait_timeout_seconds: float = 30,
    tags: Sequence[str] | None = None,
    idempotency_key: str | None = None,
    llm_key: str | None = None,
) -> Call[Execution]:
    """Run versions of a flow on the rows of a data set, and score what they return. `experiment` with its `task_id` has the result.

    An evaluator is `{"name": "accuracy", "with": "exact"}`, or has `{"exact": {"path": "/text"}}`, `{"expression": "…"}` or `{"schema": {…}}`
    as `with`. The other options are those of `execute`.
    """
    params = given(
        dataset=dataset,
        evaluators=list(evaluators),
        flow=flow,
        versions=None if versions is None else list(versions),
        dataset_version=dataset_version,
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


def experiment(experiment_id: str, *, limit: int | None = None, cursor: str | None = None) -> Call[ExperimentResult]:
    """Return what an experiment has found so far, with a page of its cases: those in which its versions differ most first."""
    return Call("evals.get", given(experiment_id=experiment_id, limit=limit, cursor=cursor))


def experiments(
    *, limit: int | None = None, cursor: str | None = None, user_id: str | None = None
) -> Call[Experiments]:
    """Return a page of your experiments, the newest first."""
    return Call("evals.list", given(limit=limit, cursor=cursor, user_id=user_id))
