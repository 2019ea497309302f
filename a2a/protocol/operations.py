"""The eleven operations of A2A on objects of version 1.0.

Bindings and version 0.3 call these and add no rules.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from django.conf import settings
from django.db.models import Exists, F, OuterRef, Q, TextField, Value
from msgspec.structs import replace

from a2a.core.exceptions import EventsGone, UnsupportedOperation
from a2a.methods.sent_files import SentFiles
from a2a.protocol import params, push
from a2a.protocol.agent_card import build_extended_card
from a2a.protocol.file_parts import with_saved
from a2a.protocol.messages import Received, call_off, not_cancelable, receive, with_notes
from a2a.protocol.params import ListTasks, RequestContext, place_of, token_of
from a2a.protocol.parts import all_in_modes, check_modes, in_modes
from a2a.protocol.queries import Artifacts, find_run, task_of, tasks_of
from a2a.protocol.serialize import STATES
from a2a.protocol.updates import settled, updates
from accounts.callers import Role
from apflow_site.db import pools
from tasks.models import STATUS_AT, Question, Run, RunQuerySet, TaskEvent
from tasks.rules.a2a_versions import AUTH_REQUIRED, INPUT_REQUIRED, REJECTED, TERMINAL
from tasks.rules.exceptions import InvalidParams, ResponseTooLarge
from tasks.rules.strict_json import Json
from tasks.services.runs.cancels import cancel_tasks
from tasks.services.trees.pending_runs import CREDENTIALS, HOLDERS, INPUT
from tasks.status import Status
from tasks.storage.bulk import db_time

RESERVED: Final = Q(root_id=F("id"))
Updates = AsyncGenerator[list[Json]]
OMITTED: Final = (
    "The artifacts are too large for one response (limits.response_bytes). Read single results with tasks.get."
)


def _asks() -> Exists:
    return Exists(Question.objects.waiting().filter(run=OuterRef("pk")))


FILTERS: Mapping[str, Callable[[RunQuerySet], RunQuerySet]] = MappingProxyType(
    {
        STATES[Status.PENDING]: lambda runs: runs.filter(status=Status.PENDING).exclude(RESERVED),
        STATES[Status.IN_PROGRESS]: lambda runs: runs.filter(~_asks(), status=Status.IN_PROGRESS).exclude(RESERVED),
        STATES[Status.COMPLETED]: lambda runs: runs.filter(status=Status.COMPLETED).exclude(RESERVED),
        STATES[Status.FAILED]: lambda runs: runs.filter(status=Status.FAILED).exclude(RESERVED),
        STATES[Status.CANCELLED]: lambda runs: runs.filter(status=Status.CANCELLED),
        INPUT_REQUIRED: lambda runs: runs.unfinished().filter(
            RESERVED & Q(lease_owner=HOLDERS[INPUT]) | Q(~RESERVED & _asks())
        ),
        AUTH_REQUIRED: lambda runs: runs.unfinished().filter(RESERVED, lease_owner=HOLDERS[CREDENTIALS]),
        REJECTED: lambda runs: runs.filter(RESERVED, status=Status.FAILED),
    }
)
"""State → filter for the runs in this state."""


def list_tasks(asked: RequestContext, given: ListTasks) -> Json:
    """Return a page of the caller's runs, the latest status change first (section 3.1.4).

    It ends early if it would be too large. Raises InvalidParams or ResponseTooLarge.
    """
    found = Run.objects.for_caller(asked.caller)
    if given.context_id:
        found = found.filter(context_id=given.context_id)
    if given.status and given.status != "TASK_STATE_UNSPECIFIED":
        if given.status not in FILTERS:
            raise InvalidParams([("status", f"is not a state of A2A: expected one of {', '.join(sorted(FILTERS))}")])
        found = FILTERS[given.status](found)
    if given.status_timestamp_after:
        try:
            moment = datetime.fromisoformat(given.status_timestamp_after)
        except ValueError:
            moment = datetime.min
        if moment.utcoffset() != timedelta(0):
            raise InvalidParams([("statusTimestampAfter", "must be a time in UTC, such as 2026-01-31T12:00:00Z")])
        found = found.annotate(status_at=STATUS_AT).filter(status_at__gte=_as_stored(moment))
    page_of = found.annotate(status_at=STATUS_AT)
    if given.page_token:
        moment, run_id = place_of(given.page_token)
        at = _as_stored(moment)
        page_of = page_of.filter(Q(status_at__lte=at) & (Q(status_at__lt=at) | Q(id__lt=run_id)))
    page = list(page_of.order_by("-status_at", "-id")[: given.page_size + 1])
    artifacts = Artifacts.ALL if given.include_artifacts else Artifacts.NONE
    tasks = tasks_of(page[: given.page_size], artifacts=artifacts, history_length=given.history_length)
    next_page = ""
    if len(tasks) < len(page):
        last = page[len(tasks) - 1]
        next_page = token_of(last.status_time, last.id)
    return {
        "tasks": tasks,
        "nextPageToken": next_page,
        "pageSize": given.page_size,
        "totalSize": found.count(),
    }


def _as_stored(moment: datetime) -> Value:
    """Return the time with six fractional digits: SQLite compares text, and Django omits a zero fraction."""
    return Value(db_time(moment), output_field=TextField())


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
    pool. `role` is the lowest role that may call it. `require`, if there is one, raises if this server does not
    support the operation. `is_repeatable`: requests with the same Idempotency-Key are executed once.
    """

    function: Callable[..., Any]
    params: type[params.Given]
    role: Role
    require: Callable[[], None] | None = None
    streams: bool = False
    is_repeatable: bool = False


async def send(asked: RequestContext, given: params.SendMessage) -> Json:
    """Execute a message.

    Returns the Task when it ends or is interrupted, or at once with `returnImmediately`.
    """
    received = await _receive(asked, given, shows_task=given.configuration.return_immediately)
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

    async def reply() -> Updates:
        yield [{"message": received.reply}]

    received = await _receive(asked, given, shows_task=True)
    modes = given.configuration.accepted_output_modes
    if received.run is None or received.task is None:
        return all_in_modes(reply(), modes)
    return all_in_modes(updates(received.run, received.task, through_questions=False), modes)


def get(asked: RequestContext, given: params.GetTask) -> Json:
    run = find_run(caller=asked.caller, task_id=given.id)
    _, task = task_of(run_id=run.id, history_length=given.history_length)
    return task


async def cancel(asked: RequestContext, given: params.OfTask) -> Json:
    """Cancel a Task and return it. Raises TaskNotCancelable if it had finished before."""
    run = await pools.read(find_run, caller=asked.caller, task_id=given.id)
    if run.finished_at is not None:
        raise not_cancelable(run)
    if run.is_reserved:
        await pools.write(call_off, run=run)
    else:
        await cancel_tasks(asked.caller, task_ids=[run.target_id])
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
    return await pools.write(push.create, asked, given)


async def delete_push_config(asked: RequestContext, given: params.OfPushConfig) -> Json:
    return await pools.write(push.delete, asked, given)


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
        "ListTasks": Operation(list_tasks, params.ListTasks, Role.VIEWER),
        "CancelTask": Operation(cancel, params.OfTask, Role.OPERATOR),
        "SubscribeToTask": Operation(subscribe, params.SubscribeToTask, Role.VIEWER, _require_streaming, streams=True),
        "CreateTaskPushNotificationConfig": Operation(
            create_push_config, params.CreatePushConfig, Role.OPERATOR, push.require_push
        ),
        "GetTaskPushNotificationConfig": Operation(push.get, params.OfPushConfig, Role.VIEWER, push.require_push),
        "ListTaskPushNotificationConfigs": Operation(
            push.list_, params.ListPushConfigs, Role.VIEWER, push.require_push
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


async def _receive(asked: RequestContext, given: params.SendMessage, *, shows_task: bool) -> Received:
    if given.configuration.task_push_notification_config:
        push.require_push()
    check_modes(given.configuration.accepted_output_modes)
    if not any(part.raw or part.url for part in given.message.parts):
        return await pools.write(receive, asked, given, shows_task=shows_task)
    async with SentFiles(asked.caller) as sent:
        message = await with_saved(given.message, sent, url=asked.url)
        received = await pools.write(receive, asked, replace(given, message=message), shows_task=shows_task)
        if received.run is not None and received.run.is_reserved:  # it asks something, and its message has the files
            sent.keep()
        return received
