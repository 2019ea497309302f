"""Labels of the versions of a flow: set, move and remove them, undo a move, and the experiment that a policy asks for.

Labels are in the row of the flow, which is locked meanwhile: a move is one audited act, and a run that starts sees it whole or
not at all. Runs that have started keep their version.
"""

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import partial
from typing import Any, Final

import orjson
from django.db import transaction

from accounts import audit
from accounts.audit import Action
from accounts.callers import Caller
from apflow_site.db.beforehand import beforehand
from tasks.models import Dataset, Experiment, Flow, FlowVersion
from tasks.rules.exceptions import FlowNotFound, InvalidParams
from tasks.rules.flows import (
    LABEL,
    LABEL_RULE,
    LONGEST_REFERENCE,
    MOST_LABELS,
    MOST_MOVES,
    Label,
    Labels,
    Move,
    problems_of_shares,
    version_of,
)
from tasks.rules.strict_json import Json
from tasks.services.evals.results import Variant, get_result
from tasks.services.flows import get_flow
from tasks.services.trees.queries import latest_runs
from tasks.status import Status

LOOKED_AT: Final = 100
"""The experiments of a version among which a policy looks for the newest that fits."""
NO_EARLIER: Final = "has had one version only, so there is no move to undo"


@transaction.atomic
def set_label(
    *,
    caller: Caller,
    name: str,
    label: str,
    reason: str,
    version: int | None = None,
    shares: Mapping[str, float] | None = None,
    policy: Json | None = None,
    user_id: str | None = None,
) -> Flow:
    """Give a label of a flow a version, shares or a policy; None leaves each as it is, and an empty one removes it.

    A label is new with its first version. Raises FlowNotFound, also for a version that is not there, or InvalidParams, also if the
    policy asks for an experiment that is missing; then nothing is stored.
    """
    flow = _locked(caller, name, user_id)
    labels: dict[str, Label] = {**(flow.labels or {})}
    before = labels.get(label)
    if before is None:
        _refuse_new(flow, labels, label, version)
    after: Label = before.copy() if before else {"moves": [], "shares": {}}
    if shares is not None:
        after["shares"] = dict(shares)
    if policy is not None:
        after["policy"] = policy or None
    current = version_of(before) if before else None
    if version is not None and version != current:
        move = Move(version=version, at=datetime.now(UTC).isoformat(), by=caller.user_id, reason=reason)
        after["moves"] = [move, *after["moves"]][:MOST_MOVES]
    labels[label] = after
    if problems := list(problems_of_shares(labels, label, after["shares"])):
        raise InvalidParams(problems)
    if version is not None and version != current:
        _refuse_move(flow, version, current, after.get("policy"))
    details: dict[str, Any] = {} if shares is None else {"shares": orjson.dumps(dict(shares)).decode()}
    details |= {} if policy is None else {"policy": orjson.dumps(policy).decode()}
    _store(
        flow, labels, Action.FLOW_LABELLED, caller, label, reason, version=version_of(after), before=current, **details
    )
    return flow


@transaction.atomic
def undo_label(*, caller: Caller, name: str, label: str, reason: str, user_id: str | None = None) -> Flow:
    """Give a label the version back that it had before its newest move. No policy stops this. Raises FlowNotFound or InvalidParams."""
    flow = _locked(caller, name, user_id)
    labels = {**(flow.labels or {})}
    before = _existing(flow, labels, label)
    earlier = before["moves"][1:]
    if not earlier:
        raise InvalidParams([("label", NO_EARLIER)])
    _version(flow, earlier[0]["version"])
    labels[label] = before | {"moves": earlier}
    changed = {"version": earlier[0]["version"], "before": version_of(before)}
    _store(flow, labels, Action.FLOW_LABELLED, caller, label, reason, is_undo=True, **changed)
    return flow


@transaction.atomic
def remove_label(*, caller: Caller, name: str, label: str, reason: str, user_id: str | None = None) -> Flow:
    """Remove a label, and its shares of the callers of others. Raises FlowNotFound."""
    flow = _locked(caller, name, user_id)
    labels = {**(flow.labels or {})}
    before = _existing(flow, labels, label)
    rest = {
        other: given | {"shares": {taker: share for taker, share in given["shares"].items() if taker != label}}
        for other, given in labels.items()
        if other != label
    }
    _store(flow, rest, Action.FLOW_UNLABELLED, caller, label, reason, before=version_of(before))
    return flow


def _locked(caller: Caller, name: str, user_id: str | None) -> Flow:
    flow = get_flow(caller=caller, name=name, user_id=user_id)
    found = Flow.objects.filter(id=flow.id).select_for_update().first()
    if found is None:  # deleted meanwhile
        raise FlowNotFound(name)
    return found


def _existing(flow: Flow, labels: Labels, label: str) -> Label:
    if label not in labels:
        close = get_close_matches(label[:100], labels, n=2)
        raise FlowNotFound(flow.name, label=label[:100], close_matches=close)
    return labels[label]


def _version(flow: Flow, number: int) -> FlowVersion:
    found = FlowVersion.objects.of(flow).filter(number=number).defer("definition").first()
    if found is None:
        raise FlowNotFound(flow.name, version=number, newest=flow.version)
    return found


def _refuse_new(flow: Flow, labels: Labels, label: str, version: int | None) -> None:
    """Raise InvalidParams if there cannot be a new label of this name, or it has no version."""
    if not LABEL.fullmatch(label):
        raise InvalidParams([("label", LABEL_RULE)])
    if version is None:
        raise InvalidParams([("version", f"is required: the flow has no label '{label}' yet")])
    if len(f"{flow.name}@{label}") > LONGEST_REFERENCE:
        reason = f"is too long: '{flow.name}@{label}' would have more than {LONGEST_REFERENCE} characters"
        raise InvalidParams([("label", reason)])
    if len(labels) >= MOST_LABELS:
        raise InvalidParams([("label", f"would be one too many: the flow has {MOST_LABELS}. Remove one of them first")])


def _refuse_move(flow: Flow, number: int, current: int | None, policy: Json | None) -> None:
    """Raise FlowNotFound for a version that is not there, and InvalidParams for one without the experiment that the policy asks for."""
    version = _version(flow, number)
    if policy is None:
        return
    # The result of an experiment may take long to compute, so it is not computed under the lock.
    look = partial(unmet, flow, version, current, policy)
    if reason := beforehand("policy", look, flow.id, number, current, policy):
        raise InvalidParams([("version", reason)])


def _store(flow: Flow, labels: Labels, action: Action, caller: Caller, label: str, reason: str, **details: Any) -> None:
    flow.labels = labels or None
    flow.save(update_fields=["labels"])
    audit.record(
        action, actor=caller.user_id, target=flow.name, owner=flow.user_id, label=label, reason=reason, **details
    )


# --- policies ---


def unmet(flow: Flow, version: FlowVersion, current: int | None, policy: Json) -> str | None:
    """Return what a version lacks by a policy `{dataset, evaluator, at_least?, not_worse?}`, and the command to run; None if it lacks nothing.

    The newest completed experiment decides that has this version, made of the newest version of the data set: of several,
    nobody chooses the best.
    """
    dataset, evaluator = policy["dataset"], policy["evaluator"]
    compared = current if policy.get("not_worse") and current not in (None, version.number) else None
    used = Dataset.objects.filter(user_id=flow.user_id, name=dataset).first()
    if used is None:
        return (
            f"needs an experiment on the data set '{dataset}', which does not exist: the policy of the label names it"
        )
    made = Experiment.objects.filter(
        user_id=flow.user_id, flow=flow.name, dataset=dataset, dataset_version=used.version
    )
    made = made.filter(created_at__gte=version.created_at).order_by("-created_at", "-id")
    fitting = [
        each
        for each in made[:LOOKED_AT]
        if version.number in _unchanged(each)
        and (compared is None or compared in _unchanged(each))
        and evaluator in [one["name"] for one in each.evaluators]
    ]
    owner = Caller(user_id=flow.user_id)
    runs = latest_runs(caller=owner, root_ids=[each.id for each in fitting])
    newest = next((each for each in fitting if (run := runs.get(each.id)) and run.status == Status.COMPLETED), None)
    wanted = [version.number] if compared is None else [compared, version.number]
    command = _command(flow, dataset, evaluator, wanted)
    if newest is None:
        of = " and ".join(f"version {number:,}" for number in wanted)
        return f"needs a completed experiment of {of} on version {used.version:,} of the data set '{dataset}'. Run {command}"
    variants = {each.name: each for each in get_result(caller=owner, experiment_id=newest.id, limit=1).variants}
    names = _unchanged(newest)
    mean = _mean(variants[names[version.number]], evaluator)
    if mean is None:
        return f"has no score '{evaluator}' in the experiment {newest.id}. Run {command}"
    least = policy.get("at_least")
    if least is not None and mean < least:
        return f"has {evaluator} {mean:.3g} in the experiment {newest.id}, and the policy asks for {least:g} at least"
    other = None if compared is None else _mean(variants[names[compared]], evaluator)
    if other is not None and mean < other:
        return f"has {evaluator} {mean:.3g} in the experiment {newest.id}, and version {compared:,} has {other:.3g}"
    return None


def _unchanged(experiment: Experiment) -> dict[int, str]:
    """Map each version that the experiment ran as it is stored to the name of its variant."""
    variants = experiment.variants or [{} for _ in experiment.versions]
    named = zip(experiment.versions, experiment.names, variants, strict=True)
    return {version: name for version, name, variant in named if version is not None and not variant.get("changes")}


def _command(flow: Flow, dataset: str, evaluator: str, versions: Sequence[int]) -> str:
    """Return the command that runs the experiment, with the evaluator as the newest one on the data set had it, else an exact one."""
    earlier = Experiment.objects.filter(user_id=flow.user_id, dataset=dataset).order_by("-created_at")[:LOOKED_AT]
    found = next((one["with"] for each in earlier for one in each.evaluators if one["name"] == evaluator), "exact")
    kind, what = ("exact", {}) if isinstance(found, str) else next(iter(found.items()))
    more = {"exact": lambda: what.get("path", ""), "expression": lambda: what}.get(kind, lambda: "FILE")()
    numbers = " ".join(f"--version {number}" for number in versions)
    option = kind if kind in ("exact", "expression", "schema") else "evaluator"
    option = f"--{option} {shlex.quote(f'{evaluator}={more}' if more else evaluator)}"
    return f"aipartnerupflow evals run {dataset} --flow {flow.name} {numbers} {option}"


def _mean(variant: Variant, evaluator: str) -> float | None:
    found = variant.scores.get(evaluator)
    return None if found is None or found.estimate is None else found.estimate.mean
