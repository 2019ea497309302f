"""The waits of tasks: questions, times, events and other runs."""

import secrets
from typing import ClassVar, Self

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from accounts.callers import Caller
from tasks.fields import JsonTextField
from tasks.ids import new_id
from tasks.models.choices import choices_of
from tasks.models.runs import Run
from tasks.status import OnExpiry, WaitKind

IS_OPEN = models.Q(closed_at=None)
IS_ANSWERED = models.Q(answered_at__isnull=False)
EXPIRES = models.Q(expires_at__isnull=False)


class QuestionQuerySet(models.QuerySet["Question"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return the questions of the caller's own runs."""
        return self if caller.sees_all else self.filter(run__user_id=caller.user_id)

    def assigned_to(self, caller: Caller) -> Self:
        """Return the questions of which the caller, or a role of the caller, is an assignee."""
        return self.filter(id__in=Assignee.objects.filter(name__in=caller.names).values("question_id"))

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
    """The wait of a task: for the answer to its question, a time, an event, or another run.

    It ends at `answered_at` with an answer or an event (`taken_id`), or at `expires_at`: then the task
    fails or, by `on_expiry`, resumes. From `closed_at` on the task no longer waits for it.

    A wait for a run has the `tree` that is to run, until it does: then `Run.wait_id` is its id.

    A wait for a named limit has its owner, and as `event` the key of its `SharedLimit`. It has a `turn` once it is in the queue.

    A wait for an equal call (`params.cache`) has its key as `event`.

    A wait for an event has its owner (`user_id`) and what the payload must contain: `match`, and
    for look-ups `shape` and `digest` (`tasks.rules.waits`). Events from `since` on count.

    With `assignees` only they may answer, and administrators; without, the owner of the run. At
    `alarm_at` it reminds of itself, or gets further assignees.
    """

    id = models.CharField(primary_key=True, max_length=36, default=new_id)
    run = models.ForeignKey(Run, models.CASCADE, related_name="questions", db_constraint=False)
    task_id = models.CharField(max_length=255)
    text = models.TextField()
    options = JsonTextField(null=True)
    schema = JsonTextField(null=True)  # of the form (`tasks.rules.forms`)
    assignees = JsonTextField(null=True)  # user ids and `role:NAME`
    alarms = JsonTextField(null=True)  # those to come (`tasks.rules.waits`)
    alarm_at = models.DateTimeField(null=True)  # the next of them
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
    tree = JsonTextField(null=True)
    turn = models.BigIntegerField(null=True)

    objects = QuestionQuerySet.as_manager()

    class Meta:
        app_label = "tasks"
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
            models.Index(
                fields=["alarm_at"],
                name="question_alarm",
                condition=models.Q(closed_at=None, answered_at=None, alarm_at__isnull=False),
            ),
            models.Index(fields=["answered_at"], name="question_answered", condition=IS_OPEN & IS_ANSWERED),
            models.Index(
                fields=["user_id", "event", "shape", "digest"],
                name="wait_for_event",
                condition=models.Q(closed_at=None, answered_at=None, kind="event"),
            ),
            models.Index(
                fields=["event", "turn"],
                name="wait_for_limit",
                condition=models.Q(closed_at=None, kind="limit"),
            ),
            models.Index(
                fields=["event"],
                name="wait_for_call",
                condition=models.Q(closed_at=None, answered_at=None, kind="call"),
            ),
            models.Index(fields=["taken_id"], name="wait_that_took", condition=models.Q(taken_id__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.text[:80]} ({self.task_id})"

    def may_be_answered_by(self, caller: Caller) -> bool:
        """Return the single home of this authorization. `Caller.may` decides besides whether the caller may change anything."""
        if caller.sees_all:
            return True
        if self.assignees is None:
            return bool(self.run.user_id == caller.user_id)
        return not caller.names.isdisjoint(self.assignees)


class Assignee(models.Model):
    """An assignee of a question that is not answered, for the list of the questions of an assignee."""

    question = models.ForeignKey(Question, models.CASCADE, related_name="+", db_constraint=False)
    name = models.CharField(max_length=255)

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["name", "question"], name="assignee_once"),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.question_id}"


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
        app_label = "tasks"
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


class SharedLimit(models.Model):
    """The state of a named limit (`tasks.rules.limits`): its `debts` in seconds at `seen_at`, by the database's clock.

    `turn` is the highest one that has started.
    """

    key = models.CharField(primary_key=True, max_length=100)
    debts = JsonTextField(default=dict)
    turn = models.BigIntegerField(default=0)
    seen_at = models.DateTimeField()

    class Meta:
        app_label = "tasks"

    def __str__(self) -> str:
        return self.key


class NamedLimitQuerySet(models.QuerySet["NamedLimit"]):
    def names_for(self, user_id: str) -> frozenset[str]:
        """Return the names of the limits that tasks of this user may join."""
        stored = self.filter(user_id__in=["", user_id], kind="").values_list("name", flat=True)
        return frozenset(settings.APFLOW.limits.shared or ()).union(stored)

    def version(self) -> tuple[int, int]:
        """Return what differs after each change."""
        found = self.aggregate(count=models.Count("id"), stamps=models.Sum("stamp"))
        return found["count"], found["stamps"] or 0


def new_stamp() -> int:
    return secrets.randbits(31)


class NamedLimit(models.Model):
    """A named limit that was set (`limits.set`), or a pause (`kind`: of a flow, executor, provider or user).

    One of all users (`user_id` "") replaces one of the configuration with the same name. `id` is that of its `Limit`. `stamp` is
    random for each change.
    """

    id = models.CharField(primary_key=True, max_length=64)
    name = models.CharField(max_length=255)
    kind = models.CharField(max_length=8, db_default="", default="")
    user_id = models.CharField(max_length=255, db_default="", default="")
    given = JsonTextField()
    set_by = models.CharField(max_length=255)
    set_at = models.DateTimeField()
    stamp = models.PositiveIntegerField(default=new_stamp, db_default=0)

    objects = NamedLimitQuerySet.as_manager()

    class Meta:
        app_label = "tasks"
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["user_id"], name="limits_of_user")]

    def __str__(self) -> str:
        return self.name


class LimitPlace(models.Model):
    """Places of a named limit with `at_once`: a task has them from before its attempt until the end of it, or until its run is over.

    Without a run, those that the worker process `task_id` has for its tasks, as long as it lives.
    """

    key = models.CharField(max_length=100)
    run = models.ForeignKey(Run, models.CASCADE, related_name="+", db_constraint=False)
    task_id = models.CharField(max_length=255)
    places = models.PositiveIntegerField(db_default=1, default=1)

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["run", "task_id", "key"], name="one_place_per_task"),
        ]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["key"], name="places_of_limit")]

    def __str__(self) -> str:
        return f"{self.key}: {self.task_id}"


class OpenWaits(models.Model):
    """The number of waits of a user that have begun since they were counted, and were open then: never less than are open now."""

    user_id = models.CharField(primary_key=True, max_length=255)
    taken = models.BigIntegerField()

    class Meta:
        app_label = "tasks"

    def __str__(self) -> str:
        return f"{self.taken} waits of {self.user_id}"
