"""The history of runs finds its rows by indexes, on both databases."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection

from accounts.callers import LOCAL
from benchmarks.scale import rows
from benchmarks.scale.questions import LARGE, SMALL, Question, plans_of
from tasks.models import Run, RunTag
from tasks.services import history
from tasks.services.history import run_search
from tests.tasks.plans import MANY_TREES, reads_a_table

pytestmark = [
    pytest.mark.both_engines,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("free_plans"),
]


def test_the_history_of_runs_is_read_by_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_search, "PIECE", 100)
    monkeypatch.setattr(run_search, "SECONDS", -1)
    rows.fill(MANY_TREES)
    tagged = [
        RunTag(
            run_id=run.id,
            tag="rare" if number % 40 == 0 else f"tag-{number}",
            user_id=run.user_id,
            created_at=run.created_at,
        )
        for number, run in enumerate(Run.objects.all())
    ]
    RunTag.objects.bulk_create(tagged)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    day_ago = datetime.now(UTC) - timedelta(days=1)
    wanted: dict[str, dict[str, Any]] = {"all": {}, "failed": {"statuses": ["failed"]}, "since": {"since": day_ago}}
    wanted |= {
        "tagged": {"tag": "rare"},
        "found": {"text": "no such text"},
        "failed with": {"text": "7", "statuses": ["failed"]},
    }
    asked: dict[str, Question] = {}
    for caller in (LOCAL, LARGE, SMALL):
        for name, fields in wanted.items():
            runs = history.RunFilter(**fields)
            asked[f"runs, {name}, {caller.user_id}"] = partial(history.list_runs, caller=caller, wanted=runs)
            if runs.text is None:
                asked[f"times, {name}, {caller.user_id}"] = partial(history.times_of, caller=caller, wanted=runs)
        for root_name in (None, "Daily report 7"):
            roots = history.RootFilter(run_statuses=["failed"], name=root_name)
            asked[f"roots, {root_name}, {caller.user_id}"] = partial(history.roots_by_run, caller=caller, wanted=roots)
    plans = {name: "\n\n".join(plans_of(question)) for name, question in asked.items()}
    assert all(plans.values())
    assert {name: plan for name, plan in plans.items() if reads_a_table(plan)} == {}
