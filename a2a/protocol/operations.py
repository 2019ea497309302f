"""The eleven operations of A2A, each on objects of version 1.0. Bindings and older versions are built on these and add no rule."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from django.conf import settings

from a2a.core.exceptions import UnsupportedOperation
from a2a.protocol import params, push
from a2a.protocol.card.agent_card import build_extended_card
from a2a.protocol.listing import list_tasks
from a2a.protocol.messages import Received, call_off, not_cancelable, receive, with_notes
from a2a.protocol.queries import find_run, task_of
from a2a.protocol.request_context import RequestContext
from a2a.protocol.stream import settled, updates
from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.models import Run
from tasks.rules.a2a_versions import TERMINAL
from tasks.rules.strict_json import Json
from tasks.services.cancels import cancel_tasks

Updates = AsyncGenerator[Json]


def _no_more() -> None:
    """Nothing is required but what all operations are."""


def _require_streaming() -> None:
    if not settings.APFLOW.a2a.streaming:
        raise UnsupportedOperation(
            "This server does not stream (a2a.streaming). Send the message without, and ask GetTask."
        )


@dataclass(frozen=True, slots=True)
class Operation:
    """`function` takes Asked and its parameters, and returns an object or, where it `streams`, StreamResponses.

    `role` is the lowest that may call it. `require` raises if this server does not do it at all, whatever the parameters are. One that `is_repeatable` does the same once, however often it comes with the same token.
    """

    function: Callable[..., Awaitable[Any]]
    params: type[params.Given]
    role: Role
    require: Callable[[], None] = _no_more
    streams: bool = False
    is_repeatable: bool = False


async def send(asked: RequestContext, given: params.SendMessage) -> Json:
    """Take a message; answer with the Task when it is over or interrupted, or, as asked, at once."""
    received = await _received(asked, given, shows_task=given.configuration.return_immediately)
    if received.run is None:
        return {"message": received.reply}
    if received.task is not None:
        return {"task": received.task}
    await settled(received.run)
    length = given.configuration.history_length
    _, task = await pools.read(task_of, run_id=received.run.id, history_length=length)
    return {"task": with_notes(task, received)}


async def stream(asked: RequestContext, given: params.SendMessage) -> Updates:
    """Take a message; send the Task and then what happens, until it is over or interrupted."""
    received = await _received(asked, given, shows_task=True)
    if received.run is None or received.task is None:
        return _only({"message": received.reply})
    return updates(received.run, received.task, through_questions=False)


async def get(asked: RequestContext, given: params.GetTask) -> Json:
    run = await pools.read(find_run, caller=asked.caller, task_id=given.id)
    _, task = await pools.read(task_of, run_id=run.id, history_length=given.history_length)
    return task


async def list_(asked: RequestContext, given: params.ListTasks) -> Json:
    return await pools.read(list_tasks, caller=asked.caller, given=given)


async def cancel(asked: RequestContext, given: params.OfTask) -> Json:
    """Stop it, and answer with the Task as it is then. Raises TaskNotCancelable when it was over before."""
    run = await pools.read(find_run, caller=asked.caller, task_id=given.id)
    if run.finished_at is not None:
        raise not_cancelable(run)
    if run.is_reserved:
        await pools.write(call_off, run=run)
    else:
        await _cancel_tree(asked.caller, run)
    _, task = await pools.read(task_of, run_id=run.id)
    return task


async def subscribe(asked: RequestContext, given: params.OfTask) -> Updates:
    """The Task and then what happens, until it is over; a question does not end it."""
    run = await pools.read(find_run, caller=asked.caller, task_id=given.id)
    run, task = await pools.read(task_of, run_id=run.id)
    if task["status"]["state"] in TERMINAL:
        raise UnsupportedOperation(f"Task '{run.id}' is over: nothing more will happen. GetTask tells what it came to.")
    return updates(run, task)


async def create_push_config(asked: RequestContext, given: params.CreatePushConfig) -> Json:
    return await pools.write(push.create, caller=asked.caller, given=given, version=asked.version)


async def get_push_config(asked: RequestContext, given: params.OfPushConfig) -> Json:
    return await pools.read(push.get, caller=asked.caller, given=given)


async def list_push_configs(asked: RequestContext, given: params.ListPushConfigs) -> Json:
    return await pools.read(push.list_, caller=asked.caller, given=given)


async def delete_push_config(asked: RequestContext, given: params.OfPushConfig) -> Json:
    return await pools.write(push.delete, caller=asked.caller, given=given)


async def extended_card(asked: RequestContext, given: params.Nothing) -> Json:
    """The card for who has logged in, in the fields of the version that they speak."""
    return await pools.read(build_extended_card, caller=asked.caller, url=asked.url, version=asked.version)


#: By the names that the specification uses for all bindings.
OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "SendMessage": Operation(send, params.SendMessage, Role.OPERATOR, is_repeatable=True),
        "SendStreamingMessage": Operation(
            stream, params.SendMessage, Role.OPERATOR, _require_streaming, streams=True, is_repeatable=True
        ),
        "GetTask": Operation(get, params.GetTask, Role.VIEWER),
        "ListTasks": Operation(list_, params.ListTasks, Role.VIEWER),
        "CancelTask": Operation(cancel, params.OfTask, Role.OPERATOR),
        "SubscribeToTask": Operation(subscribe, params.OfTask, Role.VIEWER, _require_streaming, streams=True),
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


async def _received(asked: RequestContext, given: params.SendMessage, *, shows_task: bool) -> Received:
    if given.configuration.task_push_notification_config:
        push.require_push()
    return await pools.write(receive, asked, given, shows_task=shows_task)


async def _cancel_tree(caller: Caller, run: Run) -> None:
    await cancel_tasks(caller, task_ids=[run.target_id])


async def _only(response: Json) -> Updates:
    yield response
