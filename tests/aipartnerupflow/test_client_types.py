"""The client's types and the server's, which it must not import, have the same fields of the same types."""

from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

import msgspec
import pytest
from msgspec import NODEFAULT, UNSET, Struct, UnsetType

from a2a.methods import (
    audit,
    crud,
    events,
    flows,
    generate,
    llm_keys,
    notifications,
    queries,
    questions,
    responses,
    running,
    runs,
    schedules,
    secrets,
    usage,
    webhooks,
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
    types.Page: (queries.Page,),
    types.Counts: (queries.Counts,),
    types.Deleted: (crud.Deletion,),
    types.Question: (responses.Question,),
    types.OpenQuestion: (questions.OpenQuestion,),
    types.OpenQuestions: (questions.OpenQuestions,),
    types.Wait: (responses.Wait,),
    types.ChildRun: (responses.ChildRun,),
    types.ParentRun: (responses.ParentRun,),
    types.SentEvent: (events.SentEvent,),
    types.Answered: (questions.Answered,),
    types.Cancelled: (running.Cancellation,),
    types.State: (running.Standing,),
    types.RunningCount: (running.RunningCount,),
    types.Detail: (queries.Detail,),
    types.ModelCall: (responses.ModelCall,),
    types.Generated: (generate.Generated,),
    secret_types.KeyStored: (llm_keys.LLMKeyStored,),
    secret_types.KeyInfo: (llm_keys.LLMKeyInfo,),
    secret_types.Keys: (llm_keys.LLMKeys,),
    secret_types.KeyDeleted: (llm_keys.LLMKeyDeleted,),
    secret_types.SecretInfo: (secrets.SecretInfo,),
    secret_types.Secrets: (secrets.Secrets,),
    types.Usage: (usage.Usage,),
    types.BudgetLimit: (responses.BudgetLimit,),
    types.UsageRow: (usage.UsageRow,),
    secret_types.SecretDeleted: (secrets.SecretDeleted,),
    types.FlowRef: (responses.FlowRef,),
    run_types.Run: (runs.Run,),
    run_types.RunPage: (runs.Runs,),
    run_types.RunWithInputs: (runs.RunWithInputs,),
    run_types.Failure: (runs.Failure,),
    run_types.WorkerDeath: (runs.WorkerDeath,),
    run_types.Suspicion: (runs.Suspicion,),
    run_types.RunDetail: (runs.RunDetail,),
    run_types.ModelCallWithContent: (runs.ModelCallWithContent,),
    run_types.ModelCallPage: (runs.ModelCalls,),
    run_types.RunTree: (runs.RunTree,),
    run_types.RunExport: (runs.RunExport,),
    run_types.Side: (runs.Side,),
    run_types.Pair: (runs.Pair,),
    run_types.Comparison: (runs.Comparison,),
    flow_types.Flow: (flows.Flow,),
    flow_types.SavedFlow: (flows.SavedFlow,),
    flow_types.FlowExecution: (flows.FlowExecution,),
    flow_types.FlowRun: (flows.FlowRun,),
    flow_types.ListedFlow: (flows.ListedFlow,),
    flow_types.Flows: (flows.Flows,),
    flow_types.FlowVersion: (flows.FlowVersion,),
    flow_types.FlowVersions: (flows.FlowVersions,),
    flow_types.FlowDeleted: (flows.FlowDeleted,),
    schedule_types.Schedule: (schedules.Schedule,),
    types.TaskSchedule: (responses.TaskSchedule,),
    schedule_types.Schedules: (schedules.Schedules,),
    schedule_types.ScheduledRun: (schedules.ScheduledRun,),
    schedule_types.ScheduledRuns: (schedules.ScheduledRuns,),
    schedule_types.ScheduleDeleted: (schedules.ScheduleDeleted,),
    schedule_types.ScheduledTime: (schedules.ScheduledTime,),
    schedule_types.SchedulePreview: (schedules.SchedulePreview,),
    notification_types.Notification: (notifications.Notification,),
    notification_types.Notifications: (notifications.Notifications,),
    notification_types.NotificationTested: (notifications.NotificationTested,),
    notification_types.NotificationDeleted: (notifications.NotificationDeleted,),
    audit_types.AuditEntry: (audit.AuditEntry,),
    audit_types.AuditEntries: (audit.AuditEntries,),
    webhook_types.RunWebhook: (webhooks.RunWebhook,),
    webhook_types.RunWebhooks: (webhooks.RunWebhooks,),
    webhook_types.WebhookDeleted: (webhooks.WebhookDeleted,),
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
