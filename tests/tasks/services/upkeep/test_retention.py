"""Retention: trees go by the status and the age of their last run, a few at a time; by default all stay."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from math import inf

import pytest
import yaml
from django.conf import LazySettings
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts.callers import LOCAL
from tasks.models import Run, Task, TaskEvent, Webhook
from tasks.rules.exceptions import InvalidParams
from tasks.services import schedules, trees
from tasks.services.messages import webhooks
from tasks.services.schedules import task_schedules
from tasks.services.upkeep import housekeeping
from tasks.services.upkeep.housekeeping import prune_trees
from tests.documents import text
from tests.sections import replace

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
NOW = datetime.now(UTC)
PAGE = yaml.safe_load(text("docs/how-to/operate.md", "Bound the size of the database", "yaml"))["retention"]


def keep(settings: LazySettings, **days: int) -> None:
    settings.APFLOW = replace(settings.APFLOW, retention=replace(settings.APFLOW.retention, **days))


def tree(name: str, status: str, *, days: float | None, **params: object) -> None:
    """A tree whose run ended so many days ago; None: it has not ended."""
    child = {"id": f"{name}-child", "name": "echo_executor", "parent_id": name}
    run = trees.execute_tree(caller=LOCAL, tasks=[{"id": name, "name": "echo_executor", "params": params}, child]).run
    webhooks.add_webhook(run=run, url="https://93.184.216.34/hook")
    ended = None if days is None else NOW - timedelta(days=days)
    Run.objects.filter(id=run.id).update(status=status, finished_at=ended)
    if ended:
        Task.objects.filter(root_id=name).update(status=status)


def roots() -> set[str]:
    return {*Task.objects.values_list("root_id", flat=True)}


def test_trees_go_by_the_status_and_age_of_their_last_run(settings: LazySettings) -> None:
    for status, days in (("completed", 90), ("failed", 180), ("cancelled", 30)):
        tree(f"old-{status}", status, days=days + 1)
        tree(f"new-{status}", status, days=days - 1)
    tree("running", "in_progress", days=None)
    tree("again", "completed", days=400)
    trees.execute_task(caller=LOCAL, task_id="again")
    trees.create_tree(caller=LOCAL, tasks=[{"id": "never", "name": "echo_executor"}])
    assert prune_trees() == 0, "by default all are kept"
    keep(settings, **PAGE)
    assert prune_trees() == 3
    assert roots() == {"new-completed", "new-failed", "new-cancelled", "running", "again", "never"}
    assert prune_trees() == 0
    assert {*Run.objects.values_list("root_id", flat=True)} == roots() - {"never"}
    assert Webhook.objects.count() == 5
    assert not TaskEvent.objects.exclude(run_id__in=Run.objects.values("id")).exists()


def test_a_tree_that_a_schedule_runs_is_kept(settings: LazySettings) -> None:
    for name in ("copied", "again", "gone"):
        tree(name, "completed", days=400)
    schedules.create_schedule(caller=LOCAL, fields={"task_id": "copied", "cron": "0 9 1 * *"})
    daily = {"schedule_type": "daily", "schedule_expression": "09:00"}
    task_schedules.update_task(caller=LOCAL, task_id="again", changes={}, schedule=daily)
    keep(settings, **PAGE)
    assert prune_trees() == 1
    assert roots() == {"copied", "again"}


def test_they_go_a_few_at_a_time_the_oldest_first(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "TREES_AT_ONCE", 2)
    keep(settings, completed_days=1)
    for number in range(3):
        tree(f"tree{number}", "completed", days=10 - number)
    assert (prune_trees(), roots()) == (2, {"tree2"})
    assert (prune_trees(), roots()) == (1, set())


def test_a_marked_tree_is_kept_and_delays_no_other(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "TREES_AT_ONCE", 2)
    for number in range(3):
        tree(f"kept-{number}", "completed", days=300, keep=True)
    tree("not", "completed", days=200, keep=False)
    tree("nested", "completed", days=200)
    Task.objects.filter(id="nested").update(params={"other": {"keep": True}})  # as an executor of a plug-in may take
    keep(settings, completed_days=90)
    assert prune_trees() == 2
    assert roots() == {"kept-0", "kept-1", "kept-2"}


def test_the_mark_is_true_or_false() -> None:
    with pytest.raises(InvalidParams, match=r"params\.keep: must be true or false"):
        trees.create_tree(caller=LOCAL, tasks=[{"name": "echo_executor", "params": {"keep": "yes"}}])


def test_the_trees_of_a_batch_go_by_one_statement_for_each_table(settings: LazySettings) -> None:
    keep(settings, completed_days=1)

    def commands(count: int) -> int:
        for number in range(count):
            tree(f"tree{number}", "completed", days=10 - number)
        with CaptureQueriesContext(connection) as queries:
            assert prune_trees() == count
        return len(queries)

    commands(1)  # what is looked up once
    assert commands(2) == commands(9)


def test_a_batch_ends_with_the_events_of_a_large_run(settings: LazySettings) -> None:
    keep(settings, completed_days=1)
    for number in range(4):
        tree(f"tree{number}", "completed", days=10 - number)
    for name, events in (("tree0", 10_000), ("tree1", 1), ("tree2", housekeeping.EVENTS_AT_ONCE)):
        Run.objects.filter(root_id=name).update(last_seq=events)
    assert (prune_trees(), roots()) == (1, {"tree1", "tree2", "tree3"})
    assert (prune_trees(), roots()) == (1, {"tree2", "tree3"})
    assert prune_trees(give_up_at=inf) == 2


def test_a_tree_that_another_transaction_holds_is_not_waited_for(settings: LazySettings) -> None:
    if connection.vendor == "sqlite":
        return  # its writers wait for each other anyway
    keep(settings, completed_days=1)
    for name in ("held", "free"):
        tree(name, "completed", days=10)
    with ThreadPoolExecutor(1) as other, transaction.atomic():
        Task.objects.hold_tree("held")
        assert other.submit(_prune_and_close).result() == 1
    assert roots() == {"held"}


def _prune_and_close() -> int:
    try:
        return prune_trees()
    finally:
        connection.close()
