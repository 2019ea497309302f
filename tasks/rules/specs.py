"""Validate the incoming array of tasks and freeze it as a tree."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import islice, pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

from tasks import ids
from tasks.rules.exceptions import (
    CircularDependency,
    ExecutorNotFound,
    InvalidDependency,
    InvalidParams,
    InvalidParent,
    InvalidTree,
)
from tasks.rules.field_rules import check_task, without_empty
from tasks.rules.schema import pattern_size
from tasks.rules.strict_json import Json
from tasks.rules.templates import LABEL
from tasks.rules.tree import descendants, find_cycle

NORMAL_PRIORITY = 2
NONE_DISABLED: Mapping[str, str] = MappingProxyType({})
# Upper bounds, so that a hostile request cannot make the search for close matches or the list of
# problems endless.
SUGGESTED = 20
MAX_PATTERNS_SIZE = 200_000  # of all schemas in a request
LISTED = 200
COUNTED_AT_A_GLANCE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """A task to wait for. If `required`, it must complete; otherwise it only has to finish.

    `runs_after_skip`: it may also be skipped. `label` is the name of its result in the task (`as`).
    """

    id: str
    required: bool = True
    runs_after_skip: bool = False
    label: str | None = None

    def stored(self, ids: Mapping[str, str]) -> Json:
        """Return its stored form. `ids` maps the ids of the request to those that are stored."""
        on_skip = {"on_skip": "run"} if self.runs_after_skip else {}
        label = {"as": self.label} if self.label else {}
        return {"id": ids[self.id], "required": self.required} | on_skip | label


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """A valid task of a request. All ids are ids of the request; `executor_id` is None for a group.

    `has_new_id`: the request gave it none, so no stored task has the same.
    """

    id: str
    parent_id: str | None
    position: int
    user_id: str | None
    name: str
    priority: int
    dependencies: tuple[Dependency, ...]
    inputs: Json
    schemas: Json | None
    params: Json | None
    executor_id: str | None
    has_children: bool
    has_new_id: bool = False
    spawned_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSpec:
    """A valid tree, its tasks in the order of the request."""

    tasks: tuple[TaskSpec, ...]
    root_id: str
    warnings: tuple[str, ...]


def name_of(task: TaskSpec) -> str:
    """Return what stands for the task in places (`tasks.rules.places`): its id or, if the request gave it none, its name."""
    return task.name if task.has_new_id else task.id


def names_of(spec: TreeSpec) -> dict[str, str]:
    """Map the id of each task to what stands for it in places."""
    return {task.id: name_of(task) for task in spec.tasks}


def labels_of(task: TaskSpec, names: Mapping[str, str]) -> set[str]:
    """Return the names by which the task knows the results of its dependencies. `names` are those of all tasks by id."""
    return {item.label or names[item.id] for item in task.dependencies}


def labelled(task: TaskSpec, names: Mapping[str, str], ids: Mapping[str, str]) -> tuple[Dependency, ...]:
    """Return the dependencies of the task, known by the names that the request uses, whichever `ids` are stored.

    A name that `as` does not allow, or that two of them have, stays away: then it is the stored id.
    """
    used = Counter(names[item.id] for item in task.dependencies)
    return tuple(
        replace(item, label=name)
        if item.label is None and ids[item.id] != (name := names[item.id]) and used[name] == 1 and LABEL.fullmatch(name)
        else item
        for item in task.dependencies
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeLimits:
    """The maximum number of tasks and levels in a tree."""

    tasks: int = 10_000
    depth: int = 100


DEFAULT_LIMITS = TreeLimits()


class _Draft(NamedTuple):
    """A task with valid fields whose references are not resolved yet. Messages call it `label`."""

    id: str
    label: str
    raw: Json

    @property
    def has_template(self) -> bool:
        """Whether all below it is a template, if it has no executor (`tasks.rules.maps`, `tasks.rules.rounds`)."""
        params = self.raw.get("params") or {}
        return "for_each" in params or "repeat" in params


class _Drafts:
    """The tasks of a request, indexed by id and by name."""

    def __init__(self, raws: Sequence[Json], new_id: Callable[[], str]) -> None:
        self.all = [_Draft(raw.get("id") or new_id(), raw.get("id") or raw["name"], raw) for raw in raws]
        self.by_id: dict[str, _Draft] = {}
        for index, draft in enumerate(self.all):
            if self.by_id.setdefault(draft.id, draft) is not draft:
                raise InvalidTree(f"Task id '{draft.id}' is used twice, the second time by tasks[{index}].")
        self._by_name: defaultdict[str, list[_Draft]] = defaultdict(list)
        for draft in self.all:
            self._by_name[draft.raw["name"]].append(draft)

    def named(self, name: str) -> list[_Draft]:
        return self._by_name.get(name, [])

    def labels(self, task_ids: Iterable[str]) -> list[str]:
        return [self.by_id[task_id].label for task_id in task_ids]


def parse_tree(
    tasks: object,
    *,
    executors: Collection[str],
    disabled: Mapping[str, str] = NONE_DISABLED,
    limits: TreeLimits = DEFAULT_LIMITS,
    new_id: Callable[[], str] = ids.new_id,
) -> TreeSpec:
    """Validate a list of tasks, or a single task, as decoded from JSON.

    `disabled` maps the id of each executor that is not enabled to the command that enables it.

    Raises InvalidParams with every problem in the shape of the tasks; then InvalidTree,
    InvalidParent, InvalidDependency, ExecutorNotFound or CircularDependency for the first problem
    between tasks.
    """
    drafts = _Drafts(_read(tasks, limits), new_id)
    parents = {draft.id: _parent(draft, drafts) for draft in drafts.all}
    children: dict[str, list[str]] = {}
    for task_id, parent_id in parents.items():
        if parent_id is not None:
            children.setdefault(parent_id, []).append(task_id)
    root_id = _root(parents, children, drafts)
    level, depth = [root_id], 1
    while level:
        if depth > limits.depth:
            raise InvalidTree(
                f"Task '{drafts.by_id[level[0]].label}' is on level {depth}: a tree has at most {limits.depth} levels."
            )
        level = [child for task_id in level for child in children.get(task_id, ())]
        depth += 1
    misplaced = [
        (f"tasks[{position}].params.budget", "is only for the root of a tree: it limits the whole run")
        for position, draft in enumerate(drafts.all)
        if draft.id != root_id and (draft.raw.get("params") or {}).get("budget") is not None
    ]
    if misplaced:
        raise InvalidParams(misplaced[:LISTED])
    dependencies = {draft.id: _dependencies(draft, drafts) for draft in drafts.all}
    executor_ids = {draft.id: _named_executor(draft, executors, disabled) for draft in drafts.all}
    groups = [draft for draft in drafts.all if executor_ids[draft.id] is None]
    _check_cycles(dependencies, children, executor_ids, drafts)
    owner = _owner(drafts)
    specs = tuple(
        TaskSpec(
            id=draft.id,
            parent_id=parents[draft.id],
            position=position,
            user_id=owner,
            name=draft.raw["name"],
            priority=int(draft.raw.get("priority", NORMAL_PRIORITY)),
            dependencies=dependencies[draft.id],
            inputs=draft.raw.get("inputs", {}),
            schemas=draft.raw.get("schemas"),
            params=draft.raw.get("params"),
            executor_id=executor_ids[draft.id],
            has_children=draft.id in children,
            has_new_id=not draft.raw.get("id"),
        )
        for position, draft in enumerate(drafts.all)
    )
    return TreeSpec(tasks=specs, root_id=root_id, warnings=_warnings(groups, children, executors, disabled))


# --- the steps of parse_tree, in order ---


def _read(tasks: object, limits: TreeLimits) -> list[Json]:
    raws = [tasks] if isinstance(tasks, dict) else tasks
    if not isinstance(raws, list):
        raise InvalidParams([("tasks", "must be a list of tasks, or one task")])
    if not raws:
        raise InvalidTree("The list of tasks is empty: a tree has at least one task.")
    if len(raws) > limits.tasks:
        raise InvalidTree(f"{len(raws):,} tasks are too many: a tree has at most {limits.tasks:,}.")
    given: list[Any] = [without_empty(raw) for raw in raws]
    # Patterns that take long to compile together are refused before the first of them is compiled.
    places = [raw["schemas"] for raw in given if isinstance(raw, dict) and isinstance(raw.get("schemas"), dict)]
    size = pattern_size(schema for place in places if isinstance(schema := place.get("input_schema"), dict))
    if size > MAX_PATTERNS_SIZE:
        raise InvalidTree(
            f"The schemas of these tasks have patterns of {size:,} characters with their repetitions written out; "
            f"at most {MAX_PATTERNS_SIZE:,} are allowed. Limit lengths with maxLength."
        )
    faults = (
        (field, f"{reason}{_of_task(raw, index)}")
        for index, raw in enumerate(given)
        for field, reason in check_task(raw, f"tasks[{index}]")
    )
    problems = list(islice(faults, LISTED + 1))
    if len(problems) > LISTED:
        problems[LISTED:] = [("tasks", f"has more problems than these {LISTED}")]
    if problems:
        raise InvalidParams(problems)
    return given


def _of_task(raw: object, index: int) -> str:
    """Return the id and the name of a task that is hard to find by its place in the list."""
    if index < COUNTED_AT_A_GLANCE or not isinstance(raw, dict):
        return ""
    named = [f"{field} '{str(raw[field])[:100]}'" for field in ("id", "name") if raw.get(field)]
    return f" (the task with {' and '.join(named)})" if named else ""


def _parent(draft: _Draft, drafts: _Drafts) -> str | None:
    reference = draft.raw.get("parent_id")
    if reference is None or reference in drafts.by_id:
        return reference
    found = drafts.named(reference)
    if len(found) == 1:
        return found[0].id
    raise InvalidParent(f"Task '{draft.label}': parent '{reference}' {_missing(found, 'parent_id')}")


def _missing(found: list[_Draft], place: str) -> str:
    if found:
        return f"is the name of {len(found)} tasks. Give them ids and name one of these as {place}."
    return "is neither the id nor the name of a task in this request."


def _root(parents: Mapping[str, str | None], children: Mapping[str, list[str]], drafts: _Drafts) -> str:
    roots = [task_id for task_id, parent_id in parents.items() if parent_id is None]
    if len(roots) > 1:
        first, second = drafts.labels(roots[:2])
        more = f", nor have {len(roots) - 2:,} more" if len(roots) > 2 else ""
        raise InvalidTree(
            f"A tree has exactly one root, but tasks '{first}' and '{second}' have no parent{more}. "
            "Give all but one a parent_id."
        )
    # Every parent is in the request and there is at most one root, so only a cycle of parents can
    # be unreachable from the root.
    cycle = find_cycle({child: [parent] for child, parent in parents.items() if parent is not None})
    if cycle:
        raise CircularDependency(
            drafts.labels(cycle), remedy="Each of these names the next as its parent. Correct one parent_id."
        )
    return roots[0]


def _dependencies(draft: _Draft, drafts: _Drafts) -> tuple[Dependency, ...]:
    raws = draft.raw.get("dependencies")
    if not raws:
        return ()
    found = tuple(_dependency(raw, draft, drafts) for raw in raws)
    seen: set[str] = set()
    for dependency in found:
        if dependency.id in seen:
            label = drafts.by_id[dependency.id].label
            raise InvalidDependency(f"Task '{draft.label}' names its dependency '{label}' twice. Name it once.")
        if dependency.label is not None and dependency.label in seen:
            raise InvalidDependency(f"Task '{draft.label}' uses the name '{dependency.label}' for two results.")
        seen.update(filter(None, (dependency.id, dependency.label)))
    return found


def _dependency(raw: str | Json, draft: _Draft, drafts: _Drafts) -> Dependency:
    """Resolve a dependency. A string is tried as an id, then as a name; an object states which it is."""
    task_id, name = (raw, raw) if isinstance(raw, str) else (raw.get("id"), raw.get("name"))
    if task_id not in drafts.by_id:
        found = drafts.named(task_id or str(name))
        if name is None and found:
            problem = f'is the name of a task, not an id. Write {{"name": "{task_id}"}}.'
            raise InvalidDependency(f"Task '{draft.label}': dependency '{task_id}' {problem}")
        if len(found) != 1:
            problem = _missing(found, "dependency")
            raise InvalidDependency(f"Task '{draft.label}': dependency '{task_id or name}' {problem}")
        task_id = found[0].id
    if task_id == draft.id:
        raise InvalidDependency(f"Task '{draft.label}' depends on itself. Remove that dependency.")
    if isinstance(raw, str):
        return Dependency(id=task_id)
    return Dependency(
        id=str(task_id),
        required=raw.get("required", True),
        runs_after_skip=raw.get("on_skip") == "run",
        label=raw.get("as"),
    )


def _warnings(
    groups: list[_Draft], children: Mapping[str, list[str]], executors: Collection[str], disabled: Mapping[str, str]
) -> tuple[str, ...]:
    """Warn about groups without children and about names that look like a misspelt executor."""
    warnings: dict[str, None] = {}  # ordered, and a name shared by many tasks appears once
    for draft in groups[:SUGGESTED]:
        name = draft.raw["name"]
        close = _close(name, executors, disabled)
        if close or draft.id not in children:
            warning = f"Task '{name}' names no executor, so it runs no code and completes with its inputs."
            if close is not None and close in disabled:
                warning += f" Executor '{close}' is not enabled. Enable it with: {disabled[close]}"
            elif close:
                warning += f" Did you mean '{close}'?"
            warnings[warning] = None
    more = sum(draft.id not in children for draft in groups[SUGGESTED:])
    if more:
        warnings[f"{more:,} more tasks name no executor, so they run no code and complete with their inputs."] = None
    return tuple(warnings)


def explicit_executor(task: Json) -> Any:
    """Return the executor that a task of a request names in `params` or `schemas`, not yet checked; None without one."""
    params, schemas = (part if isinstance(part := task.get(name), dict) else {} for name in ("params", "schemas"))
    return params.get("executor_id") or schemas.get("method")


def _named_executor(draft: _Draft, executors: Collection[str], disabled: Mapping[str, str]) -> str | None:
    """Return the id of the executor, or None for a group.

    Raises ExecutorNotFound; also if the task's name is the id of an executor that is not enabled.
    """
    raw = draft.raw
    explicit = explicit_executor(raw)
    named = explicit or raw["name"]
    if named in executors:
        return str(named)
    if named in disabled:
        raise ExecutorNotFound(named, task=draft.label, enable_with=disabled[named])
    if not explicit:
        return None
    best = _close(named, executors, disabled)
    others = [other for other in get_close_matches(named, [*executors, *disabled], n=3) if other != best]
    matches = [best, *others[:2]] if best else others[:2]
    raise ExecutorNotFound(named, task=draft.label, close_matches=matches)


def _close(name: str, executors: Collection[str], disabled: Mapping[str, str]) -> str | None:
    """Return the executor that a task's name probably means: `rest`, `Rest Executor`,
    `rest_exectuor`.
    """
    plain = "_".join(name.casefold().split())
    known = [*executors, *disabled]
    for candidate in (plain, f"{plain}_executor"):
        if candidate in known:
            return candidate
    return next(iter(get_close_matches(plain, known, n=1, cutoff=0.8)), None)


def _check_cycles(
    dependencies: Mapping[str, tuple[Dependency, ...]],
    children: Mapping[str, list[str]],
    executor_ids: Mapping[str, str | None],
    drafts: _Drafts,
) -> None:
    """Raise CircularDependency, with the path, if there is a cycle; a group waits for its children, a map for all below it."""
    edges = {task_id: [need.id for need in needs] for task_id, needs in dependencies.items() if needs}
    if not edges:
        return
    for parent_id, below in children.items():
        if executor_ids[parent_id] is None:
            is_part = drafts.by_id[parent_id].has_template
            edges[parent_id] = edges.get(parent_id, []) + (descendants(parent_id, children) if is_part else below)
    cycle = find_cycle(edges)
    if not cycle:
        return
    remedy = "Remove one of these dependencies."
    for waiting, awaited in pairwise(cycle):
        if all(need.id != awaited for need in dependencies[waiting]):  # a group waits for its child without one
            group, child = drafts.labels([waiting, awaited])
            remedy = (
                f"'{group}' is a group, which waits for its child '{child}'. Remove a dependency, or move the child."
            )
            break
    raise CircularDependency(drafts.labels(cycle), remedy=remedy)


def _owner(drafts: _Drafts) -> str | None:
    owners = {draft.raw["user_id"]: draft for draft in drafts.all if "user_id" in draft.raw}
    if len(owners) > 1:
        (first, first_draft), (second, second_draft) = list(owners.items())[:2]
        raise InvalidTree(
            f"A tree has one owner, but task '{first_draft.label}' belongs to '{first}' "
            f"and task '{second_draft.label}' to '{second}'."
        )
    return next(iter(owners), None)
