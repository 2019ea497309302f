"""The client's types and the server's, which it must not import, have the same fields of the same types."""

from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

import msgspec
import pytest
from msgspec import NODEFAULT, UNSET, Struct, UnsetType

from a2a.methods import (
    audit_responses,
    call_responses,
    flow_responses,
    notification_responses,
    responses,
    run_responses,
    schedule_responses,
    secret_responses,
    webhook_responses,
)
from aipartnerupflow.client import (
    audit_types,
    flow_types,
    notification_types,
    run_types,
    schedule_types,
    secret_types,
    types,
    webhook_types,
)
from tasks.rules.strict_json import Json

#: A type of the client, and those of the server whose objects it describes. A field that not all of them have is optional.
PAIRS: dict[Any, tuple[type[Struct], ...]] = {
    types.Dependency: (responses.Dependency,),
    types.Task: (responses.Task, responses.Tree),
    types.ListedTask: (responses.ListedTask,),
    types.Created: (responses.StoredTree,),
    types.Webhook: (responses.Webhook,),
    types.Execution: (responses.Execution,),
    types.Event: (responses.Event,),
    types.Page: (responses.Page,),
    types.Counts: (responses.Counts,),
    types.Deleted: (responses.Deletion,),
    types.Question: (responses.Question,),
    types.OpenQuestion: (responses.OpenQuestion,),
    types.OpenQuestions: (responses.OpenQuestions,),
    types.Wait: (responses.Wait,),
    types.ChildRun: (responses.ChildRun,),
    types.ParentRun: (responses.ParentRun,),
    types.SentEvent: (responses.SentEvent,),
    types.Answered: (responses.Answered,),
    types.Cancelled: (responses.Cancellation,),
    types.State: (responses.Standing,),
    types.RunningCount: (responses.RunningCount,),
    types.Detail: (responses.Detail,),
    types.ModelCall: (call_responses.ModelCall,),
    types.Generated: (responses.Generated,),
    secret_types.KeyStored: (secret_responses.LLMKeyStored,),
    secret_types.KeyInfo: (secret_responses.LLMKeyInfo,),
    secret_types.Keys: (secret_responses.LLMKeys,),
    secret_types.KeyDeleted: (secret_responses.LLMKeyDeleted,),
    secret_types.SecretInfo: (secret_responses.SecretInfo,),
    secret_types.Secrets: (secret_responses.Secrets,),
    types.Usage: (responses.Usage,),
    types.BudgetLimit: (responses.BudgetLimit,),
    types.UsageRow: (responses.UsageRow,),
    secret_types.SecretDeleted: (secret_responses.SecretDeleted,),
    types.FlowRef: (responses.FlowRef,),
    run_types.Run: (run_responses.Run,),
    run_types.RunPage: (run_responses.Runs,),
    run_types.RunWithInputs: (run_responses.RunWithInputs,),
    run_types.Failure: (run_responses.Failure,),
    run_types.WorkerDeath: (run_responses.WorkerDeath,),
    run_types.Suspicion: (run_responses.Suspicion,),
    run_types.RunDetail: (run_responses.RunDetail,),
    run_types.ModelCallWithContent: (call_responses.ModelCallWithContent,),
    run_types.ModelCallPage: (call_responses.ModelCalls,),
    run_types.RunTree: (run_responses.RunTree,),
    run_types.RunExport: (run_responses.RunExport,),
    run_types.Side: (run_responses.Side,),
    run_types.Pair: (run_responses.Pair,),
    run_types.Comparison: (run_responses.Comparison,),
    flow_types.Flow: (flow_responses.Flow,),
    flow_types.SavedFlow: (flow_responses.SavedFlow,),
    flow_types.FlowExecution: (flow_responses.FlowExecution,),
    flow_types.FlowRun: (flow_responses.FlowRun,),
    flow_types.ListedFlow: (flow_responses.ListedFlow,),
    flow_types.Flows: (flow_responses.Flows,),
    flow_types.FlowVersion: (flow_responses.FlowVersion,),
    flow_types.FlowVersions: (flow_responses.FlowVersions,),
    flow_types.FlowDeleted: (flow_responses.FlowDeleted,),
    schedule_types.Schedule: (schedule_responses.Schedule,),
    types.TaskSchedule: (schedule_responses.TaskSchedule,),
    schedule_types.Schedules: (schedule_responses.Schedules,),
    schedule_types.ScheduledRun: (schedule_responses.ScheduledRun,),
    schedule_types.ScheduledRuns: (schedule_responses.ScheduledRuns,),
    schedule_types.ScheduleDeleted: (schedule_responses.ScheduleDeleted,),
    schedule_types.ScheduledTime: (schedule_responses.ScheduledTime,),
    schedule_types.SchedulePreview: (schedule_responses.SchedulePreview,),
    notification_types.Notification: (notification_responses.Notification,),
    notification_types.Notifications: (notification_responses.Notifications,),
    notification_types.NotificationTested: (notification_responses.NotificationTested,),
    notification_types.NotificationDeleted: (notification_responses.NotificationDeleted,),
    audit_types.AuditEntry: (audit_responses.AuditEntry,),
    audit_types.AuditEntries: (audit_responses.AuditEntries,),
    webhook_types.RunWebhook: (webhook_responses.RunWebhook,),
    webhook_types.RunWebhooks: (webhook_responses.RunWebhooks,),
    webhook_types.WebhookDeleted: (webhook_responses.WebhookDeleted,),
}
SENT = {types.Changes, types.CopyOptions, types.Filters, run_types.RunFilters, schedule_types.ScheduleFields}
"""What a client sends; the parameters of the methods are checked by the server."""

INHERITED = ("children",)
"""A task may come without them, and a type that extends it cannot say otherwise."""


def fields_of(structs: tuple[type[Struct], ...]) -> dict[str, tuple[Any, bool]]:
    """Name → type and whether it is always there."""
    found: dict[str, tuple[Any, bool]] = {}
    for struct in structs:
        for field in msgspec.structs.fields(struct):
            is_required = field.default is NODEFAULT and all(field.name in each.__struct_fields__ for each in structs)
            found[field.encode_name] = field.type, is_required
    return found


def members(kind: Any) -> list[Any]:
    """The members of a union, without what says that a field may be absent."""
    if get_origin(kind) in (Annotated, NotRequired):
        return members(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [member for each in get_args(kind) for member in members(each)]
    return [] if kind in (UnsetType, UNSET) else [kind]


def agree(client: Any, server: Any) -> bool:
    """Whether the client's type describes what the server's does, perhaps less closely."""
    ours, theirs = members(client), members(server)
    return all(any(describes(one, other) for one in ours) for other in theirs) and all(
        any(describes(one, other) for other in theirs) for one in ours
    )


def describes(client: Any, server: Any) -> bool:
    if client == server or client is Any:
        return True
    if is_typeddict(client):
        return server in PAIRS[client]
    if isinstance(server, type) and issubclass(server, Struct):
        return client == Json or (
            get_origin(client) is dict
            and all(agree(get_args(client)[1], kind) for kind, _ in fields_of((server,)).values())
        )
    if isinstance(server, type) and issubclass(server, Enum):
        server = Literal[tuple(member.value for member in server)]
    if get_origin(server) is Literal:
        return client is str or set(get_args(client)) == set(get_args(server))
    same_shape = get_origin(client) is not None and get_origin(client) is get_origin(server)
    return same_shape and all(map(agree, get_args(client), get_args(server)))


def test_every_type_of_the_client_has_its_type_on_the_server() -> None:
    modules = (
        types,
        audit_types,
        flow_types,
        notification_types,
        run_types,
        schedule_types,
        secret_types,
        webhook_types,
    )
    defined = {kind for module in modules for kind in vars(module).values() if is_typeddict(kind)}
    assert defined == PAIRS.keys() | SENT


@pytest.mark.parametrize("client", PAIRS, ids=lambda kind: kind.__name__)
def test_a_type_of_the_client_has_the_fields_of_the_servers(client: Any) -> None:
    hints, fields = get_type_hints(client, include_extras=True), fields_of(PAIRS[client])
    inherited = INHERITED if types.Task in client.__orig_bases__ else ()
    assert {name: name in client.__required_keys__ or name in inherited for name in hints} == {
        name: is_required for name, (_, is_required) in fields.items()
    }
    assert [name for name in hints if not agree(hints[name], fields[name][0])] == []


@pytest.mark.parametrize(
    ("client", "server"),
    [
        (int, str),
        (str, str | None),
        (list[str], list[int]),
        (types.Page, responses.Task),
        (Literal["a"], Literal["a", "b"]),
    ],
)
def test_types_that_differ_are_found(client: Any, server: Any) -> None:
    assert not agree(client, server)


def test_none_is_a_type_of_its_own() -> None:
    assert agree(str | None, str | NoneType)
