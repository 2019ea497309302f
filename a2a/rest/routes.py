"""The table of REST operations.

Each calls a JSON-RPC method with parameters from path, query and body.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from a2a.core.exceptions import BodyTooLarge, NotRunYet, UnsupportedMediaType
from a2a.core.http import TOKENS
from a2a.methods import (
    audit_responses,
    call_responses,
    flow_responses,
    notification_responses,
    responses,
    run_responses,
    secret_responses,
    task_schemas,
    webhook_responses,
)
from a2a.methods.params import TASK_TO_STORE, TASKS_TO_STORE
from a2a.rest.operation import TREE_ERRORS, Operation, given, has_one_of
from a2a.rest.schedule_routes import SCHEDULES
from tasks.rules import exceptions as errors
from tasks.rules.strict_json import Json, MalformedJson
from tasks.status import TERMINAL

BODY_ERRORS: Final = (MalformedJson, BodyTooLarge, UnsupportedMediaType)


def _executed(native: Json) -> tuple[int, Json]:
    """200 if the run has ended, else 202."""
    return (200 if native["status"] in TERMINAL else 202), native


def _saved(native: Json) -> tuple[int, Json]:
    """201 for a new version; 200 if there was none to add."""
    return (201 if native["is_new"] else 200), native


def _copied(native: Any) -> tuple[int, Any]:
    """201 with the new tree; 200 with the list of tasks if `save` is false."""
    return (200 if isinstance(native, list) else 201), native


def _cancelled(native: Sequence[Json]) -> tuple[int, Json]:
    """200 if the task is cancelled, 202 if its worker has yet to stop it.

    Raises TaskNotFound or StatusConflict.
    """
    answer = native[0]
    if answer["status"] == "cancelled":
        return 200, answer
    if answer["current_status"] is None:
        raise errors.TaskNotFound(answer["task_id"])
    if answer["current_status"] in TERMINAL:
        data = {"task_id": answer["task_id"], "status": answer["current_status"]}
        raise errors.StatusConflict(f"Task '{answer['task_id']}' cannot be cancelled. {answer['message']}", data=data)
    return 202, answer


TASKS: Final = {
    "get": Operation(
        name="listTasks",
        method="tasks.list",
        without=frozenset({"offset"}),
        always={"cursor": "", "summary": True},
        answers={200: responses.Page},
    ),
    "post": Operation(
        name="createTasks",
        method="tasks.create",
        takes="body",
        instead=(TASK_TO_STORE, TASKS_TO_STORE),
        rules={"required": ["tasks"]},
        is_body_required=True,
        answers={201: responses.StoredTree},
        errors=(errors.LimitReached, *TREE_ERRORS),
    ),
}
TASK: Final = {
    "get": Operation(name="getTask", method="tasks.get", answers={200: responses.Task}),
    "patch": Operation(
        name="updateTask",
        method="tasks.update",
        takes="body",
        rules={"minProperties": 1},
        is_body_required=True,
        answers={200: responses.Task},
        errors=(errors.StatusConflict, *TREE_ERRORS),
    ),
    "delete": Operation(
        name="deleteTask",
        method="tasks.delete",
        answers={200: responses.Deletion},
        errors=(errors.CannotDelete,),
    ),
}
EXECUTE: Final = Operation(
    name="executeTask",
    method="tasks.execute",
    takes="body",
    without=frozenset({"tasks", "id_conflict", "use_streaming", "last_event_id"}),
    answers={200: responses.Execution, 202: responses.Execution},
    answered=_executed,
    errors=(errors.LimitReached, *TREE_ERRORS),
)
FORK: Final = Operation(
    name="forkTask",
    method="tasks.fork",
    takes="body",
    without=frozenset({"use_streaming", "last_event_id"}),
    answers={200: responses.Execution, 202: responses.Execution},
    answered=_executed,
    errors=(errors.LimitReached, *TREE_ERRORS),
)
CANCEL: Final = Operation(
    name="cancelTask",
    method="tasks.cancel",
    takes="body",
    without=frozenset({"task_ids", "context_ids"}),
    answers={200: responses.Cancellation, 202: responses.Cancellation},
    answered=_cancelled,
    errors=(errors.StatusConflict,),
)
ANSWER: Final = Operation(
    name="answerTask",
    method="tasks.answer",
    takes="body",
    is_body_required=True,
    rules={"required": ["answer"]},
    answers={200: responses.Answered},
    errors=(errors.StatusConflict, errors.RoleTooLow),
)
SEND_EVENT: Final = Operation(
    name="sendEvent",
    method="events.send",
    takes="body",
    is_body_required=True,
    rules={"required": ["event"]},
    answers={200: responses.SentEvent},
)
COPY: Final = Operation(
    name="copyTask",
    method="tasks.copy",
    takes="body",
    answers={201: responses.StoredTree, 200: list[task_schemas.NewTask]},
    answered=_copied,
    errors=TREE_ERRORS,
)
FLOW: Final = {
    "get": Operation(
        name="getFlow",
        method="flows.get",
        in_path="name",
        answers={200: flow_responses.Flow},
        errors=(errors.FlowNotFound,),
    ),
    "put": Operation(
        name="saveFlow",
        method="flows.save",
        in_path="name",
        takes="body",
        is_body_required=True,
        rules={"anyOf": [given("tasks"), given("task_id")]},
        answers={201: flow_responses.SavedFlow, 200: flow_responses.SavedFlow},
        answered=_saved,
        errors=(errors.TaskNotFound, errors.LimitReached, *TREE_ERRORS),
    ),
    "delete": Operation(
        name="deleteFlow",
        method="flows.delete",
        in_path="name",
        answers={200: flow_responses.FlowDeleted},
        errors=(errors.FlowNotFound,),
    ),
}
FLOW_RUNS: Final = {
    "post": Operation(
        name="runFlow",
        method="flows.run",
        in_path="name",
        takes="body",
        without=frozenset({"use_streaming", "last_event_id"}),
        answers={200: flow_responses.FlowExecution, 202: flow_responses.FlowExecution},
        answered=_executed,
        errors=(errors.FlowNotFound, errors.LimitReached, *TREE_ERRORS),
    ),
}
SECRET: Final = {
    "put": Operation(
        name="setSecret",
        method="secrets.set",
        in_path="name",
        takes="body",
        is_body_required=True,
        rules={"required": ["value"]},
        answers={200: secret_responses.SecretInfo},
        errors=(errors.RoleTooLow,),
    ),
    "delete": Operation(
        name="deleteSecret",
        method="secrets.delete",
        in_path="name",
        answers={200: secret_responses.SecretDeleted},
        errors=(errors.RoleTooLow,),
    ),
}
LLM_KEY: Final = {
    "put": Operation(
        name="setLLMKey",
        method="config.llm_key.set",
        in_path="provider",
        takes="body",
        is_body_required=True,
        rules={"required": ["api_key"]},
        answers={200: secret_responses.LLMKeyStored},
        errors=(errors.RoleTooLow,),
    ),
    "delete": Operation(
        name="deleteLLMKey",
        method="config.llm_key.delete",
        in_path="provider",
        answers={200: secret_responses.LLMKeyDeleted},
        errors=(errors.RoleTooLow,),
    ),
}
NOTIFICATION: Final = {
    "put": Operation(
        name="setNotification",
        method="notifications.set",
        in_path="name",
        takes="body",
        is_body_required=True,
        rules={"oneOf": has_one_of("url", "email")},
        answers={200: notification_responses.Notification},
        errors=(errors.FlowNotFound, errors.LimitReached),
    ),
    "delete": Operation(
        name="deleteNotification",
        method="notifications.delete",
        in_path="name",
        answers={200: notification_responses.NotificationDeleted},
    ),
}
#: URL → HTTP method → operation.
ROUTES: Mapping[str, Mapping[str, Operation]] = MappingProxyType(
    {
        "tasks/": TASKS,
        "tasks/<segment:task_id>/": TASK,
        "tasks/<segment:task_id>/detail/": {
            "get": Operation(name="getTaskDetail", method="tasks.detail", answers={200: responses.Detail})
        },
        "tasks/<segment:task_id>/tree/": {
            "get": Operation(name="getTree", method="tasks.tree", answers={200: responses.TreeNode})
        },
        "tasks/<segment:task_id>/children/": {
            "get": Operation(name="listChildren", method="tasks.children", answers={200: list[responses.Task]})
        },
        "tasks/<segment:task_id>/execute/": {"post": EXECUTE},
        "tasks/<segment:task_id>/fork/": {"post": FORK},
        "tasks/<segment:task_id>/cancel/": {"post": CANCEL},
        "tasks/<segment:task_id>/answer/": {"post": ANSWER},
        "tasks/<segment:task_id>/copy/": {"post": COPY},
        "tasks/<segment:task_id>/runs/": {
            "get": Operation(
                name="listRunsOfTask",
                method="runs.list",
                answers={200: run_responses.Runs},
                errors=(errors.FlowNotFound,),
            )
        },
        "runs/": {
            "get": Operation(
                name="listRuns",
                method="runs.list",
                in_path="",
                answers={200: run_responses.Runs},
                errors=(errors.TaskNotFound, errors.FlowNotFound),
            )
        },
        "runs/compare/": {
            "get": Operation(
                name="compareRuns",
                method="runs.compare",
                answers={200: run_responses.Comparison},
                errors=(errors.RunNotFound,),
            )
        },
        "runs/<segment:run_id>/tree/": {
            "get": Operation(
                name="getTreeOfRun",
                method="runs.tree",
                in_path="run_id",
                answers={200: run_responses.RunTree},
                errors=(errors.RunNotFound,),
            )
        },
        "runs/<segment:run_id>/export/": {
            "get": Operation(
                name="exportRun",
                method="runs.export",
                in_path="run_id",
                answers={200: run_responses.RunExport},
                errors=(errors.RunNotFound,),
            )
        },
        "runs/<segment:run_id>/calls/": {
            "get": Operation(
                name="listModelCallsOfRun",
                method="runs.calls",
                in_path="run_id",
                answers={200: call_responses.ModelCalls},
                errors=(errors.RunNotFound,),
            )
        },
        "runs/<segment:run_id>/": {
            "get": Operation(
                name="getRun",
                method="runs.get",
                in_path="run_id",
                answers={200: run_responses.RunDetail},
                errors=(errors.RunNotFound,),
            )
        },
        "runs/<segment:run_id>/webhooks/": {
            "get": Operation(
                name="listWebhooksOfRun",
                method="webhooks.list",
                in_path="run_id",
                answers={200: webhook_responses.RunWebhooks},
                errors=(errors.RunNotFound,),
            )
        },
        "webhooks/<segment:webhook_id>/": {
            "delete": Operation(
                name="deleteWebhook",
                method="webhooks.delete",
                in_path="webhook_id",
                answers={200: webhook_responses.WebhookDeleted},
            )
        },
        "questions/": {
            "get": Operation(
                name="listQuestions", method="questions.list", takes="query", answers={200: responses.OpenQuestions}
            )
        },
        "flows/": {"get": Operation(name="listFlows", method="flows.list", answers={200: flow_responses.Flows})},
        "flows/<segment:name>/": FLOW,
        "flows/<segment:name>/versions/": {
            "get": Operation(
                name="listFlowVersions",
                method="flows.versions",
                in_path="name",
                answers={200: flow_responses.FlowVersions},
                errors=(errors.FlowNotFound,),
            )
        },
        "flows/<segment:name>/runs/": FLOW_RUNS,
        "events/": {"post": SEND_EVENT},
        **SCHEDULES,
        "usage/": {"get": Operation(name="getUsage", method="usage.get", answers={200: responses.Usage})},
        "audit/": {
            "get": Operation(name="listAudit", method="audit.list", answers={200: audit_responses.AuditEntries})
        },
        "secrets/": {
            "get": Operation(name="listSecrets", method="secrets.list", answers={200: secret_responses.Secrets})
        },
        "secrets/<segment:name>/": SECRET,
        "llm-keys/": {
            "get": Operation(
                name="listLLMKeys",
                method="config.llm_key.get",
                in_path="",
                answers={200: secret_responses.LLMKeys},
                errors=(errors.RoleTooLow,),
            )
        },
        "llm-keys/<segment:provider>/": LLM_KEY,
        "notifications/": {
            "get": Operation(
                name="listNotifications",
                method="notifications.list",
                answers={200: notification_responses.Notifications},
            )
        },
        "notifications/<segment:name>/": NOTIFICATION,
        "notifications/<segment:name>/test/": {
            "post": Operation(
                name="testNotification",
                method="notifications.test",
                in_path="name",
                takes="body",
                answers={200: notification_responses.NotificationTested},
                errors=(errors.NotificationNotFound, errors.LimitReached),
            )
        },
        "executors/": {
            "get": Operation(name="listExecutors", method="system.executors", answers={200: list[responses.Executor]})
        },
    }
)

#: Operations that reply with a stream of events. Their JSON-RPC method only defines the parameters.
STREAMS: Mapping[str, Mapping[str, Operation]] = MappingProxyType(
    {
        "tasks/<segment:task_id>/events/": {
            "get": Operation(
                name="followEvents",
                method="tasks.get",
                summary="Stream the events of the latest run of the task's tree.",
                is_stream=True,
                also={TOKENS: {"type": "boolean"}},
                answers={200: responses.Event, 204: None},
                errors=(NotRunYet,),
            )
        },
    }
)
