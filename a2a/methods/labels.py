"""Methods for labels of the versions of a flow: callers run `NAME@LABEL`, and a label moves in one act."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, to_builtins

from a2a.core.parsing import Params, Problem, Text
from a2a.methods.method import OPERATOR, VIEWER, Response, Rest, has_one_of, method
from a2a.methods.params import FlowName, Version
from a2a.methods.results import DataResult
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.models import Flow
from tasks.rules import exceptions as errors
from tasks.rules.flows import LABEL, version_of
from tasks.rules.strict_json import Json
from tasks.services import flows
from tasks.services.evals import labels

LabelName = Annotated[str, Meta(extra_json_schema={"pattern": f"^{LABEL.pattern}$"})]
Reason = Annotated[str, Meta(min_length=1, max_length=500)]
Shares = dict[str, float]


class Policy(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, omit_defaults=True):
    """A move of the label needs a completed experiment of the version on the data set. Its mean score must be `at_least` this, and `not_worse` than that of the version that has the label, in the same experiment."""

    dataset: FlowName
    evaluator: Text
    at_least: float | None = None
    not_worse: bool = False


class SetLabel(Params, frozen=True, kw_only=True):
    """flows.label"""

    NULLABLE = frozenset({"policy"})

    name: FlowName
    label: LabelName
    reason: Reason
    """The audit log has it."""
    version: Version | None = None
    """Default: the one that the label has."""
    shares: Annotated[Shares, Meta(extra_json_schema={"maxProperties": 20})] | None = None
    """The percentage of the callers of this label that get the version of another label, as in `{"candidate": 10}`. Default: unchanged; `{}` ends it."""
    policy: Policy | UnsetType | None = UNSET
    """Default: unchanged; null removes it."""
    user_id: Text | None = None

    def contradictions(self) -> list[Problem]:
        found = super().contradictions()
        if self.version is None and self.shares is None and self.policy is UNSET:
            found.append(("version", "required, or shares, or policy: else nothing changes"))
        return found


class OneLabel(Params, frozen=True, kw_only=True):
    """flows.undo_label and flows.unlabel"""

    name: FlowName
    label: Text
    reason: Reason
    user_id: Text | None = None


class ListLabels(Params, frozen=True, kw_only=True):
    """flows.labels"""

    name: FlowName
    user_id: Text | None = None


class LabelMove(Response, frozen=True, kw_only=True):
    """A move of a label to a version."""

    version: int
    at: str
    by: str
    reason: str


class Label(Response, frozen=True, kw_only=True):
    """A label, its version, the percentages of its callers that get the versions of other labels, and its moves, newest first."""

    label: str
    version: int
    shares: Shares
    policy: Policy | None
    moves: list[LabelMove]


class Labels(Response, frozen=True, kw_only=True):
    """The labels of a flow, by name."""

    name: str
    user_id: str
    newest_version: int
    labels: list[Label]


@method(
    "flows.label",
    role=OPERATOR,
    answer=Labels,
    rest=[
        Rest(
            "labelFlow",
            "PUT flows/<name>/labels/",
            errors=(errors.FlowNotFound,),
            rules={
                "required": ["label", "reason"],
                "anyOf": [*has_one_of("version", "shares"), {"required": ["policy"]}],
            },
        )
    ],
)
async def set_label(caller: Caller, given: SetLabel) -> DataResult:
    """Give a label of a flow a version, shares of its callers, or a policy. Runs that have started keep their version."""
    policy = None if given.policy is UNSET else to_builtins(given.policy) or {}
    flow = await pools.write(
        labels.set_label,
        caller=caller,
        name=given.name,
        label=given.label,
        reason=given.reason,
        version=given.version,
        shares=given.shares,
        policy=policy,
        user_id=given.user_id,
    )
    return _result(flow)


@method(
    "flows.undo_label",
    role=OPERATOR,
    answer=Labels,
    rest=[
        Rest(
            "undoLabel",
            "POST flows/<name>/labels/undo/",
            errors=(errors.FlowNotFound,),
            rules={"required": ["label", "reason"]},
        )
    ],
)
async def undo_label(caller: Caller, given: OneLabel) -> DataResult:
    """Give a label the version back that it had before its newest move. No policy stops this."""
    return _result(await pools.write(labels.undo_label, caller=caller, **_arguments(given)))


@method(
    "flows.unlabel",
    role=OPERATOR,
    answer=Labels,
    rest=[Rest("unlabelFlow", "DELETE flows/<name>/labels/", errors=(errors.FlowNotFound,))],
)
async def remove_label(caller: Caller, given: OneLabel) -> DataResult:
    """Remove a label of a flow, and its shares of the callers of other labels."""
    return _result(await pools.write(labels.remove_label, caller=caller, **_arguments(given)))


@method(
    "flows.labels",
    role=VIEWER,
    answer=Labels,
    rest=[Rest("listFlowLabels", "GET flows/<name>/labels/", errors=(errors.FlowNotFound,))],
)
def list_labels(caller: Caller, given: ListLabels) -> DataResult:
    """Return the labels of a flow, by name, with their moves."""
    return _result(flows.get_flow(caller=caller, name=given.name, user_id=given.user_id))


def _arguments(given: OneLabel) -> dict[str, Any]:
    return {"name": given.name, "label": given.label, "reason": given.reason, "user_id": given.user_id}


def _result(flow: Flow) -> DataResult:
    shown: list[Json] = [
        {
            "label": label,
            "version": version_of(each),
            "shares": each["shares"],
            "policy": each.get("policy"),
            "moves": each["moves"],
        }
        for label, each in sorted((flow.labels or {}).items())
    ]
    return DataResult(
        native={"name": flow.name, "user_id": flow.user_id, "newest_version": flow.version, "labels": shown}
    )
