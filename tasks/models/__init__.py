"""The rows: tasks, flows, runs, events, questions, webhooks, and what concerns the installation as a whole."""

from tasks.models.budgets import DayAllowance, DayCount, RunBudget
from tasks.models.conversations import ConversationTurn
from tasks.models.flows import Flow, FlowQuerySet, FlowVersion
from tasks.models.installation import IdempotencyKey, InstallationFact, WorkerProcess
from tasks.models.mails import MailCount
from tasks.models.model_calls import ModelCall
from tasks.models.notifications import Notification
from tasks.models.runs import STATUS_AT, CancelRequest, Run, RunInputs, RunQuerySet, RunTag, TaskEvent
from tasks.models.saved_views import SavedView
from tasks.models.schedules import Firing, FiringQuerySet, Schedule, ScheduleQuerySet
from tasks.models.states import TaskState
from tasks.models.trees import Task, TaskCount, TaskQuerySet
from tasks.models.usage import Usage
from tasks.models.waits import Assignee, OpenWaits, Question, QuestionQuerySet, SentEvent
from tasks.models.webhooks import Webhook, WebhookDelivery

__all__ = [
    "STATUS_AT",
    "Assignee",
    "CancelRequest",
    "ConversationTurn",
    "DayAllowance",
    "DayCount",
    "Firing",
    "FiringQuerySet",
    "Flow",
    "FlowQuerySet",
    "FlowVersion",
    "IdempotencyKey",
    "InstallationFact",
    "MailCount",
    "ModelCall",
    "Notification",
    "OpenWaits",
    "Question",
    "QuestionQuerySet",
    "Run",
    "RunBudget",
    "RunInputs",
    "RunQuerySet",
    "RunTag",
    "SavedView",
    "Schedule",
    "ScheduleQuerySet",
    "SentEvent",
    "Task",
    "TaskCount",
    "TaskEvent",
    "TaskQuerySet",
    "TaskState",
    "Usage",
    "Webhook",
    "WebhookDelivery",
    "WorkerProcess",
]
