"""Runs, with their events and what a caller asks of them."""

from datetime import datetime
from difflib import get_close_matches
from typing import ClassVar, Final, Self

from django.db import models
from django.db.models.functions import Coalesce, Greatest

from accounts.callers import Caller
from tasks.fields import JsonTextField
from tasks.ids import new_id
from tasks.models.choices import STATUS_CHOICES
from tasks.rules.strict_json import Json
from tasks.rules.token_usage import COUNTED, dollars
from tasks.status import Status

FAILURES = 10
"""The number of failed tasks that a run names."""
LONGEST_ERROR = 4_000
"""The number of characters of an error that a run names."""
MOST_COMPARED: Final = 100
"""The number of new runs whose ids are compared with an id that is missing."""
SHORTEST: Final = 8
"""The shortest beginning of an id by which a run is found: all runs of a minute have it in common."""
SIMILAR: Final = 0.85
"""The similarity from which an id may be meant: ids of the same second have half of their characters in common."""
UNFINISHED = models.Q(finished_at=None)
HAS_FLOW = models.Q(flow_id__isnull=False)
HAS_WAIT = models.Q(wait_id__isnull=False)
HAS_ERROR = models.Q(error_key__isnull=False)
#: When the status of a run last changed: `Run.status_time` as a database expression.
STATUS_AT = Coalesce("finished_at", Greatest(Coalesce("started_at", "created_at"), Coalesce("asked_at", "created_at")))


class RunQuerySet(models.QuerySet["Run"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return the runs of the caller's own trees."""
        return self if caller.sees_all else self.filter(user_id=caller.user_id)

    def ids_like(self, given: str) -> list[str]:
        """Return up to two ids for one that names no run: of the latest run of that root, of runs whose id has this beginning, or of a new run with nearly that id."""
        newest = self.order_by("-created_at")
        of_root = newest.filter(root_id=given[:255]).values_list("id", flat=True)[:1]
        start = given[:36]
        begun = self.filter(id__gte=start, id__lt=f"{start}g", id__startswith=start).values_list("id", flat=True)[:2]
        return (
            list(of_root)
            or (list(begun) if len(start) >= SHORTEST else [])
            or get_close_matches(given[:36], newest.values_list("id", flat=True)[:MOST_COMPARED], n=1, cutoff=SIMILAR)
        )

    def unfinished(self) -> Self:
        return self.filter(UNFINISHED)

    def unfinished_for(self, caller: Caller, user_id: str | None = None) -> Self:
        """Return the unfinished runs of the caller's own trees, or of this owner's among them.

        SQLite takes the index of the unfinished runs of an owner only for the sake of `turn`, and else reads all of their runs.
        """
        found = self.for_caller(caller).unfinished()
        found = found if user_id is None else found.filter(user_id=user_id)
        return found if caller.sees_all and user_id is None else found.filter(turn__gte=0)


class Run(models.Model):
    """One execution of a tree, or of the part of it that `target_id` needs.

    A worker holds a lease on the run: `lease_owner` until `lease_expires_at` (the database's
    clock). `epoch` increases with every claim, and `claim_token` is random, so that writes of earlier
    owners are refused, even if the database has lost the claim of one of them in a crash.
    `last_seq` is the sequence number of the newest event. The lowest `turn` is claimed first
    (`tasks.queue.fairness`). `asked_at` is when the run last asked its user for input, or continued
    after an answer. `losses` counts the workers that died with it in hand, `strikes` those that
    died of it, with the evidence in `deaths`, and `host_losses` those that died with their supervisor;
    `suspected_at` is when it became suspected (`tasks.queue.suspicion`), and `interruption` how it lost its latest worker. In a demo run executors return their example results.
    `wait_id` is the wait of a task of another run, which continues when this one ends.
    `flow_id` and `flow_version` say of which flow its tree was made; the flow may have been deleted. `flow_label` is the
    label that the caller named, and after a slash the one that got the run as its share: `production/candidate`.
    `model_calls` and the numbers after it are what its model calls used so far, or null; `cost_nanos` is in billionths
    of a US dollar, without the `unpriced_calls`.
    `failures` are, of a failed run, the first tasks that failed it, the cause first: each `{task_id, name, error}`,
    and `cause_id` if it was not run because that task failed.
    `error_key` is that of the error of the first one (`tasks.rules.error_texts`).
    A suspended run `needs` the code of workflows that the worker did not have which had it last (`tasks.queue.suspension`), and `needed_for` says
    since when, and for which task: `{since, tasks: {task_id: {need, difference}}}`.
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
    host_losses = models.PositiveIntegerField(db_default=0, default=0)
    deaths = JsonTextField(null=True)
    suspected_at = models.DateTimeField(null=True)
    interruption = models.CharField(max_length=8, db_default="", default="")
    last_seq = models.PositiveIntegerField(default=0)
    is_demo = models.BooleanField(db_default=False, default=False)
    wait_id = models.CharField(max_length=36, null=True)
    flow_id = models.CharField(max_length=36, null=True)
    flow_version = models.PositiveIntegerField(null=True)
    flow_label = models.CharField(max_length=65, null=True)
    trace = models.CharField(max_length=55, null=True)  # the span of the request (`tasks.telemetry.tracing`)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    asked_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    failures = JsonTextField(null=True)
    error_key = models.CharField(max_length=16, null=True)
    needs = models.TextField(null=True)
    needed_for = JsonTextField(null=True)
    model_calls = models.BigIntegerField(null=True)  # these are written with each call (`tasks.storage.usage`)
    prompt_tokens = models.BigIntegerField(null=True)
    completion_tokens = models.BigIntegerField(null=True)
    total_tokens = models.BigIntegerField(null=True)
    cost_nanos = models.BigIntegerField(null=True)
    unpriced_calls = models.BigIntegerField(null=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        app_label = "tasks"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["root_id", "-number"], name="run_of_tree"),
            models.Index(
                fields=["turn", "created_at"], name="run_unclaimed", condition=UNFINISHED & models.Q(lease_owner=None)
            ),
            models.Index(fields=["user_id", "turn"], name="run_unfinished_of_owner", condition=UNFINISHED),
            models.Index(
                fields=["lease_owner"], name="run_leased", condition=UNFINISHED & models.Q(lease_owner__isnull=False)
            ),
            models.Index(
                fields=["suspected_at"],
                name="run_suspected",
                condition=UNFINISHED & models.Q(suspected_at__isnull=False),
            ),
            models.Index(fields=["turn"], name="run_turn", condition=models.Q(started_at__isnull=False)),
            models.Index(fields=["finished_at"], name="run_finished"),
            models.Index(fields=["wait_id"], name="run_of_wait", condition=HAS_WAIT),
            models.Index(fields=["flow_id", "-created_at"], name="run_of_flow", condition=HAS_FLOW),
            models.Index(
                fields=["flow_id", "finished_at", "id"],
                name="run_ended_of_flow",
                condition=HAS_FLOW & models.Q(finished_at__isnull=False),
            ),
            models.Index(fields=["context_id", "created_at"], name="run_of_context"),
            models.Index("user_id", STATUS_AT.desc(), models.F("id").desc(), name="run_of_owner"),
            models.Index(STATUS_AT.desc(), models.F("id").desc(), name="run_recent"),
            models.Index(fields=["user_id", "status", "-created_at", "-id"], name="run_status_of_owner"),
            models.Index(fields=["status", "-created_at", "-id"], name="run_status"),
            models.Index(fields=["error_key", "user_id", "-finished_at"], name="run_of_error", condition=HAS_ERROR),
            models.Index(fields=["needs"], name="run_needing", condition=models.Q(needs__isnull=False)),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["root_id"], condition=UNFINISHED, name="one_unfinished_run_per_tree"),
        ]

    def __str__(self) -> str:
        return f"run {self.number} of {self.root_id}"

    @property
    def is_reserved(self) -> bool:
        """Whether the run has no tree yet (`tasks.services.trees.pending_runs`)."""
        return self.root_id == self.id

    @property
    def status_time(self) -> datetime:
        """Return when the run's status last changed."""
        return self.finished_at or max(filter(None, (self.created_at, self.started_at, self.asked_at)))

    @property
    def token_usage(self) -> Json | None:
        """Return what its model calls used, as `{prompt_tokens, completion_tokens, total_tokens, cost_usd}`; None without any."""
        if not self.model_calls:
            return None
        is_priced = self.model_calls > (self.unpriced_calls or 0)
        cost_usd = dollars(self.cost_nanos or 0) if is_priced else None
        return {name: getattr(self, name) or 0 for name in COUNTED} | {"cost_usd": cost_usd}


class RunCountQuerySet(models.QuerySet["RunCount"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return the numbers of the caller's own runs."""
        return self if caller.sees_all else self.filter(user_id=caller.user_id)


class RunCount(models.Model):
    """The runs of a user that ended in one hour, or in the 24 `hours` of a day, in UTC: of one flow, or of none (""), with one status and error key.

    `hour` is its beginning, in hours since 1970. An hour is counted once, when it is over, and a day when its hours are
    (`tasks.services.history.run_counts`). The row never changes: deleted runs stay counted. `newest_id` is the run among
    them that was created last.
    """

    user_id = models.CharField(max_length=255)
    hours = models.PositiveSmallIntegerField()
    hour = models.PositiveIntegerField()
    flow_id = models.CharField(max_length=36)
    status = models.CharField(max_length=11, choices=STATUS_CHOICES)
    error_key = models.CharField(max_length=16)
    runs = models.PositiveIntegerField()
    total_tokens = models.BigIntegerField()
    cost_nanos = models.BigIntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    newest_id = models.CharField(max_length=36)

    objects = RunCountQuerySet.as_manager()

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["user_id", "hours", "hour", "flow_id", "status", "error_key"], name="runs_counted_once"
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["hours", "hour"], name="runs_counted_at"),
            models.Index(fields=["error_key", "hours", "hour", "runs"], name="runs_counted_of_error"),
        ]

    def __str__(self) -> str:
        return f"{self.runs} {self.status} of {self.user_id} in {self.hours} h from {self.hour}"


class RunInputs(models.Model):
    """The inputs of a run that was started with some (`tasks.services.runs.run_inputs`)."""

    run_id = models.CharField(primary_key=True, max_length=36)
    inputs = JsonTextField()

    class Meta:
        app_label = "tasks"
        verbose_name_plural = "run inputs"

    def __str__(self) -> str:
        return f"inputs of run {self.run_id}"


class RunTag(models.Model):
    """A tag of a run (`tasks.rules.tags`), with what lists of the runs that have it are sorted and filtered by."""

    run_id = models.CharField(max_length=36)
    tag = models.CharField(max_length=64)
    user_id = models.CharField(max_length=255)
    created_at = models.DateTimeField()  # of the run

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["run_id", "tag"], name="tag_of_run"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["user_id", "tag", "-created_at", "-run_id"], name="tagged_of_owner"),
            models.Index(fields=["tag", "-created_at", "-run_id"], name="tagged"),
        ]

    def __str__(self) -> str:
        return f"{self.tag} of run {self.run_id}"


class TaskEvent(models.Model):
    """An event of a run. `seq` is dense: 1, 2, 3 … within the run. Append only."""

    run_id = models.CharField(max_length=36)
    seq = models.PositiveIntegerField()
    type = models.CharField(max_length=16)
    task_id = models.CharField(max_length=255)
    payload = JsonTextField()
    created_at = models.DateTimeField()

    class Meta:
        app_label = "tasks"
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
        app_label = "tasks"
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["run_id"], name="cancel_of_run")]

    def __str__(self) -> str:
        return f"cancel {self.task_id} in {self.run_id}"
