"""Large inputs of a request: each is stored as a file before the request is carried out, and referred to as large results are.

Imported where a request has some.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import orjson
from django.conf import settings

from a2a.methods.sent_files import SentFiles
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.models import FlowVersion
from tasks.rules.files import MARK, VALUE
from tasks.rules.strict_json import Json
from tasks.services import flows
from tasks.services.flows import checked_inputs
from tasks.services.secrets.write_only import sealed, sealed_definition
from tasks.services.trees.further_runs import flow_version_of, latest_of
from tasks.services.trees.queries import get_task

PLACE = b"{{"
NAME = "input.json"


@asynccontextmanager
async def moved(caller: Caller, arguments: Json, run_inputs: Json | None) -> AsyncIterator[tuple[Json, Json | None]]:
    """For the block: the arguments and the inputs of a run with references to what is large in them.

    At its end those files are deleted that nothing names. Raises LimitReached, StoreUnavailable, and what the request itself raises:
    inputs of a flow are checked by its schema here, while they are whole.
    """
    owner, version, arguments = await pools.read(_settled, caller, arguments)
    async with SentFiles(Caller(user_id=owner)) as sent:
        of_run = partial(sealed, schema=version.inputs_schema if version else None, owner=owner)
        if "tasks" in arguments:
            arguments = arguments | {"tasks": await _tasks(arguments["tasks"], sent)}
        if "name" in arguments:
            arguments = arguments | {"inputs": await _values(arguments["inputs"], sent, of_run)}
        yield arguments, run_inputs and await _values(run_inputs, sent, of_run)


def _settled(caller: Caller, arguments: Json) -> tuple[str, FlowVersion | None, Json]:
    """Return who will own the files, the version of a flow whose inputs these are, and the arguments with defaults. Raises what the request raises."""
    if "name" in arguments:
        named = {name: arguments[name] for name in ("name", "version", "user_id")}
        flow, version = flows.get_version(caller=caller, **named)
        most = settings.APFLOW.limits.value_bytes
        inputs = checked_inputs(version, arguments["inputs"] or {}, owner=flow.user_id, most=most)
        return flow.user_id, version, arguments | {"inputs": inputs}
    if "tasks" in arguments:
        tasks = arguments["tasks"]
        first: Any = tasks[0] if isinstance(tasks, list) and tasks else tasks
        owner: Any = first.get("user_id") if caller.sees_all and isinstance(first, dict) else None
        return owner if isinstance(owner, str) and owner else caller.user_id, None, arguments
    task = get_task(caller=caller, task_id=arguments["task_id"])
    before = latest_of(task.root_id)
    return task.user_id, None if before is None else flow_version_of(before), arguments


async def _tasks(tasks: Any, sent: SentFiles) -> Any:
    """Return the tasks of a request, which are not checked yet, with references in their inputs and in the items of maps."""
    if isinstance(tasks, dict):
        return await _task(tasks, sent)
    return [await _task(task, sent) for task in tasks] if isinstance(tasks, list) else tasks


async def _task(task: Any, sent: SentFiles) -> Any:
    if not isinstance(task, dict):
        return task
    if isinstance(inputs := task.get("inputs"), dict):

        def stored(values: Json) -> Json:
            done: Json = sealed_definition(task | {"inputs": values}, owner=sent.caller.user_id)["inputs"]
            return done

        task = task | {"inputs": await _values(inputs, sent, stored, fills=True)}
    params = task.get("params")
    for_each = params.get("for_each") if isinstance(params, dict) else None
    if isinstance(for_each, dict) and isinstance(items := for_each.get("items"), list):
        found = await _values(dict(enumerate(items)), sent, dict, fills=True)
        task = task | {"params": params | {"for_each": for_each | {"items": [*found.values()]}}}
    return task


async def _values(values: Any, sent: SentFiles, stored: Callable[[Any], Any], *, fills: bool = False) -> Any:
    """Return the values with references to those that are large.

    Not to one that names files, which would not be kept then, nor to one with a part that is `stored` encrypted, nor, if
    places in it are filled (`fills`), to one with braces.
    """
    done = dict(values)
    for name, value in values.items():
        text = orjson.dumps(value)
        is_large = len(text) > settings.APFLOW.limits.inline_bytes
        if is_large and MARK not in text and not (fills and PLACE in text) and stored({name: value}) == {name: value}:
            file = await sent.store(text, name=NAME, media_type="application/json", is_made=True)
            done[name] = file | {VALUE: True}
    return done
