"""The rows: tasks, runs, events, webhooks, questions, cancel requests, worker processes, facts of the installation."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Self

from django.db import models
from django.db.models.functions import Coalesce, Greatest, Now

from accounts.callers import Caller
from tasks.fields import JsonTextField
from tasks.ids import new_id
from tasks.status import OnExpiry, Status, WaitKind

IS_ROOT = models.Q(parent_id=None)
UNFINISHED = models.Q(finished_at=None)
IS_OPEN = models.Q(closed_at=None)
IS_ANSWERED = models.Q(answered_at__isnull=False)
EXPIRES = models.Q(expires_at__isnull=False)
#: When the status of a run last changed: `Run.status_time` as a database expression.
STATUS_AT = Coalesce("finished_at", Greatest(Coalesce("started_at", "created_at"), Coalesce("asked_at", "created_at")))


def choices_of(names: type[StrEnum]) -> list[tuple[str, str]]:
    return [(name.value, name.value) for name in names]


STATUS_CHOICES = choices_of(Status)


class TaskQuerySet(models.QuerySet["Task"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return the tasks that the caller may see and change: the single home of authorization."""
        return self if caller.sees_all else self.filter(user_id=caller.user_id)

    def tree(self, root_id: str) -> Self:
        """Return all tasks of a tree, in the order of the request that created it."""
        return self.filter(root_id=root_id).order_by("position")

    def hold_tree(self, root_id: str) -> None:
        """Lock the tree: until the transaction ends, no other one can change or start it.

        Only the root's row is locked. Locks on many rows, in another order than the journal's,
        would cause deadlocks.
        """
        self.filter(id=root_id).select_for_update().values_list("id").first()


class Task(models.Model):
    """A task of a tree (contract, section 1).

    `parent_id` groups tasks; only `dependencies` decide the order.

    Parents and roots are plain ids: trees are created, read and deleted as a whole, 10,000 rows at
    a time.
    """

    id = models.CharField(primary_key=True, max_length=255, default=new_id)
    root_id = models.CharField(max_length=255)
    parent_id = models.CharField(max_length=255, null=True)
    position = models.PositiveIntegerField(default=0)
    user_id = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    status = models.CharField(max_length=11, choices=STATUS_CHOICES, default=Status.PENDING)
    priority = models.PositiveSmallIntegerField(default=2)
    executor_id = models.CharField(max_length=255, null=True)
    dependencies = JsonTextField(default=list)
    inputs = JsonTextField(default=dict)
    schemas = JsonTextField(null=True)
    params = JsonTextField(null=True)
    result = JsonTextField(null=True)
    error = models.TextField(null=True)
    progress = models.FloatField(default=0.0)
    attempt = models.PositiveIntegerField(default=0)
    token_usage = JsonTextField(null=True)
    has_children = models.BooleanField(default=False)
    has_copy = models.BooleanField(default=False)
    original_task_id = models.CharField(max_length=255, null=True)
    origin_type = models.CharField(max_length=6, default="create")
    spawned_by = models.CharField(max_length=255, null=True)  # the task that added it to the tree while that ran
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    completed_at = models.DateTimeField(null=True)

    objects = TaskQuerySet.as_manager()

    class Meta:
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["root_id", "position"], name="task_tree"),
            models.Index(fields=["user_id", "-created_at", "-id"], name="root_of_owner", condition=IS_ROOT),
            models.Index(fields=["-created_at", "-id"], name="root_recent", condition=IS_ROOT),
            models.Index(fields=["-created_at", "-id"], name="task_recent"),
            # With the owner or without: the database can walk only one of two indexes in the order of a page.
            models.Index(
                fields=["user_id", "status", "-created_at", "-id"], name="root_status_of_owner", condition=IS_ROOT
            ),
            models.Index(fields=["status", "-created_at", "-id"], name="root_status", condition=IS_ROOT),
            models.Index(
                fields=["user_id", "name", "-created_at", "-id"], name="root_name_of_owner", condition=IS_ROOT
            ),
            models.Index(fields=["name", "-created_at", "-id"], name="root_name", condition=IS_ROOT),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.id})"

    @property
    def is_root(self) -> bool:
        return self.id == self.root_id


class TaskCountQuerySet(models.QuerySet["TaskCount"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return the numbers of the tasks that the caller may see."""
        return self if caller.sees_all else self.filter(user_id=caller.user_id)


class TaskCount(models.Model):
    """Numbers of tasks, in a view (`tasks.storage.counts`).

    The sum over the rows of an owner, level and status is exact. A single row means nothing.
    """

    pk = models.CompositePrimaryKey("user_id", "is_root", "status")
    user_id = models.CharField(max_length=255)
    is_root = models.BooleanField()
    status = models.CharField(max_length=11)
    tasks = models.BigIntegerField()

    objects = TaskCountQuerySet.as_manager()

    class Meta:
        managed = False
        db_table = "tasks_counted"

    def __str__(self) -> str:
        return f"{self.tasks} {self.status}"


class RunQuerySet(models.QuerySet["Run"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return the runs of the caller's own trees."""
        return self if caller.sees_all else self.filter(user_id=caller.user_id)

    def unfinished(self) -> Self:
        return self.filter(UNFINISHED)


class Run(models.Model):
    """One execution of a tree, or of the part of it that `target_id` needs.

    A worker holds a lease on the run: `lease_owner` until `lease_expires_at` (the database's
    clock). `epoch` increases with every claim, and `claim_token` is random, so that writes of earlier
    owners are refused, even if the database has lost the claim of one of them in a crash.
    `last_seq` is the sequence number of the newest event. The lowest `turn` is claimed first
    (`tasks.queue.fairness`). `asked_at` is when the run last asked its user for input, or continued
    after an answer. `losses` counts the workers that died with it in hand, and `strikes` those that
    died of it (`tasks.queue.suspicion`). In a demo run executors return their example results.
    """

    id = models.CharField(primary_key=True, max_length=36, default=new_id)
    root_id = models.CharField(max_length=255)
    target_id = models.CharField(max_length=255)
    user_id = models.CharField(max_length=255)
    context_id = models.CharField(max_length=255)
    number = models.PositiveIntegerField(default=1)
    status = models.CharField(max_length=11, choices=STATUS_CHOICES, default=Status.PENDING)
    turn = models.PositiveBigIntegerField(db_default=0, default=0)
    lease_owner = models.CharField(max_length=255, null=True)
    lease_expires_at = models.DateTimeField(null=True)
    epoch = models.PositiveIntegerField(default=0)
    claim_token = models.CharField(max_length=16, null=True)
    losses = models.PositiveSmallIntegerField(default=0)
    strikes = models.PositiveSmallIntegerField(db_default=0, default=0)
    last_seq = models.PositiveIntegerField(default=0)
    is_demo = models.BooleanField(db_default=False, default=False)
    trace = models.CharField(max_length=55, null=True)  # the span of the request (`tasks.telemetry.tracing`)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    asked_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["root_id", "-number"], name="run_of_tree"),
            models.Index(
                fields=["turn", "created_at"], name="run_unclaimed", condition=UNFINISHED & models.Q(lease_owner=None)
            ),
            models.Index(fields=["user_id", "turn"], name="run_unfinished_of_owner", condition=UNFINISHED),
            models.Index(
                fields=["lease_owner"], name="run_leased", condition=UNFINISHED & models.Q(lease_owner__isnull=False)
            ),
            models.Index(fields=["turn"], name="run_turn", condition=models.Q(started_at__isnull=False)),
            models.Index(fields=["finished_at"], name="run_finished"),
            models.Index(fields=["context_id", "created_at"], name="run_of_context"),
            models.Index("user_id", STATUS_AT.desc(), models.F("id").desc(), name="run_of_owner"),
            models.Index(STATUS_AT.desc(), models.F("id").desc(), name="run_recent"),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["root_id"], condition=UNFINISHED, name="one_unfinished_run_per_tree"),
        ]

    def __str__(self) -> str:
        return f"run {self.number} of {self.root_id}"

    @property
    def is_reserved(self) -> bool:
        """Whether the run has no tree yet (`tasks.services.pending_runs`)."""
        return self.root_id == self.id

    @property
    def status_time(self) -> datetime:
        """Return when the run's status last changed."""
        return self.finished_at or max(filter(None, (self.created_at, self.started_at, self.asked_at)))


class RunInputs(models.Model):
    """The inputs of a run that was started with some (`tasks.services.run_inputs`)."""

    run_id = models.CharField(primary_key=True, max_length=36)
    inputs = JsonTextField()

    class Meta:
        verbose_name_plural = "run inputs"

    def __str__(self) -> str:
        return f"inputs of run {self.run_id}"


class TaskEvent(models.Model):
    """An event of a run. `seq` is dense: 1, 2, 3 … within the run. Append only."""

    run_id = models.CharField(max_length=36)
    seq = models.PositiveIntegerField()
    type = models.CharField(max_length=16)
    task_id = models.CharField(max_length=255)
    payload = JsonTextField()
    created_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["run_id", "seq"], name="event_order"),
        ]

    def __str__(self) -> str:
        return f"{self.run_id} #{self.seq} {self.type}"


class CancelRequest(models.Model):
    """A request to stop a task of an unfinished run and all tasks below it.

    The run's worker carries it out.
    """

    run_id = models.CharField(max_length=36)
    task_id = models.CharField(max_length=255)
    force = models.BooleanField(default=False)
    message = models.TextField()

    class Meta:
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["run_id"], name="cancel_of_run")]

    def __str__(self) -> str:
        return f"cancel {self.task_id} in {self.run_id}"


class WebhookQuerySet(models.QuerySet["Webhook"]):
    def open(self) -> Self:
        """Return the webhooks that may still receive events."""
        return self.filter(closed_at=None)

    def due(self) -> Self:
        """Return the webhooks whose next event exists, may be sent now, and is not being delivered."""
        is_free = models.Q(lease_expires_at=None) | models.Q(lease_expires_at__lt=Now())
        return self.open().filter(is_free, next_at__lte=Now(), run__last_seq__gte=models.F("next_seq"))


class Webhook(models.Model):
    """A URL that receives the events of a run in order: next `next_seq`, not before `next_at`.

    `kind` selects the renderer. A worker process delivers while it holds the lease. `sealed`
    contains, encrypted, what only deliveries may read: headers, token, authentication. `attempt`
    counts the failed attempts to deliver the next event; `failures` counts consecutive events that
    could not be delivered at all. Nothing more is sent after `closed_at`: the run is over or, if
    `disabled_at` is set, the receiver is gone or too many deliveries failed.
    """

    id = models.CharField(primary_key=True, max_length=36, default=new_id)
    # No database constraint: its lock on the run and the journal's, taken while the tree is locked,
    # could deadlock.
    run = models.ForeignKey(Run, models.CASCADE, related_name="webhooks", db_constraint=False)
    kind = models.CharField(max_length=16)
    config_id = models.CharField(max_length=255)
    url = models.TextField()
    host = models.CharField(
        max_length=255, db_default=""
    )  # of the url; "" in rows from before deliveries were limited by host
    method = models.CharField(max_length=5, default="POST")
    sealed = models.TextField()
    next_seq = models.PositiveIntegerField(default=1)
    next_at = models.DateTimeField()
    attempt = models.PositiveIntegerField(default=0)
    failures = models.PositiveSmallIntegerField(default=0)
    lease_owner = models.CharField(max_length=255, null=True)
    lease_expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    disabled_at = models.DateTimeField(null=True)

    objects = WebhookQuerySet.as_manager()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["run", "config_id"], name="one_webhook_per_config"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["next_at"], name="webhook_due", condition=models.Q(closed_at=None)),
        ]

    def __str__(self) -> str:
        return f"{self.kind} webhook {self.config_id} of {self.run_id}"


class WebhookDelivery(models.Model):
    """The delivery of one event to one webhook, after `attempts` attempts.

    Of the response only the status is stored.
    """

    webhook = models.ForeignKey(Webhook, models.CASCADE, related_name="deliveries")
    seq = models.PositiveIntegerField()
    status = models.CharField(
        max_length=9, choices=[(status, status) for status in ("delivered", "retrying", "failed")]
    )
    attempts = models.PositiveIntegerField()
    status_code = models.PositiveSmallIntegerField(null=True)
    error = models.CharField(max_length=255, null=True)
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "webhook deliveries"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["webhook", "seq"], name="one_delivery_per_event"),
        ]

    def __str__(self) -> str:
        return f"#{self.seq} to {self.webhook_id}: {self.status}"


class QuestionQuerySet(models.QuerySet["Question"]):
    def for_caller(self, caller: Caller) -> Self:
        """The questions of the caller's own runs."""
        return self if caller.sees_all else self.filter(run__user_id=caller.user_id)

    def for_people(self) -> Self:
        """Leave out the waits for a time or an event: they are not questions to people."""
        return self.filter(kind=WaitKind.QUESTION)

    def unanswered(self) -> Self:
        """Return the questions and waits that nothing has ended and that have not expired.

        The query uses this table alone: an UPDATE that waited for a row's lock then checks that row
        again.
        """
        in_time = models.Q(expires_at=None) | models.Q(expires_at__gt=Now())
        return self.filter(in_time, closed_at=None, answered_at=None)

    def in_open_runs(self) -> Self:
        """Without a join, SQLite walks them in their order, and not all unfinished runs."""
        return self.filter(models.Exists(Run.objects.unfinished().filter(id=models.OuterRef("run_id"))))

    def waiting(self) -> Self:
        """Return the questions that people can still answer."""
        return self.for_people().unanswered().in_open_runs()


class Question(models.Model):
    """What a task waits for: the answer to its question, a time, or an event.

    It ends at `answered_at` with an answer or an event (`taken_id`), or at `expires_at`: then the task
    fails or, by `on_expiry`, resumes. From `closed_at` on the task no longer waits for it.

    A wait for an event has its owner (`user_id`) and what the payload must contain: `match`, and
    for look-ups `shape` and `digest` (`tasks.rules.waits`). Events from `since` on count.
    """

    id = models.CharField(primary_key=True, max_length=36, default=new_id)
    run = models.ForeignKey(Run, models.CASCADE, related_name="questions", db_constraint=False)
    task_id = models.CharField(max_length=255)
    text = models.TextField()
    options = JsonTextField(null=True)
    memo = models.TextField(db_default="null")  # JSON, private to the executor
    answer = JsonTextField(null=True)
    answered_by = models.CharField(max_length=255, null=True)
    comment = models.TextField(null=True)
    asked_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)
    answered_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    kind = models.CharField(max_length=8, choices=choices_of(WaitKind), db_default="question", default="question")
    on_expiry = models.CharField(max_length=6, choices=choices_of(OnExpiry), db_default="fail", default="fail")
    user_id = models.CharField(max_length=255, null=True)
    event = models.CharField(max_length=255, null=True)
    match = JsonTextField(null=True)
    shape = models.CharField(max_length=64, null=True)
    digest = models.CharField(max_length=64, null=True)
    since = models.DateTimeField(null=True)
    taken_id = models.BigIntegerField(null=True)

    objects = QuestionQuerySet.as_manager()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["run", "task_id"], condition=models.Q(closed_at=None), name="one_open_question_per_task"
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["asked_at", "id"],
                name="question_for_people",
                condition=models.Q(closed_at=None, answered_at=None, kind="question"),
            ),
            models.Index(fields=["expires_at"], name="question_due", condition=IS_OPEN & EXPIRES),
            models.Index(fields=["answered_at"], name="question_answered", condition=IS_OPEN & IS_ANSWERED),
            models.Index(
                fields=["user_id", "event", "shape", "digest"],
                name="wait_for_event",
                condition=models.Q(closed_at=None, answered_at=None, kind="event"),
            ),
            models.Index(fields=["taken_id"], name="wait_that_took", condition=models.Q(taken_id__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.text[:80]} ({self.task_id})"


class SentEvent(models.Model):
    """An event from outside, sent by `events.send` or to the address of a wait (`wait_id`).

    It wakes waits of its owner, `woken` of them; None while that is being done.
    """

    user_id = models.CharField(max_length=255)
    event_id = models.CharField(max_length=255)
    event = models.CharField(max_length=255)
    payload = JsonTextField(null=True)
    received_at = models.DateTimeField()
    woken = models.PositiveIntegerField(null=True)
    wait_id = models.CharField(max_length=36, null=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["user_id", "event_id"], condition=models.Q(wait_id=None), name="one_event_per_id"
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["user_id", "event", "-id"], name="event_by_name", condition=models.Q(wait_id=None)),
            models.Index(fields=["user_id", "-id"], name="event_of_user"),
            models.Index(fields=["received_at"], name="event_age"),
            models.Index(fields=["id"], name="event_unmatched", condition=models.Q(woken=None)),
        ]

    def __str__(self) -> str:
        return f"{self.event} ({self.event_id}) of {self.user_id}"


class IdempotencyKey(models.Model):
    """A request that its client may repeat: `outcome` is its result, `response` the reply, if any."""

    user_id = models.CharField(max_length=255)
    key = models.CharField(max_length=255)
    request_hash = models.CharField(max_length=64)
    outcome = JsonTextField(null=True)
    response = JsonTextField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user_id", "key"], name="one_request_per_key"),
        ]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["created_at"], name="key_age")]

    def __str__(self) -> str:
        return f"{self.key} of {self.user_id}"


class WorkerProcess(models.Model):
    """A live worker process. It updates `beat_at` every few seconds, busy or idle.

    `places` is how many trees it can run at a time; 0 while it drains.
    """

    id = models.CharField(primary_key=True, max_length=255)
    cluster_id = models.CharField(max_length=255)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    places = models.PositiveIntegerField(db_default=0, default=0)
    started_at = models.DateTimeField()
    beat_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "worker processes"
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["cluster_id", "beat_at"], name="worker_alive")]

    def __str__(self) -> str:
        return self.id


class InstallationFact(models.Model):
    """A fact that all machines of the installation share, such as the fingerprint of a secret."""

    name = models.CharField(primary_key=True, max_length=64)
    value = JsonTextField()
    updated_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name
