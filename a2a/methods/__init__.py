"""The tables of all JSON-RPC methods.

A new method is one function, one row here, and one test file.
"""

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from a2a.core.parsing import Params
from a2a.methods import (
    audit,
    audit_params,
    audit_responses,
    call_responses,
    crud,
    events,
    flow_params,
    flow_responses,
    flows,
    list_params,
    llm_keys,
    notification_params,
    notification_responses,
    notifications,
    params,
    queries,
    responses,
    run_params,
    run_responses,
    running,
    runs,
    schedule_params,
    schedule_responses,
    scheduled,
    scheduled_params,
    schedules,
    secret_responses,
    secrets,
    system,
    task_schemas,
    usage,
    webhook_params,
    webhook_responses,
    webhooks,
)
from a2a.methods.execute import execute
from a2a.methods.generate import generate
from a2a.methods.method import Method
from a2a.methods.openrpc import openrpc_document
from a2a.methods.results import (
    DataResult,
    as_a2a_answered,
    as_a2a_answers,
    as_a2a_copy,
    as_a2a_data,
    as_a2a_task,
    as_a2a_tasks,
)
from accounts.callers import Caller, Role
from tasks.rules.strict_json import Json

VIEWER, OPERATOR, ADMIN = Role
Tasks = list[responses.Task]
EXECUTE = Method(
    execute, params.Execute, as_a2a_task, responses.Execution, OPERATOR, is_repeatable=True, takes_llm_key=True
)


def _schedules(
    function: Callable[..., Any],
    given: type[Params],
    answer: Any = schedule_responses.Schedule,
    *,
    role: Role = OPERATOR,
) -> Method:
    return Method(function, given, as_a2a_data, answer, role)


def discover(caller: Caller, given: params.Nothing) -> DataResult:
    """Return the OpenRPC document: all methods with their parameters and results."""
    return DataResult(native=_document())


@cache  # building it takes 25 ms
def _document() -> Json:
    return openrpc_document({"/tasks": METHODS, "/system": SYSTEM_METHODS})


#: Methods of `POST /tasks`, and of `POST /` with A2A objects as results.
METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "tasks.create": Method(
            crud.create,
            params.Create,
            as_a2a_task,
            responses.StoredTree,
            OPERATOR,
            is_repeatable=True,
            takes_llm_key=True,
        ),
        "tasks.execute": EXECUTE,
        "execute_task_tree": EXECUTE,
        "tasks.get": Method(queries.get, params.Get, as_a2a_task, responses.Task, VIEWER),
        "tasks.detail": Method(queries.detail, params.Get, as_a2a_task, responses.Detail, VIEWER, takes_url=True),
        "tasks.tree": Method(queries.tree, params.Tree, as_a2a_task, responses.TreeNode, VIEWER),
        "tasks.children": Method(queries.children, params.Children, as_a2a_tasks, Tasks, VIEWER),
        "tasks.list": Method(
            queries.list_tasks,
            list_params.ListTasks,
            as_a2a_tasks,
            list[responses.ListedTask] | responses.Page,
            VIEWER,
        ),
        "tasks.count": Method(queries.count, params.Count, as_a2a_data, responses.Counts, VIEWER),
        "tasks.update": Method(crud.update, params.Update, as_a2a_task, responses.Task, OPERATOR),
        "tasks.delete": Method(crud.delete, params.Delete, as_a2a_data, responses.Deletion, OPERATOR),
        "tasks.cancel": Method(running.cancel, params.Cancel, as_a2a_answers, list[responses.Cancellation], OPERATOR),
        "tasks.answer": Method(running.answer, params.Answer, as_a2a_answered, responses.Answered, OPERATOR),
        "questions.list": Method(
            queries.open_questions, params.OpenQuestions, as_a2a_data, responses.OpenQuestions, VIEWER, takes_url=True
        ),
        "events.send": Method(events.send, params.SendEvent, as_a2a_data, responses.SentEvent, OPERATOR),
        "tasks.copy": Method(
            crud.copy, params.Copy, as_a2a_copy, responses.StoredTree | list[task_schemas.NewTask], OPERATOR
        ),
        "tasks.clone": Method(
            crud.copy, params.Clone, as_a2a_copy, responses.StoredTree | list[task_schemas.NewTask], OPERATOR
        ),
        "tasks.generate": Method(
            generate, params.Generate, as_a2a_data, responses.Generated, OPERATOR, takes_llm_key=True
        ),
        "tasks.running.list": Method(running.list_running, params.RunningList, as_a2a_tasks, Tasks, VIEWER),
        "tasks.running.status": Method(
            running.status, params.RunningStatus, as_a2a_answers, list[responses.Standing], VIEWER
        ),
        "tasks.running.count": Method(running.count, params.RunningCount, as_a2a_data, responses.RunningCount, VIEWER),
        "tasks.running.cancel": Method(
            running.cancel, params.Cancel, as_a2a_answers, list[responses.Cancellation], OPERATOR
        ),
        "flows.save": Method(flows.save, flow_params.SaveFlow, as_a2a_data, flow_responses.SavedFlow, OPERATOR),
        "flows.get": Method(flows.get, flow_params.GetFlow, as_a2a_data, flow_responses.Flow, VIEWER),
        "flows.list": Method(flows.list_flows, flow_params.ListFlows, as_a2a_data, flow_responses.Flows, VIEWER),
        "flows.versions": Method(
            flows.versions, flow_params.FlowNamed, as_a2a_data, flow_responses.FlowVersions, VIEWER
        ),
        "flows.delete": Method(flows.delete, flow_params.FlowNamed, as_a2a_data, flow_responses.FlowDeleted, OPERATOR),
        "flows.run": Method(
            flows.run,
            flow_params.RunFlow,
            as_a2a_task,
            flow_responses.FlowExecution,
            OPERATOR,
            is_repeatable=True,
            takes_llm_key=True,
        ),
        "schedules.create": Method(
            schedules.create,
            schedule_params.CreateSchedule,
            as_a2a_data,
            schedule_responses.Schedule,
            OPERATOR,
            is_repeatable=True,
        ),
        "schedules.get": _schedules(schedules.get, schedule_params.NamedSchedule, role=VIEWER),
        "schedules.list": _schedules(
            schedules.list_schedules, schedule_params.ListSchedules, schedule_responses.Schedules, role=VIEWER
        ),
        "schedules.update": _schedules(schedules.update, schedule_params.UpdateSchedule),
        "schedules.delete": _schedules(
            schedules.delete, schedule_params.NamedSchedule, schedule_responses.ScheduleDeleted
        ),
        "schedules.pause": _schedules(schedules.pause, schedule_params.PauseSchedule),
        "schedules.resume": _schedules(schedules.resume, schedule_params.NamedSchedule),
        "schedules.trigger": Method(
            schedules.trigger,
            schedule_params.TriggerSchedule,
            as_a2a_data,
            schedule_responses.ScheduledRun,
            OPERATOR,
            is_repeatable=True,
        ),
        "schedules.backfill": _schedules(
            schedules.backfill, schedule_params.BackfillSchedule, schedule_responses.ScheduledRuns
        ),
        "schedules.preview": _schedules(
            schedules.preview, schedule_params.PreviewSchedule, schedule_responses.SchedulePreview, role=VIEWER
        ),
        "schedules.runs": _schedules(
            schedules.runs, schedule_params.ListFirings, schedule_responses.ScheduledRuns, role=VIEWER
        ),
        "tasks.scheduled.list": Method(
            scheduled.list_scheduled, scheduled_params.ListScheduled, as_a2a_tasks, Tasks, VIEWER
        ),
        "tasks.scheduled.due": Method(scheduled.list_due, scheduled_params.ListDue, as_a2a_tasks, Tasks, VIEWER),
        "tasks.scheduled.init": Method(
            scheduled.init, scheduled_params.InitSchedule, as_a2a_task, responses.Task, OPERATOR
        ),
        "tasks.scheduled.complete": Method(
            scheduled.complete, scheduled_params.CompleteRun, as_a2a_task, responses.Task, OPERATOR
        ),
        "tasks.scheduled.export-ical": Method(
            scheduled.export_ical, scheduled_params.ExportICal, as_a2a_data, schedule_responses.Calendar, VIEWER
        ),
        "tasks.webhook.trigger": Method(
            scheduled.trigger, scheduled_params.Trigger, as_a2a_data, schedule_responses.Triggered, OPERATOR
        ),
        "runs.list": Method(runs.list_runs, run_params.ListRuns, as_a2a_data, run_responses.Runs, VIEWER),
        "runs.tree": Method(runs.tree, run_params.GetRunTree, as_a2a_data, run_responses.RunTree, VIEWER),
        "runs.export": Method(runs.export, run_params.ExportRun, as_a2a_data, run_responses.RunExport, VIEWER),
        "runs.calls": Method(runs.calls, run_params.ListCalls, as_a2a_data, call_responses.ModelCalls, VIEWER),
        "runs.compare": Method(runs.compare, run_params.CompareRuns, as_a2a_data, run_responses.Comparison, VIEWER),
        "tasks.fork": Method(
            runs.fork,
            run_params.Fork,
            as_a2a_task,
            responses.Execution,
            OPERATOR,
            is_repeatable=True,
            takes_llm_key=True,
        ),
        "runs.get": Method(runs.get, run_params.GetRun, as_a2a_data, run_responses.RunDetail, VIEWER),
        "notifications.set": Method(
            notifications.set_notification,
            notification_params.SetNotification,
            as_a2a_data,
            notification_responses.Notification,
            OPERATOR,
        ),
        "notifications.list": Method(
            notifications.list_notifications,
            params.Nothing,
            as_a2a_data,
            notification_responses.Notifications,
            VIEWER,
        ),
        "notifications.test": Method(
            notifications.test,
            notification_params.NotificationNamed,
            as_a2a_data,
            notification_responses.NotificationTested,
            OPERATOR,
        ),
        "notifications.delete": Method(
            notifications.delete,
            notification_params.NotificationNamed,
            as_a2a_data,
            notification_responses.NotificationDeleted,
            OPERATOR,
        ),
        "webhooks.list": Method(
            webhooks.list_webhooks,
            webhook_params.WebhooksOfRun,
            as_a2a_data,
            webhook_responses.RunWebhooks,
            VIEWER,
        ),
        "webhooks.delete": Method(
            webhooks.delete, webhook_params.WebhookNamed, as_a2a_data, webhook_responses.WebhookDeleted, OPERATOR
        ),
        "usage.get": Method(usage.get, params.GetUsage, as_a2a_data, responses.Usage, VIEWER),
        "audit.list": Method(
            audit.list_audit, audit_params.ListAudit, as_a2a_data, audit_responses.AuditEntries, VIEWER
        ),
        "rpc.discover": Method(discover, params.Nothing, as_a2a_data, dict[str, Any], VIEWER),
    }
)

#: Methods of `POST /system`.
SYSTEM_METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "system.health": Method(system.health, params.Nothing, as_a2a_data, responses.Health, VIEWER),
        "system.executors": Method(system.executors, params.Nothing, as_a2a_data, list[responses.Executor], VIEWER),
        "config.llm_key.set": Method(
            llm_keys.set_key, params.SetLLMKey, as_a2a_data, secret_responses.LLMKeyStored, OPERATOR
        ),
        "config.llm_key.get": Method(
            llm_keys.get_keys, params.GetLLMKey, as_a2a_data, secret_responses.LLMKeys, VIEWER
        ),
        "config.llm_key.delete": Method(
            llm_keys.delete_key, params.DeleteLLMKey, as_a2a_data, secret_responses.LLMKeyDeleted, OPERATOR
        ),
        "secrets.set": Method(secrets.set_secret, params.SetSecret, as_a2a_data, secret_responses.SecretInfo, OPERATOR),
        "secrets.list": Method(secrets.list_secrets, params.Nothing, as_a2a_data, secret_responses.Secrets, VIEWER),
        "secrets.delete": Method(
            secrets.delete_secret, params.DeleteSecret, as_a2a_data, secret_responses.SecretDeleted, OPERATOR
        ),
        "examples.init": Method(system.fill_with_examples, params.InitExamples, as_a2a_data, responses.Examples, ADMIN),
        "rpc.discover": Method(discover, params.Nothing, as_a2a_data, dict[str, Any], VIEWER),
    }
)
