"""Labels as services: moves at once, moves that are killed, what a policy asks for, and the version of runs."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.callers import LOCAL
from accounts.models import AuditEntry
from tasks.models import Flow, Run
from tasks.rules.exceptions import FlowNotFound, InvalidParams
from tasks.services.evals import labels
from tests.servers import ROOT, environment_of, new_database
from tests.tasks.services.evals.test_experiments import save_flow, save_rows, started, worked
from tests.tasks.services.flows.test_flows import limited, run, saved
from tests.tasks.services.trees.test_idempotency import together
from tests.tasks.trees import ALICE, BOB
from tests.workers import WorkerThread

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]


def versions(count: int, name: str = "tea") -> None:
    for number in range(count):
        saved(name, description=f"Version {number + 1}.")


def move(version: int | None = None, label: str = "production", **more: Any) -> Flow:
    given: Any = {"caller": ALICE, "name": "tea", "label": label, "version": version, "reason": "better"}
    return labels.set_label(**(given | more))


def labelled(name: str = "production", flow: str = "tea") -> int:
    version: int = (Flow.objects.get(name=flow).labels or {})[name]["moves"][0]["version"]
    return version


@pytest.mark.both_engines
def test_moves_at_once_are_one_after_the_other_and_none_is_lost() -> None:
    versions(6)
    move(6)
    numbers = iter([1, 2, 3, 4, 5])
    together(5, lambda: move(next(numbers)))
    moves = Flow.objects.get().labels["production"]["moves"]
    assert sorted(each["version"] for each in moves) == [1, 2, 3, 4, 5, 6]
    entries = list(AuditEntry.objects.filter(action="flow.labelled").order_by("id"))
    assert [entry.details["version"] for entry in entries] == [each["version"] for each in reversed(moves)]
    chain = [(entry.details["before"], entry.details["version"]) for entry in entries]
    assert all(after == before for (_, after), (before, _) in pairwise(chain))


@pytest.mark.both_engines
def test_runs_have_the_version_of_the_label_when_they_start_and_keep_it() -> None:
    versions(2)
    move(1)
    first = run("tea@production").run
    move(2)
    second = run("tea@production").run
    assert [(each.flow_version, each.flow_label) for each in (first, second)] == [(1, "production"), (2, "production")]
    assert Run.objects.get(id=first.id).flow_version == 1
    assert (run("tea").run.flow_version, run("tea").run.flow_label) == (2, None)


@pytest.mark.both_engines
def test_a_share_is_sticky_and_the_run_says_so() -> None:
    versions(2)
    move(1)
    move(2, "candidate")
    move(shares={"candidate": 50})
    found = {key: run("tea@production", key=key).run for key in ("ada", "alan", "grace", "edsger")}
    again = {key: run("tea@production", key=key).run.flow_version for key in found}
    assert {key: each.flow_version for key, each in found.items()} == again
    assert {each.flow_label: each.flow_version for each in found.values()} == {
        "production": 1,
        "production/candidate": 2,
    }
    in_context = [run("tea@production", context_id="ada").run.flow_version for _ in range(2)]
    assert in_context == [again["ada"]] * 2
    labels.remove_label(caller=ALICE, name="tea", label="candidate", reason="worse")
    assert {run("tea@production", key=key).run.flow_version for key in found} == {1}


def test_a_label_costs_no_query() -> None:
    versions(1)
    move(1)
    counts = []
    for name in ("tea", "tea@production", "tea", "tea@production"):
        with CaptureQueriesContext(connection) as queries:
            run(name)
        counts.append(len(queries))
    assert counts[2] == counts[3]


@pytest.mark.both_engines
def test_a_move_is_undone_and_a_label_removed() -> None:
    versions(3)
    move(1)
    move(2)
    move(3)
    for expected in (2, 1):
        labels.undo_label(caller=ALICE, name="tea", label="production", reason="worse")
        assert labelled() == expected
    with pytest.raises(InvalidParams, match="no move to undo"):
        labels.undo_label(caller=ALICE, name="tea", label="production", reason="worse")
    labels.remove_label(caller=ALICE, name="tea", label="production", reason="unused")
    assert Flow.objects.get().labels is None
    with pytest.raises(FlowNotFound, match="no label 'production'"):
        run("tea@production")
    entry = AuditEntry.objects.latest("id")
    assert (entry.action, entry.target) == ("flow.unlabelled", "tea")
    assert entry.details == {"label": "production", "before": 1, "reason": "unused", "owner": "alice"}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no version": ({"version": None, "label": "new", "shares": {}}, "version: is required"),
    "a version that is not there": ({"version": 9}, "has no version 9"),
    "a name": ({"version": 1, "label": "7 of 9"}, "label: must have 1 to 32"),
    "a long name": ({"version": 1, "name": "t" * 80, "label": "l" * 32}, "more than 100 characters"),
    "a share above 100 %": ({"shares": {"candidate": 101}}, "at most 100 percent"),
    "shares above 100 %": ({"shares": {"candidate": 60, "canary": 50}}, "110 % together"),
    "a share of an unknown label": ({"shares": {"candidat": 5}}, "is no label of this flow"),
    "a flow of another user": ({"caller": BOB, "version": 1}, "Flow 'tea' not found"),
}


@pytest.mark.both_engines
@pytest.mark.parametrize("row", REFUSED, ids=REFUSED)
def test_what_cannot_be_is_refused_by_name_and_nothing_is_stored(row: str) -> None:
    versions(2)
    versions(1, "t" * 80)
    for number, label in ((1, "production"), (2, "candidate"), (2, "canary")):
        move(number, label)
    before = list(Flow.objects.order_by("name").values_list("labels", flat=True))
    entries = AuditEntry.objects.count()
    changes, reason = REFUSED[row]
    with pytest.raises((FlowNotFound, InvalidParams), match=reason):
        move(**changes)
    assert list(Flow.objects.order_by("name").values_list("labels", flat=True)) == before
    assert AuditEntry.objects.count() == entries


@pytest.mark.both_engines
def test_a_version_with_a_label_outlives_those_that_are_too_many(settings: Any) -> None:
    limited(settings, flow_versions=2)
    versions(1)
    move(1)
    versions(5)
    assert run("tea@production").run.flow_version == 1


def test_a_label_and_a_version_contradict_each_other() -> None:
    versions(2)
    move(1)
    with pytest.raises(InvalidParams, match="cannot be combined with a label"):
        run("tea@production", version=2)
    with pytest.raises(FlowNotFound, match="Did you mean 'production'"):
        run("tea@productoin")


@pytest.mark.both_engines
def test_a_move_that_is_killed_at_any_step_is_whole_or_not_there(tmp_path: Path) -> None:
    with new_database() as database_url:
        environment = environment_of(database_url, tmp_path) | {"DJANGO_SETTINGS_MODULE": "apflow_site.settings"}
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.tasks.services.evals.killed"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) > 8, done.stdout


# --- policies ---


def experiment(worker: WorkerThread, *versions: int) -> None:
    worked(worker, started(versions=versions))


@pytest.mark.both_engines
def test_a_policy_asks_for_an_experiment_of_exactly_that_version(worker: WorkerThread) -> None:
    texts = ("Hello {{run.inputs.who}}", "Hello a", "Hello {{run.inputs.who}} ", "Hello {{run.inputs.who}}!")
    save_flow(*texts)
    save_rows("a", "b")
    given: Any = {"caller": LOCAL, "name": "greet", "label": "production", "reason": "measured"}
    policy = {"dataset": "people", "evaluator": "accuracy", "at_least": 0.9}

    def refused(version: int, because: str) -> None:
        with pytest.raises(InvalidParams, match=because):
            labels.set_label(**given, version=version, policy=policy)

    refused(
        1,
        "needs a completed experiment of version 1 on version 1 of the data set 'people'. Run aipartnerupflow evals run",
    )
    experiment(worker, 1, 2)
    refused(2, "has accuracy 0.5 in the experiment .*, and the policy asks for 0.9 at least")
    refused(3, "--version 3 --exact accuracy=/text")
    labels.set_label(**given, version=1, policy=policy)
    labels.set_label(**given, policy={"dataset": "people", "evaluator": "accuracy", "not_worse": True})
    with pytest.raises(InvalidParams, match=r"has accuracy 0.5 in the experiment .*, and version 1 has 1"):
        labels.set_label(**given, version=2)
    with pytest.raises(InvalidParams, match="of version 1 and version 4 on version 1"):
        labels.set_label(**given, version=4)
    save_rows("a", "b", "c")  # the data set has changed since
    with pytest.raises(InvalidParams, match="of version 1 and version 2 on version 2"):
        labels.set_label(**given, version=2)
    assert labelled("production", "greet") == 1
