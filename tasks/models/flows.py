"""Flows: definitions of trees that run again and again with inputs, and their versions."""

from difflib import get_close_matches
from typing import ClassVar, Final, Self

from django.db import models

from accounts.callers import Caller
from tasks.fields import JsonTextField
from tasks.ids import new_id
from tasks.rules.flows import chosen, version_of

MOST_COMPARED: Final = 1_000
"""The number of names that are compared with a name that is missing."""


class FlowQuerySet(models.QuerySet["Flow"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return the flows that the caller may see, run and change: the single home of this authorization."""
        return self if caller.sees_all else self.filter(user_id=caller.user_id)

    def names_like(self, name: str) -> list[str]:
        """Return up to two names that are nearly this one."""
        names = sorted(set(self.values_list("name", flat=True)[:MOST_COMPARED]))
        return get_close_matches(name[:100], names, n=2)


class Flow(models.Model):
    """A flow of a user. `version` is the number of its newest version; 0 only inside the transaction that stores the first.

    `labels` maps the name of each label to its moves, shares and policy (`tasks.rules.labels.Label`).
    """

    id = models.CharField(primary_key=True, max_length=36, default=new_id)
    user_id = models.CharField(max_length=255)
    name = models.CharField(max_length=100)
    version = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    is_tool = models.BooleanField(db_default=False, default=False)  # whether MCP clients of its owner get it as a tool
    labels = JsonTextField(null=True)

    objects = FlowQuerySet.as_manager()

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user_id", "name"], name="flow_of_owner"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["name", "user_id"], name="flow_by_name"),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.user_id}"

    def labelled(self, label: str, *, key: str | None = None) -> tuple[int, str] | None:
        """Return the version that a caller of a label gets, and how it was chosen, as `Run.flow_label` says it. None: there is no such label.

        With a `key`, the version may be that of another label which has a share of the callers.
        """
        if label not in (labels := self.labels or {}):
            return None
        taker = chosen(self.name, labels, label, key=key)
        return version_of(labels[taker]), label if taker == label else f"{label}/{taker}"


class FlowVersionQuerySet(models.QuerySet["FlowVersion"]):
    def of(self, flow: Flow) -> Self:
        """Return the versions of a flow, newest first."""
        return self.filter(flow_id=flow.id).order_by("-number")

    def referred(self, flows: FlowQuerySet, reference: str) -> Self:
        """Return the version that NAME or NAME@LABEL means among the flows of one user: the newest, or that of the label. None if there is none."""
        name, _, label = reference.partition("@")
        if not label:
            return self.filter(flow__in=flows.filter(name=reference), number=models.F("flow__version"))
        flow = flows.filter(name=name).first()
        found = flow and flow.labelled(label)
        return self.of(flow).filter(number=found[0]) if flow and found else self.none()


class FlowVersion(models.Model):
    """The content of a flow, as one save has stored it. It never changes.

    `digest` is of its content: saving the same again makes no new version.
    """

    flow = models.ForeignKey(Flow, models.CASCADE, related_name="+", db_constraint=False)
    number = models.PositiveIntegerField()
    definition = JsonTextField()  # the tasks, in the format of `tasks.create`
    inputs_schema = JsonTextField(null=True)
    description = models.TextField(default="")
    digest = models.CharField(max_length=64)
    created_at = models.DateTimeField()

    objects = FlowVersionQuerySet.as_manager()

    class Meta:
        app_label = "tasks"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["flow", "number"], name="version_of_flow"),
        ]

    def __str__(self) -> str:
        return f"version {self.number} of {self.flow.pk}"
