"""The eleven operations of A2A on objects of version 1.0.

Bindings and version 0.3 call these and add no rules.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from django.conf import settings

from a2a.core.exceptions import EventsGone, UnsupportedOperation
from a2a.protocol import params, push
from a2a.protocol.card.agent_card import build_extended_card
from a2a.protocol.listing import list_tasks
from a2a.protocol.messages import Received, call_off, not_cancelable, receive, with_notes
from a2a.protocol.params import RequestContext
from a2a.protocol.parts import all_in_modes, check_modes, in_modes
from a2a.protocol.queries import Artifacts, find_run, task_of
from a2a.protocol.stream import settled, updates
from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.models import Run, TaskEvent
from tasks.rules.a2a_versions import TERMINAL
from tasks.rules.exceptions import InvalidParams, ResponseTooLarge
from tasks.rules.strict_json import Json
from tasks.services.runs.cancels import cancel_tasks


def check_after(run: Run, after: int) -> None:
    """Raise InvalidParams if the run has not come so far, or EventsGone if its next events were deleted."""
    if after > run.last_seq:
        raise InvalidParams(
            [("after", f"must be at most {run.last_seq}, the number of the newest update of this task")]
        )
    kept = TaskEvent.objects.filter(run_id=run.id, seq__gt=after, seq__lte=run.last_seq).order_by("seq")
    first = kept.values_list("seq", flat=True).first() or run.last_seq + 1
    if first > after + 1:
        raise EventsGone(run.id, first=after + 1, last=first - 1)


Updates = AsyncGenerator[list[Json]]
OMITTED: Final = (
    "The artifacts are too large for one response (limits.response_bytes). Read single results with tasks.get."
)


def _no_more() -> None:
    """No requirement."""


def _require_streaming() -> None:
    if not settings.APFLOW.a2a.streaming:
        raise UnsupportedOperation(
            "This server does not support streaming (a2a.streaming). Use SendMessage, and poll GetTask."
        )


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of A2A.

    `function` takes a RequestContext and its parameters; it returns an object or, if it `streams`,
    a generator of StreamResponses. If it is no coroutine function, it only reads, and runs on a thread of the read
    pool. `role` is the lowest role that may call it. `require` raises if
    this server does not support the operation. `is_repeatable`: requests with the same
    Idempotency-Key are executed once.
    """

    function: Callable[..., Any]
    params: type[params.Given]
    role: Role
    require: Callable[[], None] = _no_more
    streams: bool = False
    is_repeatable: bool = False


async def send(asked: RequestContext, given: params.SendMessage) -> Json:
    """Execute a message.

    Returns the Task when it ends or is interrupted, or at once with `returnImmediately`.
    """
    received = await _received(asked, given, shows_task=given.configuration.return_immediately)
    modes = given.configuration.accepted_output_modes
    if received.run is None:
        return in_modes({"message": received.reply}, modes)
    if received.task is not None:
        return in_modes({"task": received.task}, modes)
    await settled(received.run)
    task = await _result(received.run, history_length=given.configuration.history_length)
    return in_modes({"task": with_notes(task, received)}, modes)


async def stream(asked: RequestContext, given: params.SendMessage) -> Updates:
    """Execute a message and stream its Task and updates, until it ends or is interrupted."""
    received = await _received(asked, given, shows_task=True)
    modes = given.configuration.accepted_output_modes
    if received.run is None or received.task is None:
        return all_in_modes(_only({"message": received.reply}), modes)
    return all_in_modes(updates(received.run, received.task, through_questions=False), modes)


def get(asked: RequestContext, given: params.GetTask) -> Json:
    run = find_run(caller=asked.caller, task_id=given.id)
    _, task = task_of(run_id=run.id, history_length=given.history_length)
    return task


def list_(asked: RequestContext, given: params.ListTasks) -> Json:
    return list_tasks(caller=asked.caller, given=given)


async def cancel(asked: RequestContext, given: params.OfTask) -> Json:
    """Cancel a Task and return it. Raises TaskNotCancelable if it had finished before."""
    run = await pools.read(find_run, caller=asked.caller, task_id=given.id)
    if run.finished_at is not None:
        raise not_cancelable(run)
    if run.is_reserved:
        await pools.write(call_off, run=run)
    else:
        await _cancel_tree(asked.caller, run)
    return await _result(run)


async def subscribe(asked: RequestContext, given: params.SubscribeToTask) -> Updates:
    """Stream the Task and its updates until it ends. Questions do not end the stream.

    With `after`, all updates after that one are among them, and the task may have ended.
    """
    run = await pools.read(find_run, caller=asked.caller, task_id=given.id)
    run, task = await pools.read(task_of, run_id=run.id)
    if given.after is not None:
        await pools.read(check_after, run, given.after)
        return updates(run, task, after=given.after)
    if task["status"]["state"] in TERMINAL:
        raise UnsupportedOperation(f"Task '{run.id}' has finished. Call GetTask for its result.")
    return updates(run, task)


async def create_push_config(asked: RequestContext, given: params.CreatePushConfig) -> Json:
    return await pools.write(push.create, caller=asked.caller, given=given, version=asked.version)


def get_push_config(asked: RequestContext, given: params.OfPushConfig) -> Json:
    return push.get(caller=asked.caller, given=given)


def list_push_configs(asked: RequestContext, given: params.ListPushConfigs) -> Json:
    return push.list_(caller=asked.caller, given=given)


async def delete_push_config(asked: RequestContext, given: params.OfPushConfig) -> Json:
    return await pools.write(push.delete, caller=asked.caller, given=given)


def extended_card(asked: RequestContext, given: params.Nothing) -> Json:
    """Return the extended agent card of the caller, in the client's version."""
    return build_extended_card(caller=asked.caller, url=asked.url(), version=asked.version)


#: The operations by their names in the specification.
OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "SendMessage": Operation(send, params.SendMessage, Role.OPERATOR, is_repeatable=True),
        "SendStreamingMessage": Operation(
            stream, params.SendMessage, Role.OPERATOR, _require_streaming, streams=True, is_repeatable=True
        ),
        "GetTask": Operation(get, params.GetTask, Role.VIEWER),
        "ListTasks": Operation(list_, params.ListTasks, Role.VIEWER),
        "CancelTask": Operation(cancel, params.OfTask, Role.OPERATOR),
        "SubscribeToTask": Operation(subscribe, params.SubscribeToTask, Role.VIEWER, _require_streaming, streams=True),
        "CreateTaskPushNotificationConfig": Operation(
            create_push_config, params.CreatePushConfig, Role.OPERATOR, push.require_push
        ),
        "GetTaskPushNotificationConfig": Operation(
            get_push_config, params.OfPushConfig, Role.VIEWER, push.require_push
        ),
        "ListTaskPushNotificationConfigs": Operation(
            list_push_configs, params.ListPushConfigs, Role.VIEWER, push.require_push
        ),
        "DeleteTaskPushNotificationConfig": Operation(
            delete_push_config, params.OfPushConfig, Role.OPERATOR, push.require_push
        ),
        "GetExtendedAgentCard": Operation(extended_card, params.Nothing, Role.VIEWER),
    }
)


async def _result(run: Run, *, history_length: int | None = None) -> Json:
    """Return the Task of a run that has been carried out, without its artifacts if these are too large for one response."""
    try:
        _, task = await pools.read(task_of, run_id=run.id, history_length=history_length)
    except ResponseTooLarge:
        _, task = await pools.read(task_of, run_id=run.id, history_length=0, artifacts=Artifacts.NONE)
        return task | {"metadata": task["metadata"] | {"omitted": OMITTED}}
    return task


async def _received(asked: RequestContext, given: params.SendMessage, *, shows_task: bool) -> Received:
    if given.configuration.task_push_notification_config:
        push.require_push()
    check_modes(given.configuration.accepted_output_modes)
    return await pools.write(receive, asked, given, shows_task=shows_task)


async def _cancel_tree(caller: Caller, run: Run) -> None:
    await cancel_tasks(caller, task_ids=[run.target_id])


async def _only(response: Json) -> Updates:
    yield [response]
