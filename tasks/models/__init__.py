"""The rows: tasks, flows, runs, events, questions, webhooks, and what concerns the installation as a whole.

Each model names its app: projects with `aipartnerupflow.django` use them without the app in INSTALLED_APPS.
"""

from tasks.models.caching import CachedResult, CachedResultQuerySet, CallInFlight
from tasks.models.evals import Dataset, DatasetQuerySet, DatasetVersion, Experiment, ExperimentQuerySet, Judge, Score
from tasks.models.files import File, FileBytes, FileQuerySet, FileReference, FileSpace
from tasks.models.flows import Flow, FlowQuerySet, FlowVersion
from tasks.models.hooks import Hook, HookDelivery, HookQuerySet
from tasks.models.installation import IdempotencyKey, InstallationFact, LastVisit, SavedView, WorkerProcess
from tasks.models.runs import (
    STATUS_AT,
    CancelRequest,
    Run,
    RunCount,
    RunCountQuerySet,
    RunInputs,
    RunQuerySet,
    RunTag,
    TaskEvent,
)
from tasks.models.schedules import Firing, FiringQuerySet, Schedule, ScheduleQuerySet
from tasks.models.states import ConversationTurn, TaskState
from tasks.models.trees import Task, TaskCount, TaskQuerySet
from tasks.models.usage import DayAllowance, DayCount, ModelCall, RunBudget, Usage
from tasks.models.waits import (
    Assignee,
    LimitPlace,
    NamedLimit,
    OpenWaits,
    Question,
    QuestionQuerySet,
    SentEvent,
    SharedLimit,
)
from tasks.models.webhooks import MailCount, Notification, Webhook, WebhookDelivery

__all__ = [
    "STATUS_AT",
    "Assignee",
    "CachedResult",
    "CachedResultQuerySet",
    "CallInFlight",
    "CancelRequest",
    "ConversationTurn",
    "Dataset",
    "DatasetQuerySet",
    "DatasetVersion",
    "DayAllowance",
    "DayCount",
    "Experiment",
    "ExperimentQuerySet",
    "File",
    "FileBytes",
    "FileQuerySet",
    "FileReference",
    "FileSpace",
    "Firing",
    "FiringQuerySet",
    "Flow",
    "FlowQuerySet",
    "FlowVersion",
    "Hook",
    "HookDelivery",
    "HookQuerySet",
    "IdempotencyKey",
    "InstallationFact",
    "Judge",
    "LastVisit",
    "LimitPlace",
    "MailCount",
    "ModelCall",
    "NamedLimit",
    "Notification",
    "OpenWaits",
    "Question",
    "QuestionQuerySet",
    "Run",
    "RunBudget",
    "RunCount",
    "RunCountQuerySet",
    "RunInputs",
    "RunQuerySet",
    "RunTag",
    "SavedView",
    "Schedule",
    "ScheduleQuerySet",
    "Score",
    "SentEvent",
    "SharedLimit",
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
