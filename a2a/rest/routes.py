"""The table of REST operations.

Each calls a JSON-RPC method with parameters from path, query and body.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

from a2a.core.exceptions import BodyTooLarge, NotRunYet, UnsupportedMediaType
from a2a.core.parsing import Params
from a2a.methods import (
    call_responses,
    flow_responses,
    notification_responses,
    responses,
    run_responses,
    schedule_responses,
    task_schemas,
    webhook_responses,
)
from a2a.methods.dispatch import REST
from a2a.methods.params import TASK_TO_STORE, TASKS_TO_STORE
from tasks.rules import exceptions as errors
from tasks.rules.strict_json import Json, MalformedJson
from tasks.status import TERMINAL

TASK_ID: Final = "task_id"
BODY_ERRORS: Final = (MalformedJson, BodyTooLarge, UnsupportedMediaType)
TREE_ERRORS: Final = (
    errors.InvalidTree,
    errors.InvalidParent,
    errors.InvalidDependency,
    errors.CircularDependency,
    errors.ExecutorNotFound,
    errors.SchemaMismatch,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """The operation of a URL for one HTTP method.

    The path may have the parameter `in_path`. The other parameters of the JSON-RPC `method`, except those in
    `without`, come from the query or the body, as `takes` says; `always` has fixed ones. `answers`
    maps each HTTP status to the type of the body; if there are several, `answered` chooses.
    """

    name: str
    method: str
    answers: Mapping[int, Any]
    in_path: str = TASK_ID
    answered: Callable[[Any], tuple[int, Any]] | None = None
    takes: Literal["query", "body"] = "query"
    without: frozenset[str] = frozenset()
    instead: Sequence[Json] = ()
    """JSON Schemas that the body may match instead of an object with these parameters."""
    is_body_required: bool = False
    rules: Json = field(default_factory=dict)
    """JSON Schema keywords for rules of the body, beyond those of the parameters."""
    is_stream: bool = False
    summary: str = ""
    """Summary in the OpenAPI document; default: the first line of the method's docstring."""
    always: Json = field(default_factory=dict)
    errors: Sequence[type[Exception]] = ()

    @property
    def params(self) -> type[Params]:
        """The parameters of the method."""
        return REST.methods[self.method].params

    @property
    def query(self) -> Sequence[str]:
        """The names of the parameters in the query."""
        return self._names if self.takes == "query" else ()

    @property
    def body(self) -> Sequence[str]:
        """The names of the parameters in the body."""
        return self._names if self.takes == "body" else ()

    @property
    def _names(self) -> Sequence[str]:
        return [name for name in self.params.__struct_fields__ if name != self.in_path and name not in self.without]

    def answer(self, native: Any) -> tuple[int, Any]:
        """The HTTP status and body for the result of the method. Raises the errors of `answered`."""
        return self.answered(native) if self.answered else (next(iter(self.answers)), native)


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


def _given(name: str) -> Json:
    """The rule that the body has this parameter, and not as null."""
    return {"required": [name], "properties": {name: {"not": {"const": None}}}}


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
        rules={"anyOf": [_given("tasks"), _given("task_id")]},
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
        answers={200: responses.SecretInfo},
        errors=(errors.RoleTooLow,),
    ),
    "delete": Operation(
        name="deleteSecret",
        method="secrets.delete",
        in_path="name",
        answers={200: responses.SecretDeleted},
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
        answers={200: responses.LLMKeyStored},
        errors=(errors.RoleTooLow,),
    ),
    "delete": Operation(
        name="deleteLLMKey",
        method="config.llm_key.delete",
        in_path="provider",
        answers={200: responses.LLMKeyDeleted},
        errors=(errors.RoleTooLow,),
    ),
}
SCHEDULE_ID: Final = "schedule_id"


def _schedule(name: str, method: str, kind: Any = schedule_responses.Schedule, **more: Any) -> Operation:
    """An operation on one schedule."""
    return Operation(
        name=name,
        method=method,
        in_path=SCHEDULE_ID,
        answers={200: kind},
        **{"errors": (errors.ScheduleNotFound,), **more},
    )


def _has_one_of(*names: str) -> list[Json]:
    """JSON Schemas for an object that has one of the parameters."""
    return [_given(name) for name in names]


NOTIFICATION: Final = {
    "put": Operation(
        name="setNotification",
        method="notifications.set",
        in_path="name",
        takes="body",
        is_body_required=True,
        rules={"oneOf": _has_one_of("url", "email")},
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
WHEN: Final = ("cron", "every_seconds", "at")
SCHEDULES: Final[Mapping[str, Mapping[str, Operation]]] = {
    "schedules/": {
        "get": Operation(name="listSchedules", method="schedules.list", answers={200: schedule_responses.Schedules}),
        "post": Operation(
            name="createSchedule",
            method="schedules.create",
            takes="body",
            rules={"anyOf": _has_one_of("tasks", "task_id", "flow"), "oneOf": _has_one_of(*WHEN)},
            is_body_required=True,
            answers={201: schedule_responses.Schedule},
            errors=(errors.TaskNotFound, errors.FlowNotFound, errors.LimitReached, *TREE_ERRORS),
        ),
    },
    "schedules/preview/": {
        "post": Operation(
            name="previewSchedule",
            method="schedules.preview",
            takes="body",
            rules={"anyOf": _has_one_of("schedule_id", *WHEN)},
            is_body_required=True,
            answers={200: schedule_responses.SchedulePreview},
            errors=(errors.ScheduleNotFound,),
        )
    },
    "schedules/<segment:schedule_id>/": {
        "get": _schedule("getSchedule", "schedules.get"),
        "patch": _schedule(
            "updateSchedule",
            "schedules.update",
            takes="body",
            rules={"minProperties": 1},
            is_body_required=True,
            errors=(errors.ScheduleNotFound, errors.TaskNotFound, errors.FlowNotFound, *TREE_ERRORS),
        ),
        "delete": _schedule("deleteSchedule", "schedules.delete", schedule_responses.ScheduleDeleted),
    },
    "schedules/<segment:schedule_id>/pause/": {"post": _schedule("pauseSchedule", "schedules.pause", takes="body")},
    "schedules/<segment:schedule_id>/resume/": {"post": _schedule("resumeSchedule", "schedules.resume", takes="body")},
    "schedules/<segment:schedule_id>/trigger/": {
        "post": _schedule("triggerSchedule", "schedules.trigger", schedule_responses.ScheduledRun, takes="body")
    },
    "schedules/<segment:schedule_id>/backfill/": {
        "post": _schedule(
            "backfillSchedule",
            "schedules.backfill",
            schedule_responses.ScheduledRuns,
            takes="body",
            is_body_required=True,
            rules={"required": ["since", "until"]},
        )
    },
    "schedules/<segment:schedule_id>/runs/": {
        "get": _schedule("listScheduledRuns", "schedules.runs", schedule_responses.ScheduledRuns)
    },
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
        "secrets/": {"get": Operation(name="listSecrets", method="secrets.list", answers={200: responses.Secrets})},
        "secrets/<segment:name>/": SECRET,
        "llm-keys/": {
            "get": Operation(
                name="listLLMKeys",
                method="config.llm_key.get",
                in_path="",
                answers={200: responses.LLMKeys},
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
                answers={200: responses.Event, 204: None},
                errors=(NotRunYet,),
            )
        },
    }
)
