"""The places in the inputs of tasks that stand for secrets and for inputs of the run.

`{{secret.NAME}}`: where it is allowed, and whether the secret may be sent where the task sends it. Inputs of the run are used in
places such as `{{run.inputs.topic}}`, in conditions and in items of maps.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

import orjson

from aipartnerupflow.executors import Executor, ExecutorError, Json
from llmkeys.secret_forms import CREDENTIALS, NAME, PLAIN, may_be_sent_to
from tasks.executors import get_executor
from tasks.executors.http import host_of
from tasks.executors.plugins import plugins
from tasks.rules.exceptions import ExecutorNotFound
from tasks.rules.maps import source_of, templates_of
from tasks.rules.places import INPUTS_OF_RUN, RUN, SECRET, is_run_input, places_in, secret_in
from tasks.rules.rounds import given_below, given_to_itself
from tasks.rules.specs import TaskSpec, TreeSpec, labels_of, names_of

NAMED: Final = re.compile(r'\brun\.inputs(?:\.([A-Za-z0-9_-]+))?|"/inputs(?:/([^/"]*))?')
"""An input of the run in a place, an expression or a JSON Pointer, in JSON; without a name, all of them."""
RUN_AS_A_WHOLE: Final = re.compile(r"\brun\b(?!\.inputs\b)")
"""An expression that may use inputs of the run without naming them as `run.inputs`."""
UsesInputs = tuple[str | None, Json, Json | None]
"""A task: the id of its executor, its inputs and its params."""
IN_A_GROUP: Final = (
    "a task without an executor completes with its inputs as its result, so a secret cannot be one of them. Write the "
    "place in the task that uses the secret"
)
NOT_HERE: Final = (
    "a secret cannot be used in this input of {executor}, because it may reach a model, people or the result. {where}"
)
NO_NAME: Final = "is not the name of a secret: write {{secret.NAME}} with letters, digits and underscores, and four braces for two that stay"
UNBINDABLE: Final = (
    "The secret '{name}' may only be sent to {hosts} (allow_hosts), and {executor} cannot be held to a host. Use a "
    "secret that is not bound to hosts"
)
NOT_ENCRYPTED: Final = (
    "The secret '{name}' may only be sent to {hosts} (allow_hosts), over HTTPS. To allow plain HTTP, write http:// before "
    "the host in allow_hosts"
)
ANOTHER_INPUT: Final = (
    "The secret '{name}' may only be used in {inputs} (allow_in), and this task uses it in '{field}'. A server may show "
    "there what it gets: to allow it, store the secret with allow_in"
)
ANOTHER_HOST: Final = (
    "The secret '{name}' may only be sent to {hosts} (allow_hosts), and this task sends it to another host"
)


def value_labels(spec: TreeSpec) -> dict[str, set[str]]:
    """Map the id of each task of a template, or that repeats, to the names of the values that its places may use."""
    found = defaultdict[str, set[str]](set)
    by_id = {task.id: task for task in spec.tasks}
    for task in spec.tasks:
        if names := given_to_itself(task):
            found[task.id] |= names
    for map_id, template in templates_of(spec.tasks).items():
        for task in template:
            found[task.id] |= given_below(by_id[map_id].params)
    return found


def names_that_may_be_used(tasks: Iterable[UsesInputs]) -> set[str] | None:
    """Return the inputs of the run that the tasks of a tree may use.

    None if they may use any: all inputs as a whole, or those that tasks name which they add to the tree.
    """
    used: set[str] = set()
    for executor_id, inputs, params in tasks:
        found = NAMED.findall(orjson.dumps([inputs, params]).decode())
        names = {place or pointer.replace("~1", "/").replace("~0", "~") for place, pointer in found}
        runs_code = executor_id == "python_executor" or executor_id in plugins().executors
        generates = executor_id == "generate_executor" and bool(inputs.get("run"))
        may_add_tasks = runs_code or generates or "spawn" in (params or {})
        if "" in names or may_add_tasks or _has_open_expression(executor_id, inputs):
            return None
        used |= names
    return used


def _has_open_expression(executor_id: str | None, inputs: Json) -> bool:
    try:
        executor = None if executor_id is None else get_executor(executor_id)
    except ExecutorNotFound:  # the configuration has changed since the tree was stored
        return True
    expressions = [inputs[field] for field in executor.verbatim if field in inputs] if executor else []
    return RUN_AS_A_WHOLE.search(orjson.dumps(expressions).decode()) is not None


def inputs_used(spec: TreeSpec) -> Iterator[tuple[str, str]]:
    """Yield each use of an input of the run: where it is, and the name of the input.

    Not of all inputs together, `{{run.inputs}}`. A task that knows a result or a value as `run` uses none.
    """
    names, values = names_of(spec), value_labels(spec)
    for task in spec.tasks:
        labels = labels_of(task, names) | values.get(task.id, set())
        if RUN not in labels:
            yield from ((f"tasks[{task.position}].{place}", name) for place, name in _in_task(task))


def _in_task(task: TaskSpec) -> Iterator[tuple[str, str]]:
    executor = None if task.executor_id is None else get_executor(task.executor_id)
    verbatim: Collection[str] = executor.verbatim if executor else ()
    for field, value in task.inputs.items():
        if RUN not in task.inputs and field not in verbatim:
            for place, path in places_in(value, f"inputs.{field}"):
                if is_run_input(path) and path != INPUTS_OF_RUN:
                    yield place, path.removeprefix(f"{INPUTS_OF_RUN}.").partition(".")[0]
    params = task.params or {}
    left: list[Any] = [params.get("when")]
    while left:
        part = left.pop()
        if isinstance(part, list):
            left += part
        elif isinstance(part, dict):
            if part.get("task") == RUN:
                yield from _at(part.get("path", ""), "params.when")
            left += [part[name] for name in ("all", "any", "not") if name in part]
    if source_of(params) == RUN:
        yield from _at(params["for_each"]["items"].get("path", ""), "params.for_each.items")


def _at(pointer: str, place: str) -> Iterator[tuple[str, str]]:
    """Yield the input at a JSON Pointer such as `/inputs/topic/name`."""
    steps = pointer.split("/")[1:3]
    if len(steps) == 2 and steps[0] == "inputs":
        yield place, steps[1].replace("~1", "/").replace("~0", "~")


def not_there(name: str, *, what: str = "task") -> str:
    """Return why a secret cannot be used that its owner does not have: also if another user has one of this name."""
    return (
        f"There is no secret '{name}' that the owner of this {what} may use. Store it with secrets.set, or `aipartnerupflow "
        f"secrets set {name}`"
    )


class HasInputs(Protocol):
    """The attributes of a task that are read here."""

    @property
    def executor_id(self) -> str | None: ...
    @property
    def inputs(self) -> Json: ...


class Bound(Protocol):
    """A secret that may only be sent to `allow_hosts`, and used in `inputs_allowed`, if there are any."""

    @property
    def name(self) -> str: ...
    @property
    def allow_hosts(self) -> Sequence[str]: ...
    @property
    def inputs_allowed(self) -> Sequence[str]: ...


def secrets_in(task: HasInputs) -> Iterator[tuple[str, str]]:
    """Yield each place of a secret that is filled when the task runs: where it is, and the name.

    The task does not depend on a task with the id `secret`.
    """
    if task.executor_id is None:
        return
    try:
        executor = get_executor(task.executor_id)
    except ExecutorNotFound:  # the configuration has changed since the tree was stored
        return
    for field, value in task.inputs.items():
        if _problem_of(executor, field) is None:
            yield from _in_value(value, f"inputs.{field}")


def named_in(spec: TreeSpec) -> Iterator[tuple[TaskSpec, str, str]]:
    """Yield each place of a secret in a tree: the task, where the place is, and the name.

    A task that knows a result or a value as `secret` has none.
    """
    names, values = names_of(spec), value_labels(spec)
    for task in spec.tasks:
        if task.inputs and SECRET not in labels_of(task, names) | values.get(task.id, set()):
            yield from ((task, place, name) for place, name in secrets_in(task))


def problems(task: HasInputs) -> Iterator[tuple[str, str]]:
    """Yield the places of secrets that can never be filled: where each is, and why.

    The task does not depend on a task with the id `secret`.
    """
    executor = None if task.executor_id is None else get_executor(task.executor_id)
    for field, value in task.inputs.items():
        if executor is not None and (
            field in executor.verbatim or (field in executor.templates and SECRET in task.inputs)
        ):
            continue
        problem = IN_A_GROUP if executor is None else _problem_of(executor, field)
        for place, name in _in_value(value, f"inputs.{field}"):
            if problem is not None:
                yield place, problem
            elif not NAME.fullmatch(name):
                yield place, f"'{name[:100]}' {NO_NAME}"


def misuse(secret: Bound, task: HasInputs, filled: Json | None = None) -> str | None:
    """Describe why the task may not use the secret: in that input, or for that host. None if it may.

    `filled` are the inputs with their places filled. Without them, a receiver with places is not judged yet.
    """
    executor = get_executor(str(task.executor_id))
    receiver = executor.receiver(task.inputs if filled is None else filled) if secret.allow_hosts else ""
    shown = {"name": secret.name, "hosts": ", ".join(secret.allow_hosts), "executor": executor.id}
    if receiver is None:
        return UNBINDABLE.format(**shown)
    if (field := _wrong_input(secret, task, executor)) is not None:
        inputs = ", ".join(secret.inputs_allowed)
        return ANOTHER_INPUT.format(name=secret.name, inputs=inputs, field=field)
    if not secret.allow_hosts:
        return None
    if filled is None and next(places_in(receiver, ""), None) is not None:
        return None
    try:
        host = host_of(receiver)
    except ExecutorError:
        return ANOTHER_HOST.format(**shown)
    if not may_be_sent_to(host, secret.allow_hosts):
        return ANOTHER_HOST.format(**shown)
    is_encrypted = not receiver.lower().startswith(PLAIN)
    return (
        None if may_be_sent_to(host, secret.allow_hosts, is_encrypted=is_encrypted) else NOT_ENCRYPTED.format(**shown)
    )


def _wrong_input(secret: Bound, task: HasInputs, executor: Executor) -> str | None:
    """Return the input in which the task may not use the secret.

    With `auth` and `headers`, other inputs for credentials are allowed: those that a schema marks as writeOnly.
    """
    allowed = set(secret.inputs_allowed)
    if allowed.issuperset(CREDENTIALS):
        rules: Json = executor.input_schema.get("properties", {})
        allowed |= {name for name, rule in rules.items() if isinstance(rule, dict) and rule.get("writeOnly") is True}
    names = ((field, name) for field, value in task.inputs.items() for _, name in _in_value(value, ""))
    return next((field for field, name in names if allowed and name == secret.name and field not in allowed), None)


def _in_value(value: Any, place: str) -> Iterator[tuple[str, str]]:
    for where, path in places_in(value, place):
        if (name := secret_in(path)) is not None:
            yield where, name


def _problem_of(executor: Executor, field: str) -> str | None:
    """Return the reason why this input takes no secret; None if it does."""
    allowed = executor.secret_inputs
    if allowed is None and executor.templates:  # a template may name any other input
        allowed = frozenset()
    if field in executor.verbatim:
        return "nothing is filled in here"
    if field not in executor.templates and (allowed is None or field in allowed):
        return None
    where = f"It may be used in: {', '.join(sorted(allowed))}." if allowed else ""
    return NOT_HERE.format(executor=executor.id, where=where).rstrip(" .")
