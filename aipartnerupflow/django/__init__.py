"""Start runs in the database transaction of another Django project.

Name `aipartnerupflow.django` in INSTALLED_APPS of a project whose default database has the tables of the server. The functions
here write the rows of a tree and its run with the project's own connection: within `transaction.atomic` they are committed
or rolled back together with the rows of the project. Workers are notified after the commit.

The tables belong to the server: it migrates them, and the project neither has models of them nor migrates them.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Protocol, TypeVar

import orjson
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.db.migrations.recorder import MigrationRecorder

from aipartnerupflow.executors import Json

if TYPE_CHECKING:
    from accounts.callers import Caller
    from tasks.services.trees import Execution

__all__ = ["Refused", "Started", "Workflow", "start", "start_flow", "start_tree", "starting"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
SCHEMA_SETTING: Final = "AIPARTNERUPFLOW_SCHEMA"
"""The Django setting with the PostgreSQL schema that has the tables of the server; by default they are in the project's own."""
MIGRATED: Final = ("accounts", "llmkeys", "tasks")
"""The packages whose tables are read and written here."""
MOST_KEY_CHARACTERS: Final = 255


class Refused(Exception):
    """The tree, the flow or its inputs are not valid, or a limit is reached. Nothing is stored.

    `message` says what to do; `data` has the details, for invalid parameters a list of objects with `field` and `reason`.
    """

    def __init__(self, message: str, *, data: Any = None) -> None:
        self.message = message
        self.data = data
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A run that begins after the commit. `task_id` is the root of its tree, by which clients follow it.

    `ids` maps each id of the request to the stored one. A repetition has those of the first request.
    """

    task_id: str
    run_id: str
    ids: Mapping[str, str]
    warnings: Sequence[str]


class Workflow(Protocol[P, R_co]):
    """A function with `@workflow` (`aipartnerupflow.workflows`), which the server has, too."""

    def as_task(self, *args: P.args, **kwargs: P.kwargs) -> Json: ...
    def returned(self, result: Any, /) -> R_co: ...


def start_flow(
    name: str,
    inputs: Json | None = None,
    *,
    version: int | None = None,
    user: str | None = None,
    tags: Sequence[str] | None = None,
    idempotency_key: str | None = None,
) -> Started:
    """Start a run of a flow of the user, by default of its newest version.

    `user` is the name of a user of the server, who owns the run; while authentication is off, all runs belong to `local`. With an
    `idempotency_key`, a repetition within 24 hours returns the first run. Raises Refused.
    """
    from tasks.services.flows import run_flow

    given = _as_sent({"name": name, "version": version, "inputs": inputs or {}, "tags": tags})
    verb = partial(run_flow, name=given["name"], version=given["version"], inputs=given["inputs"])
    return _start(verb, given, user=user, idempotency_key=idempotency_key)


def start_tree(
    tasks: object,
    *,
    inputs: Json | None = None,
    user: str | None = None,
    tags: Sequence[str] | None = None,
    idempotency_key: str | None = None,
) -> Started:
    """Store a tree, and start its run with these inputs. `tasks` is one task or a list, as `tasks.execute` takes them.

    The other arguments are those of `start_flow`. Raises Refused.
    """
    from tasks.services.runs.run_inputs import with_inputs
    from tasks.services.trees import execute_tree

    given = _as_sent({"tasks": tasks, "inputs": inputs, "tags": tags})
    verb: Callable[..., Execution] = partial(execute_tree, tasks=given["tasks"])
    if given["inputs"] is not None:
        verb = partial(with_inputs, verb, given["inputs"])
    return _start(verb, given, user=user, idempotency_key=idempotency_key)


def start(workflow: Workflow[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Started:
    """Start a run of a workflow with these arguments; `starting(user="alice").start(…)` names its owner. Raises Refused."""
    return start_tree(workflow.as_task(*args, **kwargs))


@dataclass(frozen=True, slots=True, kw_only=True)
class starting:
    """The options of `start`, all of whose arguments belong to the workflow. They are those of `start_flow`."""

    user: str | None = None
    tags: Sequence[str] | None = None
    idempotency_key: str | None = None

    def start(self, workflow: Workflow[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Started:
        """Start a run of a workflow with these arguments. Raises Refused."""
        task = workflow.as_task(*args, **kwargs)
        return start_tree(task, user=self.user, tags=self.tags, idempotency_key=self.idempotency_key)


def _start(verb: "Callable[..., Execution]", given: Json, *, user: str | None, idempotency_key: str | None) -> Started:
    from tasks.rules.exceptions import TasksError
    from tasks.services.runs.run_inputs import with_tags
    from tasks.services.trees.idempotency import Token, once

    token = None
    if idempotency_key is not None:
        if not 1 <= len(idempotency_key) <= MOST_KEY_CHARACTERS:
            raise Refused(f"idempotency_key: must have 1 to {MOST_KEY_CHARACTERS} characters.")
        request = orjson.dumps(["django", given], option=orjson.OPT_SORT_KEYS)
        token = Token(key=idempotency_key, request_hash=sha256(request).hexdigest())
    if given["tags"] is not None:
        verb = partial(with_tags, verb, given["tags"])
    try:
        with transaction.atomic(), _tables_of_server():
            execution = once(verb, caller=_caller(user), token=token)
    except TasksError as error:
        raise Refused(error.message, data=error.data) from error
    return Started(
        task_id=execution.task.root_id, run_id=execution.run.id, ids=execution.ids, warnings=execution.warnings
    )


def _as_sent(given: Json) -> Json:
    """Return the parameters as a client would send them, with the limits of a request. Raises Refused for values that are not JSON."""
    from tasks.rules.strict_json import MalformedJson, decode

    try:
        body = orjson.dumps(given)
        decoded: Json = decode(body)
    except (TypeError, MalformedJson) as error:  # orjson's error is a TypeError
        raise Refused(f"The tasks or inputs are no valid JSON: {error}.") from error
    most = settings.APFLOW.limits.body_bytes
    if len(body) > most:
        raise Refused(f"The request has {len(body):,} bytes; at most {most:,} are allowed (limits.body_bytes).")
    return decoded


def _caller(user: str | None) -> "Caller":
    """Return the caller for whom the project starts a run. Raises Refused."""
    from accounts.callers import LOCAL, Role
    from accounts.named_callers import caller_named

    if not settings.APFLOW.auth.is_on:
        return LOCAL
    if user is None:
        raise Refused("user: required, because the server has authentication on. Name the user who owns the run.")
    caller = caller_named(user)
    if caller is None or not caller.may(Role.OPERATOR):
        raise Refused(
            f"user: '{user[:100]}' may start no runs: the user is disabled, a viewer, or the name is malformed."
        )
    return caller


@contextmanager
def _tables_of_server() -> Iterator[None]:
    """Let statements of the block find the tables of the server; after an error, the rollback of the transaction restores the path."""
    schema = getattr(settings, SCHEMA_SETTING, None)
    if schema is None:
        _require_schema(None)
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('search_path')")
        (before,) = cursor.fetchone()
        cursor.execute("SELECT set_config('search_path', %s, true)", [connection.ops.quote_name(schema)])
    _require_schema(schema)
    yield
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('search_path', %s, true)", [before])


@cache
def _require_schema(schema: str | None) -> None:
    """Raise ImproperlyConfigured unless this version of the server has migrated the tables. Asked once per process."""
    place = f"database '{connection.settings_dict['NAME']}'" + (f", schema '{schema}'" if schema else "")
    applied = {each for each in MigrationRecorder(connection).applied_migrations() if each[0] in MIGRATED}
    known = {
        (label, name)
        for label in MIGRATED
        for _, name, _ in iter_modules(import_module(f"{label}.migrations").__path__)
        if name[0] not in "_~"
    }
    if not applied:
        raise ImproperlyConfigured(
            f"The {place} has no tables of aipartnerupflow. Let the server use this database (database.url), start it "
            f"once, and name its PostgreSQL schema, if it has one of its own, in {SCHEMA_SETTING}."
        )
    if older := sorted(known - applied):
        raise ImproperlyConfigured(
            f"The tables of aipartnerupflow in {place} are of an older version: {'.'.join(older[0])} is missing. "
            "Start the server in the version that this project has."
        )
    newest = {label: max(_number(name) for each, name in known if each == label) for label in MIGRATED}
    if newer := sorted((label, name) for label, name in applied if _number(name) > newest[label]):
        raise ImproperlyConfigured(
            f"The tables of aipartnerupflow in {place} are of a newer version ({'.'.join(newer[0])}). "
            "Install the version of the server in this project, too."
        )


def _number(migration: str) -> int:
    """Return the number of a migration; of a squashed one, such as `0001_squashed_0058_open_waits`, that of the last it replaces."""
    return max(map(int, re.findall(r"(?:^|_squashed_)([0-9]{4})(?=_)", migration)))
