"""What everybody tries, method by method: how its owner uses it, and how somebody else would get at what is not theirs.

In a row stand names for ids: `$task` and `$leaf` are a tree of alice's, `$run` its run, `$user` her name; `$mine` is a task of whoever asks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """`own` works for the owner, or, where that would want a worker, is wrong in itself and gets so far as to be told so (`code`).

    `attacks` are for others: `own` too, where it names something. `runs`: the tree has a run, and that a webhook, `$config`.
    """

    own: Any
    attacks: tuple[Any, ...] = ()
    runs: bool = False
    code: int | str | None = None


TASK: Final = {"task_id": "$task"}
FOREIGN_TREES: Final = (
    {"tasks": [{"name": "a", "dependencies": ["$task"]}]},
    {"tasks": [{"name": "a", "dependencies": [{"id": "$leaf", "required": False}]}]},
    {"tasks": [{"name": "a", "parent_id": "$task"}]},
    {"tasks": [{"id": "a", "name": "a"}, {"name": "b", "parent_id": "$leaf"}]},
)
LIMIT: Final = {"name": "rows", "limit": {"requests_per_minute": 600}}
EXECUTE: Final = Row(
    TASK,
    (
        {"id": "$leaf"},
        TASK | {"use_streaming": True},
        TASK | {"wait": True, "wait_timeout_seconds": 1},
        TASK | {"copy_execution": True, "copy_children": True},
        *FOREIGN_TREES,
    ),
)
CANCEL: Final = Row(
    {"task_ids": ["$task"]},
    (
        {"task_id": "$leaf", "force": True, "error_message": "stolen"},
        {"context_ids": ["$task"]},
        {"task_ids": ["$run", "$task"]},
    ),
    runs=True,
)
COPY: Final = Row(
    TASK,
    (
        TASK | {"children": True, "copy_mode": "full"},
        TASK | {"save": False},
        TASK | {"copy_mode": "custom", "custom_task_ids": ["$leaf"]},
        {"task_id": "$mine", "copy_mode": "custom", "custom_task_ids": ["$task"]},
    ),
)
USER: Final = {"user_id": "$user"}
SCHEDULE: Final = {"schedule_id": "$schedule"}
NOTICE: Final = {
    "name": "on-call",
    "url": "https://192.0.2.1/hook",
    "token": "our token",
    "about": ["questions"],
    "flow": "no-such-flow",
}
AT_NINE: Final = {"schedule_type": "daily", "schedule_expression": "09:00"}
AT: Final = {"at": "2999-01-01T00:00"}
PAST: Final = {"since": "2026-01-01T00:00", "until": "2026-01-02T00:00"}
EVENT: Final = {"event": "order.paid", "payload": {"order_id": "42"}, "id": "evt_1"}
"""Of the name and id that every other user uses too: they do not collide."""
FLOW: Final = {"name": "mine", "tasks": [{"name": "a"}]}
RUN: Final = {"run_id": "$run"}
CALL: Final = {"call_id": "$model_call"}
NO_FLOW: Final = {"name": "no-such-flow"}
UNDO: Final = {"label": "production", "reason": "stolen"}
WATCHED: Final = {"flow": "no-such-flow"}
JUDGE: Final = WATCHED | {"name": "short"}
SCORES: Final = {"evaluator": {"expression": "`1`"}, "sample": 5}
LABEL: Final = UNDO | {"version": 1}
NO_DATASET: Final = {"name": "no-such-dataset"}
ROWS: Final = {"rows": [{"inputs": {"who": "Ada"}}], "flow": "no-such-flow"}
DATASET: Final = ROWS | {"name": "mine"}
EVAL: Final = {"dataset": "no-such-dataset", "evaluators": [{"name": "accuracy", "with": "exact"}]}
DOCUMENT: Final = {"file_id": "$document"}
INBOUND: Final = {"verifier": "github", "secrets": ["no-such-secret"], "event": "paid"}
NO_HOOK: Final = {"name": "no-such-hook"}

NATIVE: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "tasks.create": Row({"name": "mine"}, FOREIGN_TREES),
        "tasks.execute": EXECUTE,
        "execute_task_tree": EXECUTE,
        "tasks.get": Row(TASK, ({"id": "$leaf"},)),
        "tasks.detail": Row(TASK, ({"id": "$leaf"},), runs=True),
        "tasks.tree": Row(TASK, ({"root_id": "$task"}, {"task_id": "$leaf"})),
        "tasks.children": Row(TASK, ({"parent_id": "$task"},)),
        "tasks.list": Row(
            USER, (USER | {"root_only": False}, USER | {"cursor": ""}, {"text": "$task", "cursor": "", "summary": True})
        ),
        "tasks.count": Row(USER, (USER | {"root_only": True},)),
        "tasks.update": Row(TASK | {"name": "new"}, ({"task_id": "$mine", "dependencies": ["$task"]}, TASK | AT_NINE)),
        "tasks.delete": Row(TASK, (TASK | {"force": True}, {"id": "$leaf"})),
        "tasks.cancel": CANCEL,
        "tasks.running.cancel": CANCEL,
        "tasks.answer": Row(TASK | {"answer": "yes"}, ({"id": "$leaf", "answer": "yes"},), runs=True, code=-32006),
        "questions.list": Row({}, ({"limit": 1},), runs=True),
        "events.send": Row(EVENT),
        "tasks.copy": COPY,
        "tasks.clone": COPY,
        "tasks.generate": Row({"requirement": ""}, code=-32602),
        "tasks.running.list": Row(USER),
        "tasks.running.status": Row({"task_ids": ["$task", "$leaf"]}, ({"context_ids": ["$task", "$run"]},), runs=True),
        "tasks.running.count": Row(USER),
        "flows.save": Row(FLOW, ({"name": "stolen", "task_id": "$leaf"},)),
        "flows.get": Row(NO_FLOW, (NO_FLOW | USER,), code=-32001),
        "flows.list": Row(USER, (USER | {"limit": 1}, USER | {"cursor": ""})),
        "flows.versions": Row(NO_FLOW, (NO_FLOW | USER,), code=-32001),
        "flows.delete": Row(NO_FLOW, (NO_FLOW | USER,), code=-32001),
        "flows.label": Row(NO_FLOW | LABEL, (NO_FLOW | LABEL | USER,), code=-32001),
        "flows.undo_label": Row(NO_FLOW | UNDO, (NO_FLOW | UNDO | USER,), code=-32001),
        "flows.unlabel": Row(NO_FLOW | UNDO, (NO_FLOW | UNDO | USER,), code=-32001),
        "flows.labels": Row(NO_FLOW, (NO_FLOW | USER,), code=-32001),
        "judges.set": Row(JUDGE | SCORES, (JUDGE | SCORES | USER,), code=-32001),
        "judges.list": Row(WATCHED, (WATCHED | USER,), code=-32001),
        "judges.delete": Row(JUDGE, (JUDGE | USER,), code=-32001),
        "flows.run": Row(NO_FLOW, (NO_FLOW | USER, NO_FLOW | {"use_streaming": True}), code=-32001),
        "datasets.save": Row(DATASET, (DATASET | {"append": True},), code=-32001),
        "datasets.add": Row(
            {"name": "mine", "flow": "no-such-flow"},
            ({"name": "mine", "run_ids": ["$run"]}, {"name": "mine", "run_ids": ["$mine", "$task"]}),
            runs=True,
            code=-32001,
        ),
        "datasets.get": Row(NO_DATASET, (NO_DATASET | USER,), code=-32001),
        "datasets.list": Row(USER, (USER | {"limit": 1}, USER | {"cursor": ""})),
        "datasets.delete": Row(NO_DATASET, (NO_DATASET | USER,), code=-32001),
        "evals.run": Row(
            EVAL,
            (
                EVAL | {"flow": "no-such-flow"},
                EVAL | {"use_streaming": True},
                EVAL | {"variants": [{"temperature": 0}], "seed": 7, "cache": "1h", "budget": {"tokens": 10}},
                EVAL | {"workflow": "no_such_workflow"},
                EVAL | {"evaluators": [{"name": "score", "with": {"flow": "no-such-flow"}}]},
            ),
            code=-32001,
        ),
        "evals.get": Row(
            {"experiment_id": "$task"},
            ({"experiment_id": "$leaf"}, {"experiment_id": "$task", "order": "worse"}),
            code=-32001,
        ),
        "evals.list": Row(USER, (USER | {"limit": 1}, USER | {"cursor": ""})),
        "schedules.create": Row(
            AT | TASK,
            (AT | {"tasks": [{"name": "a", "dependencies": ["$task"]}]}, AT | USER | {"tasks": [{"name": "a"}]}),
        ),
        "schedules.get": Row(SCHEDULE, ({"id": "$schedule"},)),
        "cache.list": Row({}),
        "cache.clear": Row({}, ({"executor": "echo_executor"}, {"flow": "no-such-flow"})),
        "files.create": Row({"name": "mine.txt", "bytes": 3}),
        "files.get": Row(DOCUMENT, ({"file_id": "$task"},)),
        "files.list": Row({}, ({"cursor": "$document"}, {"limit": 1}, RUN), runs=True),
        "files.delete": Row(DOCUMENT),
        "files.link": Row(DOCUMENT, (DOCUMENT | {"minutes": 1},)),
        "flows.pause": Row(NO_FLOW, (NO_FLOW | USER,), code=-32001),
        "flows.resume": Row(NO_FLOW, (NO_FLOW | USER,), code=-32001),
        "executors.pause": Row({"executor_id": "no_such_executor"}, code=-32003),
        "executors.resume": Row({"executor_id": "no_such_executor"}, code=-32003),
        "providers.pause": Row({"provider": "no_such_provider"}, code=-32602),
        "providers.resume": Row({"provider": "no_such_provider"}, code=-32602),
        "users.pause": Row({"user_id": "rows-nobody"}),
        "users.resume": Row({"user_id": "rows-nobody"}),
        "limits.list": Row({}, (USER,)),
        "limits.get": Row({"name": "no_such_limit"}, ({"name": "no_such_limit"} | USER,), code=-32001),
        "limits.set": Row(LIMIT, (LIMIT | USER,)),
        "limits.delete": Row({"name": "rows"}, ({"name": "rows"} | USER,)),
        "schedules.list": Row(USER, (USER | {"is_paused": False},)),
        "schedules.update": Row(SCHEDULE | {"name": "new"}, (SCHEDULE | {"task_id": "$mine"},)),
        "schedules.delete": Row(SCHEDULE),
        "schedules.pause": Row(SCHEDULE, (SCHEDULE | {"reason": "stolen"},)),
        "schedules.resume": Row(SCHEDULE),
        "schedules.trigger": Row(SCHEDULE, (SCHEDULE | {"overlap": "allow"},)),
        "schedules.backfill": Row(SCHEDULE | PAST, (SCHEDULE | PAST | {"overlap": "allow"},)),
        "schedules.preview": Row(SCHEDULE),
        "schedules.runs": Row(SCHEDULE, (SCHEDULE | {"limit": 1},)),
        "runs.list": Row(
            {"task_id": "$task"}, (USER, {"task_id": "$leaf"}, {"text": "$task", "fields": "id"}), runs=True
        ),
        "runs.get": Row(RUN, runs=True),
        "runs.tree": Row(RUN, runs=True),
        "runs.export": Row(RUN, (RUN | {"events": True},), runs=True),
        "runs.calls": Row(RUN, (RUN | {"task_id": "$leaf"}, RUN | {"limit": 1}), runs=True),
        "feedback.set": Row(
            CALL | {"thumb": "up"},
            (CALL | {"note": "stolen"}, {"call_id": "$run", "score": 0}, RUN | {"score": 1}),
            runs=True,
        ),
        "runs.compare": Row({"a": "$run", "b": "$run"}, ({"a": "$run", "b": "no-such-run"},), runs=True),
        "tasks.fork": Row(
            TASK,
            (
                {"task_id": "$leaf"},
                {"task_id": "$mine", "from_tasks": ["$leaf"]},
                {"task_id": "$mine", "inputs": {"$leaf": {}}},
            ),
        ),
        "tasks.scheduled.list": Row(USER, (USER | {"enabled_only": False},)),
        "tasks.scheduled.due": Row(USER, (USER | {"before": "2999-01-01T00:00"},)),
        "tasks.scheduled.init": Row(TASK, ({"id": "$leaf"},)),
        "tasks.scheduled.complete": Row(TASK, (TASK | {"success": False, "error": "stolen"},)),
        "tasks.scheduled.export-ical": Row(USER, (USER | {"enabled_only": False},)),
        "tasks.webhook.trigger": Row(TASK, (TASK | {"async_execution": False}, TASK | {"signature": "x"})),
        "notifications.set": Row(NOTICE, (NOTICE | {"name": "stolen"},), code=-32001),
        "notifications.list": Row({}),
        "notifications.test": Row({"name": "on-call"}, code=-32001),
        "notifications.delete": Row({"name": "on-call"}),
        "hooks.set": Row(NO_HOOK | INBOUND, (NO_HOOK | INBOUND | {"event": None, "flow": "$task"},), code=-32602),
        "hooks.get": Row(NO_HOOK, code=-32001),
        "hooks.list": Row({}),
        "hooks.delete": Row(NO_HOOK),
        "hooks.deliveries": Row(NO_HOOK, (NO_HOOK | {"with_body": True},), code=-32001),
        "hooks.replay": Row(NO_HOOK | {"delivery": 1}, code=-32001),
        "webhooks.list": Row(RUN, runs=True),
        "webhooks.delete": Row({"webhook_id": "$webhook"}, runs=True),
        "home.get": Row({}, ({"since": "24h"}, {"since": "2999-01-01T00:00"})),
        "usage.get": Row({"by": ["day", "user"]}, (USER, USER | {"by": "user"}, USER | {"by": "flow"})),
        "audit.list": Row({}, (USER, USER | {"action": "tree"})),
        "rpc.discover": Row({}),
    }
)
KEY: Final = {"provider": "openai", "api_key": "sk-of-the-tests-0123456789"}
VALUE: Final = {"value": "of-the-tests-0123456789"}
SECRET: Final = {"name": "token"} | VALUE
SYSTEM: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "system.health": Row({}),
        "system.executors": Row({}),
        "config.llm_key.set": Row(KEY, (KEY | USER,)),
        "config.llm_key.get": Row({}, (USER,)),
        "config.llm_key.delete": Row({"provider": "openai"}, ({"provider": "openai"} | USER,)),
        "secrets.set": Row(SECRET, (SECRET | {"scope": "shared", "users": ["$user"]},)),
        "secrets.list": Row({}),
        "secrets.delete": Row({"name": "token"}, ({"name": "token", "scope": "shared"},)),
        "examples.init": Row({}),
        "rpc.discover": Row({}),
    }
)


def _message(data: Any, **fields: Any) -> Json:
    return {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"data": data}], **fields}}


def _older(data: Any, **fields: Any) -> Json:
    parts = [{"kind": "data", "data": data}]
    return {"message": {"kind": "message", "messageId": "m", "role": "user", "parts": parts, **fields}}


NOW: Final = {"configuration": {"returnImmediately": True}}
NOT_BLOCKING: Final = {"configuration": {"blocking": False}}
MESSAGE: Final = Row(
    _message(TASK) | NOW,
    (
        _message({"tasks": [{"name": "a"}]}, taskId="$run") | NOW,
        _message({"tasks": [{"name": "a", "dependencies": ["$task"]}]}) | NOW,
    ),
)
OLDER_MESSAGE: Final = Row(
    _older(TASK) | NOT_BLOCKING,
    (_older({"tasks": [{"name": "a"}]}, taskId="$run") | NOT_BLOCKING,),
)
OF_RUN: Final = Row({"id": "$run"}, ({"id": "$task"}, {"id": "$leaf"}), runs=True)

HOOK: Final = {"url": "https://192.0.2.1/hook"}
NEW_CONFIG: Final = Row(
    {"taskId": "$run", **HOOK}, ({"taskId": "$task", **HOOK}, {"taskId": "$run", "id": "$config", **HOOK}), runs=True
)
CONFIGS: Final = Row({"taskId": "$run"}, ({"taskId": "$task"},), runs=True)
CONFIG: Final = Row({"taskId": "$run", "id": "$config"}, ({"taskId": "$task", "id": "$config"},), runs=True)
OLDER_CONFIG: Final = Row({"id": "$run", "pushNotificationConfigId": "$config"}, ({"id": "$run"},), runs=True)

A2A: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "SendMessage": MESSAGE,
        "SendStreamingMessage": MESSAGE,
        "GetTask": OF_RUN,
        "ListTasks": Row({"contextId": "$task"}, runs=True),
        "CancelTask": OF_RUN,
        "SubscribeToTask": OF_RUN,
        "CreateTaskPushNotificationConfig": NEW_CONFIG,
        "GetTaskPushNotificationConfig": CONFIG,
        "ListTaskPushNotificationConfigs": CONFIGS,
        "DeleteTaskPushNotificationConfig": CONFIG,
        "GetExtendedAgentCard": Row({}),
        "message/send": OLDER_MESSAGE,
        "message/stream": OLDER_MESSAGE,
        "tasks/get": OF_RUN,
        "tasks/list": Row({"contextId": "$task"}, runs=True),
        "tasks/cancel": OF_RUN,
        "tasks/resubscribe": OF_RUN,
        "tasks/pushNotificationConfig/set": Row({"taskId": "$run", "pushNotificationConfig": HOOK}, runs=True),
        "tasks/pushNotificationConfig/get": OLDER_CONFIG,
        "tasks/pushNotificationConfig/list": Row({"id": "$run"}, runs=True),
        "tasks/pushNotificationConfig/delete": OLDER_CONFIG,
        "agent/getAuthenticatedExtendedCard": Row({}),
    }
)
#: By the name of the operation: its query, or its body. The id in the address is `$task`.
REST: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "listTasks": Row(USER),
        "createTasks": Row({"tasks": [{"name": "mine"}]}, FOREIGN_TREES),
        "getTask": Row({}),
        "updateTask": Row({"name": "new"}, ({"dependencies": ["$mine"]},)),
        "deleteTask": Row({}, ({"force": "true"},)),
        "executeTask": Row({}, ({"copy_execution": True}, {"wait": True, "wait_timeout_seconds": 1})),
        "cancelTask": Row({}, ({"force": True},), runs=True),
        "copyTask": Row({}, ({"save": False}, {"copy_mode": "custom", "custom_task_ids": ["$leaf"]})),
        "sendEvent": Row(EVENT),
        "listQuestions": Row({}, ({"limit": 1},), runs=True),
        "answerTask": Row({"answer": "yes"}, runs=True, code="status_conflict"),
        "getTaskDetail": Row({}, runs=True),
        "getTree": Row({}),
        "listChildren": Row({}),
        "followEvents": Row({}, runs=True),
        "forkTask": Row({}, ({"from_tasks": ["$leaf"]}, {"inputs": {"$leaf": {}}})),
        "listRunsOfTask": Row({}, (USER,), runs=True),
        "listRuns": Row({"task_id": "$task"}, (USER, {"task_id": "$leaf"}, {"text": "$task"}), runs=True),
        "getRun": Row({}, runs=True),
        "getTreeOfRun": Row({}, runs=True),
        "exportRun": Row({}, ({"events": "true"},), runs=True),
        "listModelCallsOfRun": Row({}, ({"task_id": "$leaf"}, {"limit": 1}), runs=True),
        "setFeedback": Row({"thumb": "up"}, ({"note": "stolen"}, {"score": 1}), runs=True),
        "scoreRun": Row({"score": 1}, ({"score": "stolen", "task_id": "$leaf"},), runs=True),
        "listWebhooksOfRun": Row({}, runs=True),
        "deleteWebhook": Row({}, runs=True),
        "compareRuns": Row({"a": "$run", "b": "$run"}, runs=True),
        "listFlows": Row(USER),
        "getFlow": Row({}, (USER,), code="flow_not_found"),
        "saveFlow": Row({"tasks": []}, ({"task_id": "$leaf"},), code="invalid_tree"),
        "deleteFlow": Row({}, (USER,), code="flow_not_found"),
        "listFlowVersions": Row({}, (USER,), code="flow_not_found"),
        "labelFlow": Row(LABEL, (LABEL | USER,), code="flow_not_found"),
        "undoLabel": Row(UNDO, (UNDO | USER,), code="flow_not_found"),
        "unlabelFlow": Row(UNDO, (UNDO | USER,), code="flow_not_found"),
        "listFlowLabels": Row({}, (USER,), code="flow_not_found"),
        "runFlow": Row({}, (USER,), code="flow_not_found"),
        "setJudge": Row(SCORES | {"name": "short"}, (SCORES | {"name": "short"} | USER,), code="flow_not_found"),
        "listJudges": Row({}, (USER,), code="flow_not_found"),
        "deleteJudge": Row({"name": "short"}, ({"name": "short"} | USER,), code="flow_not_found"),
        "listDatasets": Row(USER),
        "getDataset": Row({}, (USER,), code="dataset_not_found"),
        "saveDataset": Row(ROWS, (ROWS | {"append": True},), code="flow_not_found"),
        "addRunsToDataset": Row(
            {"flow": "no-such-flow"}, ({"run_ids": ["$run"]}, {"run_ids": ["$task"]}), runs=True, code="flow_not_found"
        ),
        "deleteDataset": Row({}, (USER,), code="dataset_not_found"),
        "listExperiments": Row(USER),
        "runExperiment": Row(EVAL, (EVAL | {"flow": "no-such-flow"},), code="dataset_not_found"),
        "getExperiment": Row({}, code="experiment_not_found"),
        "listSchedules": Row(USER),
        "createSchedule": Row(AT | TASK, ({"tasks": [{"name": "a", "dependencies": ["$task"]}]} | AT,)),
        "previewSchedule": Row(SCHEDULE),
        "getSchedule": Row({}),
        "updateSchedule": Row({"name": "new"}, ({"task_id": "$mine"},)),
        "deleteSchedule": Row({}),
        "pauseSchedule": Row({}, ({"reason": "stolen"},)),
        "resumeSchedule": Row({}),
        "triggerSchedule": Row({}, ({"overlap": "allow"},)),
        "backfillSchedule": Row(PAST, (PAST | {"overlap": "allow"},)),
        "listScheduledRuns": Row({}, ({"limit": 1},)),
        "listAudit": Row({}, (USER, USER | {"action": "tree"})),
        "getHome": Row({}, ({"since": "7d"},)),
        "getUsage": Row({"by": "user"}, (USER, USER | {"by": "model"})),
        "listNotifications": Row({}),
        "setNotification": Row(
            {name: value for name, value in NOTICE.items() if name != "name"}, code="flow_not_found"
        ),
        "testNotification": Row({}, code="notification_not_found"),
        "deleteNotification": Row({}),
        "listCache": Row({}),
        "clearCache": Row({}, ({"executor": "echo_executor"},)),
        "createFile": Row({"name": "mine.txt", "bytes": 3}),
        "getFile": Row({}),
        "listFiles": Row({}, ({"cursor": "$document"},)),
        "deleteFile": Row({}),
        "linkFile": Row({}, ({"minutes": 1},)),
        "pauseFlow": Row({}, (USER,), code="flow_not_found"),
        "resumeFlow": Row({}, (USER,), code="flow_not_found"),
        "pauseExecutor": Row({}, code="executor_not_found"),
        "resumeExecutor": Row({}, code="executor_not_found"),
        "pauseProvider": Row({}),
        "resumeProvider": Row({}),
        "pauseUser": Row({}),
        "resumeUser": Row({}),
        "listLimits": Row({}, (USER,)),
        "getLimit": Row({}, (USER,), code="limit_not_found"),
        "setLimit": Row({"limit": {}}, ({"limit": {}} | USER,), code="invalid_params"),
        "deleteLimit": Row({}, (USER,)),
        "setInboundHook": Row(INBOUND, (INBOUND | {"event": None, "flow": "$task"},), code="invalid_params"),
        "getInboundHook": Row({}, code="hook_not_found"),
        "listInboundHooks": Row({}),
        "deleteInboundHook": Row({}),
        "listHookDeliveries": Row({}, ({"with_body": True},), code="hook_not_found"),
        "replayHookDelivery": Row({"delivery": 1}, code="hook_not_found"),
        "listSecrets": Row({}),
        "setSecret": Row(VALUE, (VALUE | {"scope": "shared", "users": ["$user"]},)),
        "deleteSecret": Row({}, ({"scope": "shared"},)),
        "listLLMKeys": Row({}, (USER,)),
        "setLLMKey": Row({"api_key": KEY["api_key"]}, ({"api_key": KEY["api_key"]} | USER,)),
        "deleteLLMKey": Row({}, (USER,)),
        "listExecutors": Row({}),
    }
)

#: The bytes of files, by HTTP method. A file that is complete takes no more of them.
FILES: Final[Mapping[str, Row]] = MappingProxyType(
    {"GET": Row({}, ({"link": "$task"},)), "HEAD": Row({}), "PUT": Row({}, ({"upload": "$task"},), code=-32006)}
)

NO_SKILL: Final = {"uri": "skill://flows/no-such-flow/SKILL.md"}
TOOLS: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "answer_question": Row({"task_id": "$task", "answer": "yes"}, ({"id": "$leaf", "answer": "yes"},), runs=True),
        "cancel_run": Row({"run_id": "$run"}, ({"run_id": "$run", "force": True}, {"run_id": "$task"}), runs=True),
        "generate_tree": Row({"requirement": ""}),
        "show_run": Row({"run_id": "$run"}, ({"run_id": "$task"},), runs=True),
        "watch_run": Row({"run_id": "$run"}, ({"run_id": "$run", "wait_seconds": 1}, {"run_id": "$task"}), runs=True),
        "show_flow": Row(NO_FLOW),
        "link_file": Row(DOCUMENT, (DOCUMENT | {"minutes": 1},)),
        "get_run": Row({"run_id": "$run"}, ({"run_id": "$run", "wait_seconds": 1}, {"run_id": "$task"}), runs=True),
        "set_feedback": Row(RUN | {"score": 1}, (CALL | {"note": "stolen"},), runs=True),
        "get_experiment": Row({"experiment_id": "$task"}, ({"experiment_id": "$leaf"},)),
        "list_executors": Row({}),
        "list_limits": Row({}, (USER,)),
        "pause_flow": Row(NO_FLOW, (NO_FLOW | USER,)),
        "resume_flow": Row(NO_FLOW, (NO_FLOW | USER,)),
        "pause_executor": Row({"executor_id": "no_such_executor"}),
        "resume_executor": Row({"executor_id": "no_such_executor"}),
        "pause_provider": Row({"provider": "no_such_provider"}),
        "resume_provider": Row({"provider": "no_such_provider"}),
        "pause_user": Row({"user_id": "rows-nobody"}),
        "resume_user": Row({"user_id": "rows-nobody"}),
        "list_runs": Row({"task_id": "$task"}, (USER, {"task_id": "$leaf"}), runs=True),
        "run_flow": Row(NO_FLOW, (NO_FLOW,)),
        "run_tree": Row({"tasks": [{"name": "mine"}]}, FOREIGN_TREES),
        "create_schedule": Row(AT | TASK, (AT | USER | {"flow": "no-such-flow"},)),
        "update_schedule": Row(SCHEDULE | {"name": "new"}, (SCHEDULE | {"task_id": "$mine"},)),
        "delete_schedule": Row(SCHEDULE),
        "pause_schedule": Row(SCHEDULE, (SCHEDULE | {"reason": "stolen"},)),
        "resume_schedule": Row(SCHEDULE),
        "trigger_schedule": Row(SCHEDULE, (SCHEDULE | {"overlap": "allow"},)),
        "backfill_schedule": Row(SCHEDULE | PAST),
        "list_schedules": Row(USER),
        "get_schedule": Row(SCHEDULE),
        "preview_schedule": Row(SCHEDULE),
        "list_schedule_runs": Row(SCHEDULE),
        "send_event": Row(EVENT),
        "set_inbound_hook": Row(NO_HOOK | INBOUND, (NO_HOOK | INBOUND | {"event": None, "flow": "$task"},)),
        "list_inbound_hooks": Row({}),
        "list_hook_deliveries": Row(NO_HOOK, (NO_HOOK | {"with_body": True},)),
        "replay_hook_delivery": Row(NO_HOOK | {"delivery": 1}),
    }
)
"""Tools of MCP."""
MCP: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "initialize": Row(
            {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
        ),
        "ping": Row({}),
        "logging/setLevel": Row({"level": "info"}),
        "server/discover": Row({}),
        "tools/list": Row({}),
        "prompts/list": Row({}),
        "prompts/get": Row({"name": "no-such-flow"}, ({"name": "no-such-flow"},), code=-32602),
        "completion/complete": Row(
            {"ref": {"type": "ref/resource", "uri": "task://{id}"}, "argument": {"name": "id", "value": "$run"}},
            runs=True,
        ),
        "subscriptions/listen": Row(
            {"notifications": {"resourceSubscriptions": ["task://$run"], "taskIds": ["$run", "$task"]}}, runs=True
        ),
        "tasks/get": Row({"taskId": "$run"}, ({"taskId": "$task"},), runs=True),
        "tasks/update": Row({"taskId": "$run", "inputResponses": {}}, runs=True),
        "tasks/cancel": Row({"taskId": "$run"}, ({"taskId": "$task"},), runs=True),
        "resources/list": Row({}, ({},), runs=True),
        "resources/templates/list": Row({}),
        "resources/subscribe": Row({"uri": "task://$run"}, code=-32600),
        "resources/unsubscribe": Row({"uri": "task://$run"}, code=-32600),
        "resources/read": Row(
            {"uri": "task://$run"},
            (
                {"uri": "task://$run/tree"},
                {"uri": "task://$run/events?after=0"},
                {"uri": "task://$task"},
                {"uri": "files://$document"},
            ),
            runs=True,
        ),
        "skills/list": Row({}),
        "skills/get": Row(NO_SKILL, (NO_SKILL,), code=-32602),
    }
)
"""Methods of MCP, without `tools/call`: its doors are the tools."""

ASKING: Final = {
    "threadId": "a-thread",
    "runId": "a-run",
    "messages": [{"id": "a", "role": "user", "content": "hello"}],
}
RESUMING: Final = {"threadId": "$task", "runId": "another-run", "messages": []}
AG_UI: Final = Row(
    ASKING,
    (
        *(RESUMING | {"forwardedProps": trees} for trees in FOREIGN_TREES),
        RESUMING | {"forwardedProps": {"flow": "no-such-flow"}},
        RESUMING | {"resume": [{"interruptId": "$task", "status": "cancelled"}]},
        RESUMING | {"resume": [{"interruptId": "$run", "status": "resolved", "payload": "yes"}]},
        ASKING | {"messages": [{"id": "a", "role": "user", "content": '{"task_id": "$task"}'}]},
    ),
    runs=True,
)
"""A thread is the context of its user: another one with the same name is another thread."""

UNKNOWN_FLOW: Final = {"model": "flow:no-such-flow", "input": "hello", "background": True}
OUTPUT: Final = {"type": "function_call_output", "output": "yes"}
RESPONSES: Final = Row(
    UNKNOWN_FLOW,
    (
        UNKNOWN_FLOW | {"previous_response_id": "resp_$run"},
        UNKNOWN_FLOW | {"input": [OUTPUT | {"call_id": "ask_1_$run"}]},
        UNKNOWN_FLOW | {"model": "workflow:$task"},
    ),
    runs=True,
    code="flow_not_found",
)
RESPONSE: Final = Row({}, runs=True, code="response_not_found")
"""Runs of other interfaces are no responses; `tests/a2a/openai/test_refusals.py` has those that are."""
COMPLETIONS: Final = Row(
    {"model": "flow:no-such-flow", "messages": []},
    (
        {
            "model": "flow:no-such-flow",
            "messages": [{"role": "tool", "content": "yes", "tool_call_id": "ask_1_$run"}],
        },
    ),
    runs=True,
    code="flow_not_found",
)
