"""Flows: save a definition as a version, find it, and run it with inputs.

Each run is a new tree, made of one version. A definition is checked like a new tree when it is
saved, and again when it runs: executors and secrets may have changed.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import partial
from typing import Any, Final

import orjson
from django.conf import settings
from django.db import transaction

from accounts import audit
from accounts.audit import Action
from accounts.callers import Caller
from apflow_site.db.beforehand import beforehand
from apflow_site.db.turns import has_room
from llmkeys import sealed_texts
from llmkeys.providers import SentKey
from tasks.executors.input_places import inputs_used, names_that_may_be_used
from tasks.models import Flow, FlowVersion, NamedLimit, Notification, Run, Task
from tasks.rules.exceptions import FlowNotFound, InvalidParams, LimitReached, TaskNotFound
from tasks.rules.field_rules import without_empty
from tasks.rules.files import UPLOAD_VALUES
from tasks.rules.flows import (
    NAME,
    NAME_RULE,
    closed_names,
    digest_of,
    fault_of_schema,
    filled_inputs,
    unknown_input,
    version_of,
    with_changes,
    without_default,
)
from tasks.rules.specs import LISTED, TreeSpec
from tasks.rules.stored_results import is_longer
from tasks.rules.strict_json import Json
from tasks.services.files.references import FLOW, named_in, refer, refuse_foreign, release
from tasks.services.secrets.stored_secrets import refuse_unusable
from tasks.services.secrets.write_only import sealed, sealed_definition
from tasks.services.trees import NEW, Execution, checked_beforehand, execute_tree
from tasks.services.trees.further_runs import set_inputs, tasks_of, unknown_inputs
from tasks.services.trees.persist import written_down
from tasks.services.trees.queries import get_task
from tasks.storage import loads

MAY_BE_MISSING: Final = (
    "'{name}' is neither required nor has a default, and {place} uses it: that task fails in a run without it."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A version of a flow. `is_new` is False if the newest version had the same content."""

    flow: Flow
    version: FlowVersion
    is_new: bool
    warnings: list[str]


def save_flow(
    *,
    caller: Caller,
    name: str,
    tasks: object = None,
    task_id: str | None = None,
    inputs_schema: Json | None = None,
    description: str = "",
    is_tool: bool | None = None,
) -> Saved:
    """Save a definition as the next version of the caller's flow; its tasks, or those of the tree of a stored task.

    `is_tool` says whether it is a tool of MCP; None leaves that as it is.

    Raises TaskNotFound, InvalidParams, LimitReached, or what `create_tree` raises; then nothing is stored.
    """
    check_name(name)
    if task_id is not None:
        tasks = beforehand("definition", partial(tasks_of_tree, caller=caller, task_id=task_id), task_id)
    spec, warnings = checked_flow(tasks, inputs_schema)
    refuse_unusable(spec, owner=caller.user_id)
    definition = defined_tasks(tasks, spec)
    content: Json = {"definition": definition, "inputs_schema": inputs_schema, "description": description}
    most, size = settings.APFLOW.limits.flow_bytes, len(orjson.dumps(content))
    if size > most:
        problem = f"the flow has {size:,} bytes as JSON, and at most {most:,} are allowed (limits.flow_bytes)"
        raise InvalidParams([("tasks", problem)])
    content["definition"] = sealed_definition(definition, owner=caller.user_id)
    flow, version, is_new = _store(caller.user_id, name, content, is_tool=is_tool)
    return Saved(flow=flow, version=version, is_new=is_new, warnings=warnings)


def get_flow(*, caller: Caller, name: str, user_id: str | None = None) -> Flow:
    """Return a flow of the caller or, for administrators, of another user. Raises FlowNotFound."""
    flows = Flow.objects.for_caller(caller).filter(user_id=user_id or caller.user_id)
    flow = flows.filter(name=name).first()
    if flow is None:
        raise FlowNotFound(name[:100], close_matches=flows.names_like(name))
    return flow


def read_version(
    *, caller: Caller, name: str, version: int | None = None, user_id: str | None = None
) -> tuple[Flow, FlowVersion]:
    """As `get_version`, for a response that contains the version. Raises ResponseTooLarge."""
    flow, number, _ = _resolved(caller=caller, name=name, version=version, user_id=user_id)
    loads.spend_on(FlowVersion.objects.of(flow).filter(number=number), "definition", "inputs_schema", "description")
    return flow, _version(flow, number)


def get_version(
    *, caller: Caller, name: str, version: int | None = None, user_id: str | None = None, key: str | None = None
) -> tuple[Flow, FlowVersion]:
    """Return a flow, by NAME or NAME@LABEL, and one of its versions: that of the label or, by default, the newest.

    `key` is that of `run_flow`. Raises FlowNotFound or InvalidParams.
    """
    flow, number, _ = _resolved(caller=caller, name=name, version=version, user_id=user_id, key=key)
    return flow, _version(flow, number)


def _resolved(
    *, caller: Caller, name: str, version: int | None, user_id: str | None, key: str | None = None
) -> tuple[Flow, int, str | None]:
    """Return the flow, the number of the version, and how a label has chosen it: the single home of what NAME@LABEL means.

    The labels are part of the flow's row, so a label costs no query.
    """
    name, has_label, label = name.partition("@")
    flow = get_flow(caller=caller, name=name, user_id=user_id)
    if not has_label:
        return flow, version or flow.version, None
    if version is not None:
        raise InvalidParams([("version", f"cannot be combined with a label: '{label[:100]}' has chosen the version")])
    found = flow.labelled(label, key=key)
    if found is None:
        raise FlowNotFound(
            name, label=label[:100], close_matches=get_close_matches(label[:100], flow.labels or (), n=2)
        )
    return flow, *found


def _version(flow: Flow, number: int) -> FlowVersion:
    found = FlowVersion.objects.of(flow).filter(number=number).first()
    if found is None:
        raise FlowNotFound(flow.name, version=number, newest=flow.version)
    return found


@transaction.atomic
def run_flow(
    *,
    caller: Caller,
    name: str,
    version: int | None = None,
    changes: Json | None = None,
    inputs: Json | None = None,
    offered: Json | None = None,
    user_id: str | None = None,
    context_id: str | None = None,
    key: str | None = None,
    reserved_id: str | None = None,
    llm_key: SentKey | None = None,
) -> Execution:
    """Store a new tree of a version, by default the newest, and queue its run with the inputs.

    `changes` take the place of inputs and params of its tasks, by their ids: `{TASK: {"inputs": {…}, "params": {…}}}`.
    The run gets those of the inputs `offered` that the flow takes. It belongs to the owner of the flow: the caller, or
    for administrators `user_id`. If the name is NAME@LABEL and the label shares its callers with others, the `key` decides,
    by default the context or else the caller: the same one gets the same version. Raises FlowNotFound, InvalidParams for
    inputs that do not fit, or what `create_tree` raises.
    """
    key = key or context_id or caller.user_id
    flow, number, label = _resolved(caller=caller, name=name, version=version, user_id=user_id, key=key)
    found = _version(flow, number)
    owner = flow.user_id
    takes = names_taken(found) if offered else None
    more = {name: value for name, value in (offered or {}).items() if takes is None or name in takes}
    given = checked_inputs(found, sealed_texts.opened_where_possible(more | (inputs or {}), owner=owner), owner=owner)
    execution = execute_tree(
        caller=caller,
        tasks=[task | {"user_id": flow.user_id} for task in with_changes(found.definition, changes or {})],
        id_conflict=NEW,
        context_id=context_id,
        reserved_id=reserved_id,
        llm_key=llm_key,
    )
    if not changes:  # they may leave an input of the flow unused
        refuse_unused(execution.run, found, given)
    run = execution.run
    run.flow_id, run.flow_version, run.flow_label = flow.id, number, label
    Run.objects.filter(id=run.id).update(flow_id=flow.id, flow_version=number, flow_label=label)
    set_inputs(run, sealed(given, found.inputs_schema, owner=owner))
    return execution


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """A deleted flow: how many versions went with it, and how many runs of it stay."""

    name: str
    versions: int
    runs_kept: int


@transaction.atomic
def delete_flow(*, caller: Caller, name: str, user_id: str | None = None) -> Deleted:
    """Delete a flow, its versions, and the notifications about it. Its runs and their trees stay. Raises FlowNotFound."""
    flow = get_flow(caller=caller, name=name, user_id=user_id)
    if not Flow.objects.filter(id=flow.id).select_for_update():  # a save in between would leave a version behind
        raise FlowNotFound(name)
    kept = Run.objects.filter(flow_id=flow.id).count()
    versions, _ = FlowVersion.objects.of(flow).delete()
    Notification.objects.filter(flow_id=flow.id).delete()
    release([f"{FLOW}{flow.id}"])
    NamedLimit.objects.filter(
        kind="flow", name=flow.name, user_id=flow.user_id
    ).delete()  # else another one would be paused
    Flow.objects.filter(id=flow.id).delete()
    audit.record(Action.FLOW_DELETED, actor=caller.user_id, target=flow.name, owner=flow.user_id, versions=versions)
    return Deleted(name=flow.name, versions=versions, runs_kept=kept)


def names_taken(version: FlowVersion) -> Collection[str] | None:
    """Return the inputs that a version takes: those of its schema or, without one, those that its tasks use; None for any."""
    if version.inputs_schema is not None:
        return closed_names(version.inputs_schema)
    return names_that_may_be_used(
        (each.executor_id, each.inputs, each.params) for each in checked_beforehand(version.definition).tasks
    )


def refuse_unused(run: Run, version: FlowVersion | None, given: Json, *, field: str = "inputs") -> None:
    """Raise InvalidParams for inputs of a new run that no task uses. A schema says itself which ones there may be."""
    is_described = version is not None and version.inputs_schema is not None
    if not is_described and (problems := unknown_inputs(tasks_of(run.root_id), given, field=field)):
        raise InvalidParams(problems)


def checked_inputs(
    version: FlowVersion | None, given: Json, *, owner: str, field: str = "inputs", most: int | None = None
) -> Json:
    """Return the inputs of a run, of a flow with defaults. `most`: the bytes that they may have, if they are to be stored as files.

    Raises InvalidParams if they do not fit its schema, are too large, or name a file that is not one of the owner.
    """
    name = "limits.result_bytes" if most is None else "limits.value_bytes"
    most = settings.APFLOW.limits.result_bytes if most is None else most
    too_long = (field, f"have more than the {most:,} bytes that {name} allows. {UPLOAD_VALUES}")
    if is_longer(given, than=most):
        raise InvalidParams([too_long])
    filled, problems = filled_inputs(None if version is None else version.inputs_schema, given)
    if problems:
        raise InvalidParams([(place.replace("inputs", field, 1), reason) for place, reason in problems])
    if is_longer(filled, than=most):  # the defaults count too
        raise InvalidParams([too_long])
    refuse_foreign(None if version is None else version.inputs_schema, filled, owner=owner, place=field)
    return filled


def checked_flow(tasks: object, inputs_schema: Json | None) -> tuple[TreeSpec, list[str]]:
    """Check what a flow consists of, and return its tasks and warnings. Raises InvalidParams, or what `create_tree` raises."""
    spec = checked_beforehand(tasks)
    if inputs_schema is not None and (problem := fault_of_schema(inputs_schema)):
        raise InvalidParams([("inputs_schema", problem)])
    return spec, [*spec.warnings, *_check_places(spec, inputs_schema)]


def check_name(name: str) -> None:
    """Raise InvalidParams."""
    if not NAME.fullmatch(name):
        raise InvalidParams([("name", NAME_RULE)])


# --- the steps of save_flow ---


def tasks_of_tree(*, caller: Caller, task_id: str) -> list[Json]:
    """Return the tree of a stored task as a definition: without what runs have added or set. Raises TaskNotFound."""
    root_id = get_task(caller=caller, task_id=task_id).root_id
    rows = Task.objects.tree(root_id).filter(spawned_by=None)
    loads.spend_on(rows, "inputs", "params", "schemas", "dependencies")
    tasks = list(rows.defer("result", "token_usage", "error"))
    if not tasks:  # deleted since the task was read
        raise TaskNotFound(task_id)
    return written_down(tasks)


def defined_tasks(tasks: object, spec: TreeSpec) -> list[Json]:
    """Return the tasks as they are kept: each with an id, and without an owner.

    By the id, a task is the same one in all runs. A task without one gets its name, which stands for it already.
    """
    raws: Any = [tasks] if isinstance(tasks, dict) else tasks
    taken = {task.id for task in spec.tasks if not task.has_new_id}
    kept = []
    for raw, task in zip(raws, spec.tasks, strict=True):
        task_id, number = task.name if task.has_new_id else task.id, 1
        while task.has_new_id and task_id in taken:
            number += 1
            task_id = f"{task.name[:240]}-{number}"
        taken.add(task_id)
        given: Any = without_empty(raw)
        kept.append({"id": task_id} | {name: value for name, value in given.items() if name not in ("id", "user_id")})
    return kept


def _check_places(spec: TreeSpec, schema: Json | None) -> list[str]:
    """Return warnings about inputs that a run may lack. Raises InvalidParams for places that name no input."""
    if schema is None:
        return []
    known, optional = closed_names(schema), without_default(schema)
    problems: list[tuple[str, str]] = []
    warnings: dict[str, str] = {}
    for place, name in inputs_used(spec):
        if known is not None and name not in known:
            problems.append((place, unknown_input(name, known)))
        elif name in optional:
            warnings.setdefault(name, MAY_BE_MISSING.format(name=name, place=place))
    if problems:
        raise InvalidParams(problems[:LISTED])
    return list(warnings.values())


@transaction.atomic
def _store(user_id: str, name: str, content: Json, *, is_tool: bool | None) -> tuple[Flow, FlowVersion, bool]:
    """Store a version, unless the newest one is the same. Saves of one flow wait for each other. Raises LimitReached."""
    now = datetime.now(UTC)
    own = Flow.objects.filter(user_id=user_id)
    flow = own.filter(name=name).select_for_update().first()
    if flow is None:
        has_one_more = has_room(own.exclude(name=name), of=user_id, most=(most := settings.APFLOW.limits.flows))
        flow = own.filter(name=name).select_for_update().first()  # another save may have been first
        if flow is None and not has_one_more:
            raise LimitReached(f"You have {most:,} flows, which is the limit (limits.flows). Delete one of them first.")
        flow = flow or Flow.objects.create(user_id=user_id, name=name, created_at=now, updated_at=now)
    if is_tool is not None and is_tool != flow.is_tool:
        flow.is_tool = is_tool
        flow.save(update_fields=["is_tool"])
    definition = sealed_texts.fingerprinted(content["definition"], owner=user_id)
    digest = digest_of(definition, content["inputs_schema"], content["description"])
    newest = FlowVersion.objects.of(flow).filter(number=flow.version).first()
    if newest is not None and newest.digest == digest:
        return flow, newest, False
    flow.version += 1
    flow.updated_at = now
    version = FlowVersion.objects.create(flow=flow, number=flow.version, digest=digest, created_at=now, **content)
    flow.save(update_fields=["version", "updated_at"])
    refer(f"{FLOW}{flow.id}", named_in(content["definition"], content["inputs_schema"]), owner=user_id)
    oldest = flow.version - settings.APFLOW.limits.flow_versions
    labelled = {version_of(label) for label in (flow.labels or {}).values()}
    FlowVersion.objects.of(flow).filter(number__lte=oldest).exclude(number__in=labelled).delete()
    audit.record(Action.FLOW_SAVED, actor=user_id, target=name, version=flow.version)
    return flow, version, True
