"""A sweep begins where the last one ended, and at the start again when rows are added to the past."""

from datetime import UTC, datetime, timedelta

import pytest
from django.conf import LazySettings

from tasks.events import pruning
from tasks.models import InstallationFact, Run, Task, TaskEvent
from tasks.services.trees.imports import import_trees
from tasks.services.upkeep.housekeeping import prune_trees
from tests.sections import replace
from tests.tasks.services.trees.test_imports import ROOT, tree

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
NOW = datetime.now(UTC)


def store(run_id: str, *, days: float) -> None:
    """A tree that ended so many days ago, with an event."""
    ended = NOW - timedelta(days=days)
    fields = {"root_id": run_id, "user_id": "ada", "created_at": ended}
    Task.objects.create(id=run_id, name=run_id, status="completed", updated_at=ended, **fields)
    Run.objects.create(
        id=f"r-{run_id}", target_id=run_id, context_id="c", status="completed", finished_at=ended, **fields
    )
    TaskEvent.objects.create(run_id=f"r-{run_id}", seq=1, type="log", task_id=run_id, payload={}, created_at=ended)


def test_pruned_runs_are_not_looked_at_again() -> None:
    store("old", days=60)
    store("new", days=1)
    assert pruning.swept_until("events") == pruning.BEGINNING
    assert pruning.prune_events() == 1
    assert pruning.prune_events() == 0
    assert NOW - timedelta(days=31) < pruning.swept_until("events") < NOW - timedelta(days=29)
    store("into the past", days=50)
    assert pruning.prune_events() == 0
    pruning.forget_sweeps()
    assert pruning.prune_events() == 1


def test_a_sweep_does_not_pass_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "RUNS", 1)
    for days in (60, 50, 40):
        store(f"old{days}", days=days)
    for _ in range(3):
        assert pruning.prune_events() == 1
    assert TaskEvent.objects.count() == 0


def test_trees_of_each_status_have_a_sweep_of_their_own(settings: LazySettings) -> None:
    days = replace(settings.APFLOW.retention, completed_days=30, failed_days=90)
    settings.APFLOW = replace(settings.APFLOW, retention=days)
    store("completed", days=60)
    store("failed", days=60)
    Run.objects.filter(root_id="failed").update(status="failed")
    assert prune_trees() == 1
    assert prune_trees() == 0
    Run.objects.filter(root_id="failed").update(finished_at=NOW - timedelta(days=91))
    assert pruning.swept_until("failed_trees") < NOW - timedelta(days=89) < pruning.swept_until("completed_trees")
    pruning.forget_sweeps()
    assert prune_trees() == 1


def test_small_steps_are_not_stored() -> None:
    pruning.note_sweep("events", NOW, since=NOW - timedelta(seconds=59))
    assert not InstallationFact.objects.exists()


def test_an_import_begins_all_sweeps_again() -> None:
    pruning.note_sweep("events", NOW, since=pruning.BEGINNING)
    import_trees(trees=[tree(ROOT)])
    assert pruning.swept_until("events") == pruning.BEGINNING
