"""Data sets with their versions, experiments, which score versions of a flow on a data set, and the scores of runs."""

from difflib import get_close_matches
from typing import ClassVar, Self

from django.db import models

from accounts.callers import Caller
from tasks.fields import JsonTextField
from tasks.ids import new_id
from tasks.models.flows import MOST_COMPARED


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
    """A score of a run, or of its task `task_id` if that is not empty: by a `person` or the `end_user` of an application (`source`).

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
