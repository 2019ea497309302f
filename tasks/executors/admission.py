"""Check a request against the rules of this installation: its executors and its limits."""

import re
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from itertools import islice
from types import MappingProxyType
from typing import Final

from django.conf import settings

from aipartnerupflow.executors import Executor, ExecutorError
from llmkeys.sealed_texts import has_sealed
from tasks.executors import caching, disabled_executors, executor_ids, get_executor, input_places, placement
from tasks.executors.input_places import value_labels
from tasks.executors.workflows import STEP
from tasks.rules.conditions import tasks_in
from tasks.rules.exceptions import InvalidDependency, InvalidParams, InvalidTree
from tasks.rules.field_rules import PARAMS, unknown_field
from tasks.rules.files import given_whole
from tasks.rules.maps import source_of as source_of_map
from tasks.rules.maps import templates_of
from tasks.rules.places import RUN, SECRET, is_run_input, places_in, source_of, texts_in
from tasks.rules.schema import mismatch
from tasks.rules.specs import (
    LISTED,
    TaskSpec,
    TreeLimits,
    TreeSpec,
    explicit_executor,
    labels_of,
    name_of,
    names_of,
    parse_tree,
)
from tasks.rules.templates import DOUBLE

OF_AN_INPUT: Final = re.compile(r"(?P<field>inputs\.[\w.\[\]]+):? (?P<reason>(?!and ).+)", re.DOTALL)
RULES_OF_ONE_INPUT: Final = ("type", "properties", "patternProperties", "additionalProperties", "$defs", "definitions")
SIMILAR: Final = 0.75
"""The similarity of the name in a place to that of a task from which on the place probably means it, from 0 to 1."""
CHECK_SECONDS: Final = 2.0
"""The processor time of the executors' checks of one request. Afterwards a fault is found when its task runs."""
OF_PREDECESSOR: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "aggregate_results_executor": frozenset({"name"}),
        "batch_crewai_executor": frozenset({"name", "storage"}),
        "crewai_executor": frozenset({"name", "is_sub_crew", "llm"}),
        "llm_executor": frozenset({"name", "api_key", "stream", "temperature", "max_tokens"}),
        "rest_executor": frozenset({"name", "headers", "auth", "verify", "follow_redirects"}),
        "scrape_executor": frozenset({"name", "headers"}),
    }
)
"""The params that executors of the predecessor read and ours do not: its clients may send them."""
NO_DEPENDENCY: Final = (
    "'{{{{{path}}}}}' stands for a result of task '{source}', which is no dependency of this task. "
    "Add '{source}' to its dependencies, or write four braces for two that stay."
)
OF_WORKFLOWS: Final = (
    f"names {STEP}, which runs the steps that the code of a workflow calls: only that code adds them. Name the workflow, such as "
    "workflow:research, or call a function that is marked with @python_function by python_executor"
)


def checked(
    tasks: object, *, limits: TreeLimits | None = None, is_copy: bool = False, steps: Collection[str] = ()
) -> TreeSpec:
    """Validate the tasks of a request against this installation.

    In a copy, places may name a task that stays behind without a result. `steps` are the ids of those tasks that the code of workflows
    has called.

    Raises InvalidParams, InvalidTree, InvalidParent, InvalidDependency, CircularDependency or
    ExecutorNotFound.
    """
    most = settings.APFLOW.limits
    for position, raw in enumerate(tasks if isinstance(tasks, list) else [tasks]):
        if not isinstance(raw, dict) or raw.get("id") in steps:
            continue
        if (explicit_executor(raw) or raw.get("name")) == STEP:
            raise InvalidParams([(f"tasks[{position}]", OF_WORKFLOWS)])
    spec = parse_tree(
        tasks,
        executors=executor_ids() | {STEP} if steps else executor_ids(),
        disabled=disabled_executors(),
        limits=limits or TreeLimits(tasks=most.tasks_per_tree, depth=most.tree_depth),
    )
    if problems := list(islice(_problems(spec, is_copy=is_copy), LISTED)):
        raise InvalidParams(problems)
    names = names_of(spec)
    _check_templates(spec, names)
    values = value_labels(spec)
    for task in spec.tasks:
        if (when := (task.params or {}).get("when")) is None:
            continue
        known = {RUN, *labels_of(task, names), *values.get(task.id, ())}
        if unknown := [source for source in tasks_in(when) if source not in known]:
            raise InvalidDependency(
                f"Task '{name_of(task)}': params.when asks about '{unknown[0]}', which is no dependency of the task. "
                "Add it to the dependencies."
            )
    doubtful = dict.fromkeys(warning for task in spec.tasks if task.params for warning in _doubtful_params(task))
    return replace(spec, warnings=(*spec.warnings, *islice(doubtful, LISTED))) if doubtful else spec


def _problems(spec: TreeSpec, *, is_copy: bool) -> Iterator[tuple[str, str]]:
    """Yield what no pool offers, what executors refuse, and places that name a task on which theirs does not depend."""
    names = names_of(spec)
    sources = Counter(names.values())
    values = value_labels(spec)
    started = time.thread_time()
    for task in spec.tasks:
        if task.params:
            yield from _misplaced(task)
            if task.params.get("checks") is not None:
                from tasks.executors import checking  # noqa: PLC0415  (few tasks have some)

                yield from ((f"tasks[{task.position}].{place}", why) for place, why in checking.problems(task))
        is_part = task.id in values
        if task.executor_id is not None and (problem := _misfit(task, get_executor(task.executor_id), is_part=is_part)):
            yield f"tasks[{task.position}].inputs", f"do not fit the schema of {task.executor_id}: {problem}"
        if task.inputs:
            labels = labels_of(task, names) | values.get(task.id, set())
            yield from _without_dependency(task, sources, labels, is_copy=is_copy)
        if (task.params or {}).get("cache") is not None:
            executor = None if task.executor_id is None else get_executor(task.executor_id)
            has_secret = any(input_places.secrets_in(task))
            faults = caching.problems(executor, task.params or {}, task.inputs, has_secret=has_secret)
            yield from ((f"tasks[{task.position}].params.{field}", why) for field, why in faults)
        try:
            is_whole = len(given_whole(task.inputs)) == len(task.inputs)
            if task.executor_id is not None and is_whole and time.thread_time() - started < CHECK_SECONDS:
                get_executor(task.executor_id).check_with_inputs(task.params or {}, task.inputs)
        except ExecutorError as error:
            field, reason = "params", str(error)
            if (found := OF_AN_INPUT.match(reason)) is not None:  # such as `inputs.tools: there is no …`
                field, reason = found["field"], found["reason"]
            yield f"tasks[{task.position}].{field}", reason


def _misfit(task: TaskSpec, executor: Executor, *, is_part: bool) -> str | None:
    """Describe why the inputs can never match the executor's schema; None if they match, or may with results.

    A result may be any input, so with dependencies only what is given counts, one input at a time; so it
    is in a part of a template, whose inputs its values complete, and with the inputs of a run. An input that
    is encrypted was checked before, and one that is stored as a file is checked when its task runs.
    """
    takes_inputs_of_run = any(is_run_input(path) for _, path in places_in(task.inputs, ""))
    whole = given_whole(task.inputs)
    is_whole = len(whole) == len(task.inputs) and not has_sealed(task.inputs)
    if not task.dependencies and not is_part and not takes_inputs_of_run and is_whole:
        return mismatch(executor.input_schema, task.inputs)
    is_open = {name: next(places_in(value, name), None) is None for name, value in whole.items()}
    given = {name: value for name, value in whole.items() if is_open[name] and not has_sealed(value)}
    rules = {name: rule for name, rule in executor.input_schema.items() if name in RULES_OF_ONE_INPUT}
    return mismatch(rules, given)


def _without_dependency(
    task: TaskSpec, sources: Mapping[str, int], labels: Collection[str], *, is_copy: bool
) -> Iterator[tuple[str, str]]:
    verbatim = get_executor(task.executor_id).verbatim if task.executor_id is not None else ()
    texts = [
        text
        for name, value in task.inputs.items()
        if name not in verbatim
        for text in texts_in(value, f"tasks[{task.position}].inputs.{name}")
    ]
    if not texts:
        return
    whole = {place for place, text in texts if DOUBLE.fullmatch(text)}
    found = [each for place, text in texts for each in places_in(text, place)]
    known = {*labels, *task.inputs}
    if SECRET not in labels:
        yield from ((f"tasks[{task.position}].{place}", problem) for place, problem in input_places.problems(task))
    for place, path in found:
        source = source_of(path)
        if is_run_input(path) and RUN not in known:
            continue
        if source in sources and source not in known and source != name_of(task):
            yield place, NO_DEPENDENCY.format(path=path, source=source)
        elif sources.get(source, 0) > 1:
            yield (
                place,
                f"'{source}' is the name of {sources[source]} tasks. Give them ids, and write the id of one of them.",
            )
        elif is_copy or ".inputs." in place.partition(".inputs.")[2]:  # in the data of other tasks
            continue
        elif problem := _names_nothing(path, task, is_whole=place in whole, known=known, tasks=sources):
            yield place, problem


def _names_nothing(
    path: str, task: TaskSpec, *, is_whole: bool, known: Collection[str], tasks: Collection[str]
) -> str | None:
    """Describe the problem of a place that names no task and no value; None if it may be meant as a text.

    It is no text if a path is all that there is, or if the name is nearly that of a task or value.
    """
    source = source_of(path)
    schemas = [(task.schemas or {}).get("input_schema") or {}]
    if task.executor_id is not None:
        schemas.append(get_executor(task.executor_id).input_schema)
    from_dependencies = {name for schema in schemas for name in schema.get("properties", {})}
    names = {*known, *from_dependencies, *tasks}
    if source in names or source in (RUN, SECRET):
        return None
    close = get_close_matches(source[:255], names, n=1, cutoff=SIMILAR)
    if not close and not (is_whole and "." in path):
        return None
    hint = f"Did you mean '{close[0]}'? Else write" if close else "Write the id of a dependency, or"
    return f"'{{{{{path}}}}}' names no task: there is no '{source}'. {hint} four braces for two that stay."


def _misplaced(task: TaskSpec) -> Iterator[tuple[str, str]]:
    params = task.params or {}
    place = f"tasks[{task.position}].params"
    own = frozenset() if task.executor_id is None else get_executor(task.executor_id).param_names
    if own is not None:
        known = {*PARAMS, *own, *OF_PREDECESSOR.get(task.executor_id or "", ())}
        unknown = [name for name in params if name not in known]
        yield from ((f"{place}.{name[:255]}", unknown_field(name[:255], [*PARAMS, *sorted(own)])) for name in unknown)
    if task.executor_id is None:
        given = [field for field in ("pool", "resources") if params.get(field) is not None]
        yield from ((f"{place}.{field}", "is for tasks with an executor; this one runs no code") for field in given)
        return
    for field, problem in placement.problems(params):
        yield f"{place}.{field}", problem


def _doubtful_params(task: TaskSpec) -> Iterator[str]:
    """Yield a warning for each of the params that probably has no effect."""
    executor_id = task.executor_id or ""
    before = OF_PREDECESSOR.get(executor_id, frozenset())
    is_open = task.executor_id is not None and get_executor(task.executor_id).param_names is None
    for name in task.params or {}:
        if name in before:
            yield f"Task '{name_of(task)}': params.{name} is ignored. {executor_id} does not read it."
        elif is_open and name not in PARAMS and (close := get_close_matches(name[:255], PARAMS, n=1)):
            yield f"Task '{name_of(task)}': params.{name[:255]} is passed to {executor_id}. Did you mean '{close[0]}'?"


def _check_templates(spec: TreeSpec, names: Mapping[str, str]) -> None:
    """`names` are those of the tasks by id. Raises InvalidTree or InvalidDependency."""
    templates = templates_of(spec.tasks)
    around = defaultdict[str, list[str]](list)
    for map_id, template in templates.items():
        for task in template:
            around[task.id].append(map_id)
    values = value_labels(spec)
    for task in spec.tasks:
        if problem := _fault_of(task, templates.get(task.id, [])):
            raise InvalidTree(f"Task '{names[task.id]}': {problem}.")
        labels = values.get(task.id, set())
        known = labels_of(task, names)
        for label in labels & known:
            raise InvalidDependency(
                f"Task '{name_of(task)}': '{label}' is the name of a dependency, and of a value of its map or loop. "
                'Give one of them another name with "as".'
            )
        source = source_of_map(task.params)
        if source is not None and source not in {RUN, *known, *labels}:
            raise InvalidDependency(
                f"Task '{name_of(task)}': params.for_each takes its items from '{source}', which is no dependency of the "
                "task. Add it to the dependencies."
            )
        own = around.get(task.id, ())
        for need in task.dependencies:  # from outside of a template, none may be on a part of it
            if foreign := [map_id for map_id in around.get(need.id, ()) if map_id not in own]:
                raise InvalidDependency(
                    f"Task '{name_of(task)}' depends on '{names[need.id]}', which only runs as copies for "
                    f"'{names[foreign[0]]}'. Depend on '{names[foreign[0]]}': its result has theirs."
                )


def _fault_of(task: TaskSpec, template: list[TaskSpec]) -> str | None:
    params = task.params or {}
    if "for_each" not in params and "repeat" not in params:
        return None
    if "for_each" in params and "repeat" in params:
        return "params.for_each and params.repeat cannot be on the same task; put one into the template of the other"
    if task.executor_id is None:
        needs = f"params.{'for_each' if 'for_each' in params else 'repeat'} needs a template: give the task children"
        return None if template else needs
    if "for_each" in params:
        return f"params.for_each is for a task without an executor, whose children are the template; this one has {task.executor_id}"
    return "params.repeat and params.spawn cannot be on the same task" if "spawn" in params else None
