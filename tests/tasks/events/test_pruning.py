"""Events of runs that ended long ago are removed; those of others stay, and nothing ends in a silent gap."""

from datetime import UTC, datetime, timedelta

import pytest
from django.conf import LazySettings

from tasks.events import pruning
from tasks.models import Run, TaskEvent
from tests.sections import replace

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
NOW = datetime.now(UTC)


def store(run_id: str, *, ended_days_ago: float | None, events: int = 3) -> Run:
    ended = None if ended_days_ago is None else NOW - timedelta(days=ended_days_ago)
    TaskEvent.objects.bulk_create(
        TaskEvent(run_id=run_id, seq=seq, type="log", task_id="t", payload={}, created_at=NOW - timedelta(days=90))
        for seq in range(1, events + 1)
    )
    times = {"created_at": NOW - timedelta(days=90), "finished_at": ended}
    return Run.objects.create(
        id=run_id, root_id=run_id, target_id="t", user_id="u", context_id="c", last_seq=events, **times
    )


def kept() -> dict[str, list[int]]:
    rows = TaskEvent.objects.order_by("run_id", "seq").values_list("run_id", "seq")
    return {run_id: [seq for each, seq in rows if each == run_id] for run_id, _ in rows}


def test_only_the_events_of_runs_that_ended_long_ago_are_removed() -> None:
    store("old", ended_days_ago=31)
    store("new", ended_days_ago=29)
    store("running", ended_days_ago=None)
    assert pruning.prune_events() == 3
    assert kept() == {"new": [1, 2, 3], "running": [1, 2, 3]}
    assert pruning.prune_events() == 0


def test_they_go_in_batches_and_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BATCH", 2)
    run = store("old", ended_days_ago=31)
    assert pruning.prune_events() == 2
    assert kept() == {"old": [3]}
    assert [pruning.is_pruned(run, after=after) for after in range(5)] == [True, True, False, False, False]
    pruning.prune_events()
    assert [pruning.is_pruned(run, after=after) for after in range(5)] == [True, True, True, True, False]


def test_zero_days_keep_them_for_ever(settings: LazySettings) -> None:
    events = replace(settings.APFLOW.events, keep_days=0)
    settings.APFLOW = replace(settings.APFLOW, events=events)
    store("old", ended_days_ago=30_000)
    assert pruning.prune_events() == 0
