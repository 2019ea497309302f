"""Data sets with their versions, experiments, which score versions of a flow on a data set, the scores of runs, and judges of flows."""

from difflib import get_close_matches
from typing import ClassVar, Self

from django.db import models

from accounts.callers import Caller
from tasks.fields import JsonTextField
from tasks.ids import new_id
from tasks.models.flows import MOST_COMPARED, Flow


class DatasetQuerySet(models.QuerySet["Dataset"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return the data sets that the caller may see, use and change: the single home of this authorization."""
        return self if caller.sees_all else self.filter(user_id=caller.user_id)

    def names_like(self, name: str) -> list[str]:
        """Return up to two names that are nearly this one."""
        names = sorted(set(self.values_list("name", flat=True)[:MOST_COMPARED]))
        return get_close_matches(name[:100], names, n=2)


class Dataset(models.Model):
    """A data set of a user. `version` is the number of its newest version; 0 only inside the transaction that stores the first.

    `flow` is the name of the flow whose inputs its rows are, or "".
    """

    id = models.CharField(primary_key=True, max_length=36, default=new_id)
    user_id = models.CharField(max_length=255)
    name = models.CharField(max_length=100)
    flow = models.CharField(max_length=100, default="")
    version = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = DatasetQuerySet.as_manager()

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user_id", "name"], name="dataset_of_owner"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["name", "user_id"], name="dataset_by_name"),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.user_id}"


class DatasetVersion(models.Model):
    """The rows of a data set, as one save has stored them: each `{inputs, expected?, tags?, source?}`. They never change."""

    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="versions", db_constraint=False)
    number = models.PositiveIntegerField()
    rows = JsonTextField()
    count = models.PositiveIntegerField()
    created_at = models.DateTimeField()

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["dataset", "number"], name="version_of_dataset"),
        ]

    def __str__(self) -> str:
        return f"version {self.number} of {self.dataset_id}"


class ExperimentQuerySet(models.QuerySet["Experiment"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return the experiments of the caller's own trees."""
        return self if caller.sees_all else self.filter(user_id=caller.user_id)


class Experiment(models.Model):
    """An experiment, which a tree carries out. `id` is that of its root, whose `params.for_each.items` are the cases; it is deleted with the tree.

    `split` is the tag of the rows that were used, or "" for all. `versions` are those of the flow, one for each variant, and None for a workflow (`flow` is `workflow:NAME`). `variants` have their names
    and what they change; the first one is what the other is compared with.
    """

    id = models.CharField(primary_key=True, max_length=255)
    user_id = models.CharField(max_length=255)
    dataset = models.CharField(max_length=100)
    dataset_version = models.PositiveIntegerField()
    flow = models.CharField(max_length=100)
    versions = JsonTextField()
    variants = JsonTextField(default=list)
    evaluators = JsonTextField()
    repeats = models.PositiveSmallIntegerField()
    cases = models.PositiveIntegerField()
    split = models.CharField(max_length=64, default="", db_default="")
    created_at = models.DateTimeField()

    objects = ExperimentQuerySet.as_manager()

    class Meta:
        app_label = "tasks"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["user_id", "-created_at", "-id"], name="experiment_of_owner"),
            models.Index(fields=["-created_at", "-id"], name="experiment_recent"),
        ]

    def __str__(self) -> str:
        return f"{self.dataset} with {self.flow} ({self.id})"

    @property
    def names(self) -> list[str]:
        """The names of the variants. An experiment of an earlier version of the server has versions alone."""
        return [each["name"] for each in self.variants] or [f"version {number:,}" for number in self.versions]


class Score(models.Model):
    """A score of a run, or of its task `task_id` if that is not empty: by a `person`, the `end_user` of an application, or a `judge` (`source`).

    `value` is a number, a boolean or a category, and `by` the user who set it.
    """

    run_id = models.CharField(max_length=36)
    task_id = models.CharField(max_length=255, default="")
    name = models.CharField(max_length=64)
    source = models.CharField(max_length=9)
    value = JsonTextField()
    reason = models.TextField(null=True)
    by = models.CharField(max_length=255)
    at = models.DateTimeField()

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["run_id", "task_id", "name", "source"], name="score_of_run"),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.run_id}"


class Judge(models.Model):
    """A judge of a flow, whose `evaluator` scores `sample` percent of its ended runs for at most `cost_usd` US dollars on a day in UTC.

    Runs that ended up to `position`, of those of this time up to the id `position_id`, have been looked at. `root_id` is the root of the
    tree that judges at present, or "", and `in_hand` maps the ids of its tasks that score to those of the runs. `recent` are the newest numbers, newest first: the
    mean of `runs` of them is compared with `below`, and `alert` has the mean and the time with which the owner was informed.
    """

    id = models.CharField(primary_key=True, max_length=36, default=new_id)
    flow = models.ForeignKey(Flow, models.CASCADE, related_name="judges", db_constraint=False)
    name = models.CharField(max_length=64)
    evaluator = JsonTextField()
    sample = models.FloatField()
    cost_usd = models.FloatField(null=True)
    below = models.FloatField(null=True)
    runs = models.PositiveIntegerField()
    position = models.DateTimeField()
    position_id = models.CharField(max_length=36, default="")
    looked_at = models.DateTimeField()
    root_id = models.CharField(max_length=255, default="")
    in_hand = JsonTextField(default=dict)
    batches = models.PositiveBigIntegerField(default=0)
    day = models.DateField()
    spent_nanos = models.BigIntegerField(default=0)
    judged = models.PositiveBigIntegerField(default=0)
    not_scored = models.PositiveBigIntegerField(default=0)
    over_budget = models.PositiveBigIntegerField(default=0)
    problem = models.TextField(default="")
    recent = JsonTextField(default=list)
    alert = JsonTextField(null=True)

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["flow", "name"], name="judge_of_flow"),
        ]

    def __str__(self) -> str:
        return f"judge {self.name} of {self.flow_id}"

    @property
    def mean(self) -> float | None:
        """The mean of the newest scores, at most `runs`; None without a number."""
        newest = self.recent[: self.runs]
        return sum(newest) / len(newest) if newest else None
