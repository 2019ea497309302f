"""Variants: what an experiment compares. Each is a version of a flow, or a workflow, perhaps with other inputs of its tasks."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from accounts.callers import Caller
from aipartnerupflow.executors import ExecutorError
from tasks.executors import caching, get_executor
from tasks.executors.workflows import WorkflowTask
from tasks.models import FlowVersion
from tasks.rules.exceptions import InvalidParams
from tasks.rules.flows import unknown_input, unknown_task, with_changes
from tasks.rules.schema import mismatch
from tasks.rules.specs import LISTED, TaskSpec
from tasks.rules.strict_json import Json
from tasks.rules.tree import WORKFLOW
from tasks.services import flows
from tasks.services.evals.datasets import Problem, problems_of_rows
from tasks.services.secrets.write_only import sealed_inputs
from tasks.services.trees import checked_beforehand

LLM: Final = "llm_executor"
SHORT: Final = ("model", "system", "prompt", "temperature")
"""The inputs of `llm_executor` that a variant has as fields of its own."""
LONGEST_NAME: Final = 64
NO_MODEL: Final = "has no task of {of} to change: none runs llm_executor. Name the task with `task`"
NOT_OF_WORKFLOW: Final = (
    "is not for a workflow, whose code calls the models: make it an argument, and change that with `inputs`"
)
IS_SECRET: Final = (
    "is an input that is stored encrypted, and a variant is kept as it is. Let the flow use a named secret"
)
UNCACHEABLE: Final = "is for flows with tasks that may take results from the cache, and {of} has none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """`changes` have inputs and params of tasks, by the ids of these, as `run_tree_executor` takes them. A workflow has no `version`."""

    name: str
    version: int | None
    given: Json = field(default_factory=dict)
    """The inputs that it changes, by name."""
    task: str | None = None
    """The only task whose inputs it changes; None: all that run a language model."""
    changes: Json = field(default_factory=dict)

    def stored(self) -> Json:
        return {"name": self.name, "changes": self.given} | ({} if self.task is None else {"task": self.task})


def variants_of_flow(
    caller: Caller,
    flow: str,
    asked: Sequence[Json],
    rows: Sequence[Json],
    *,
    place: str,
    seed: int | None,
    cache: str | None,
) -> list[Variant]:
    """Check what is asked to be compared, and return it. Raises FlowNotFound, or InvalidParams, by `place` and number of each."""
    found = []
    for number, each in enumerate(asked):
        _, version = flows.get_version(caller=caller, name=flow, version=each.get("version"), user_id=caller.user_id)
        of = f"version {version.number:,}"
        if problems := problems_of_rows(version, rows):
            raise InvalidParams([(where, f"{reason} ({of})") for where, reason in problems])
        given = {name: each[name] for name in SHORT if name in each} | each.get("inputs", {})
        changes = _changes(version, each.get("task"), given, seed=seed, cache=cache, place=f"{place}[{number}]")
        name = each.get("name") or _name_of(of, each.get("task"), given)
        found.append(Variant(name=name, version=version.number, given=given, task=each.get("task"), changes=changes))
    _refuse_equal_names(found, place)
    return found


def variants_of_workflow(
    workflow: str, asked: Sequence[Json], rows: Sequence[Json], *, place: str, further: Mapping[str, Any]
) -> list[Variant]:
    """Check the arguments of a workflow with those that each variant changes. `further` are fields of the experiment that only flows may have.

    Raises ExecutorNotFound or InvalidParams.
    """
    executor = get_executor(f"{WORKFLOW}{workflow}")
    if not isinstance(executor, WorkflowTask):
        raise InvalidParams([("workflow", f"'{workflow}' is no workflow")])
    only = [(name, NOT_OF_WORKFLOW) for name, value in further.items() if value is not None]
    only += [
        (f"{place}[{number}].{name}", NOT_OF_WORKFLOW)
        for number, each in enumerate(asked)
        for name in sorted(each.keys() - {"name", "inputs"})
    ]
    if only:
        raise InvalidParams(only)
    found = []
    for each in asked:
        given = each.get("inputs", {})
        if problems := list(_problems_of_arguments(executor, rows, given)):
            raise InvalidParams(problems[:LISTED])
        name = each.get("name") or _name_of("as it is" if not given else "", None, given)
        found.append(
            Variant(name=name, version=None, given=given, changes={workflow: {"inputs": given}} if given else {})
        )
    _refuse_equal_names(found, place)
    return found


def _changes(
    version: FlowVersion, task: str | None, given: Json, *, seed: int | None, cache: str | None, place: str
) -> Json:
    if not given and seed is None and cache is None:
        return {}
    of, tasks = f"version {version.number:,}", checked_beforehand(version.definition).tasks
    named = dict(zip([each["id"] for each in version.definition], tasks, strict=True))
    if task is not None and task not in named:
        raise InvalidParams([(f"{place}.task", unknown_task(task, named))])
    models = [task_id for task_id, each in named.items() if each.executor_id == LLM]
    changes: Json = {task_id: {"inputs": {"seed": seed}} for task_id in models} if seed is not None else {}
    if seed is not None and not models:
        raise InvalidParams([("seed", NO_MODEL.format(of=of))])
    if given:
        targets = [task] if task is not None else models
        if not targets:
            raise InvalidParams([(place, NO_MODEL.format(of=of))])
        if problems := [each for target in targets for each in _unknown_inputs(target, named[target], given, place)]:
            raise InvalidParams(problems)
        for target in targets:
            changes[target] = {"inputs": changes.get(target, {}).get("inputs", {}) | given}
    if cache is not None:
        may = [task_id for task_id, each in named.items() if _may_be_cached(each, cache)]
        if not may:
            raise InvalidParams([("cache", UNCACHEABLE.format(of=of))])
        changes |= {task_id: changes.get(task_id, {}) | {"params": {"cache": cache}} for task_id in may}
    try:
        checked_beforehand(with_changes(version.definition, changes))
    except InvalidParams as error:
        raise InvalidParams([(place, f"cannot be used: {where}: {why}") for where, why in error.problems]) from None
    return changes


def _unknown_inputs(task_id: str, task: TaskSpec, given: Json, place: str) -> Iterator[Problem]:
    if task.executor_id is None:
        yield f"{place}.task", f"'{task_id}' is a group, which has no inputs to change"
        return
    known: Collection[str] = {*get_executor(task.executor_id).input_schema.get("properties", ()), *(task.inputs or ())}
    sealed = sealed_inputs(given, executor_id=task.executor_id, schemas=task.schemas, owner="")
    for name in given:
        where = f"{place}.{name}" if name in SHORT else f"{place}.inputs.{name[:100]}"
        if name not in known:
            yield where, unknown_input(name, known, of=f"task '{task_id}'")
        elif sealed[name] != given[name]:
            yield where, IS_SECRET


def _may_be_cached(task: TaskSpec, cache: str) -> bool:
    """Return whether the task may have `params.cache`, and has none of its own."""
    params = task.params or {}
    if task.executor_id is None or "cache" in params:
        return False
    executor = get_executor(task.executor_id)
    return not any(caching.problems(executor, params | {"cache": cache}, task.inputs or {}, has_secret=False))


def _problems_of_arguments(executor: WorkflowTask, rows: Sequence[Json], changes: Json) -> Iterator[Problem]:
    for number, row in enumerate(rows):
        arguments = row["inputs"] | changes
        if problem := mismatch(executor.input_schema, arguments):
            yield f"rows[{number}].inputs", f"do not fit the arguments of the workflow: {problem}"
            continue
        try:
            executor.check_with_inputs({}, arguments)
        except ExecutorError as error:
            yield f"rows[{number}]", str(error)


def _name_of(first: str, task: str | None, given: Json) -> str:
    """Return what a variant is called that has no name: what is special about it."""
    parts = [first, f"task {task}" if task else "", *(f"{name} {value}" for name, value in given.items())]
    name = ", ".join(part for part in parts if part)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _refuse_equal_names(variants: Sequence[Variant], place: str) -> None:
    names = [each.name for each in variants]
    if again := [number for number, name in enumerate(names) if name in names[:number]]:
        raise InvalidParams(
            [(f"{place}[{n}].name", f"'{names[n]}' is the name of an earlier one: they have to differ") for n in again]
        )
