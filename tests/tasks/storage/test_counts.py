"""The numbers of tasks that `tasks.count` returns are exact, however tasks change and by however many transactions."""

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from django.db import OperationalError, connection, connections, transaction

from accounts.callers import LOCAL, Caller, Role
from tasks.models import Task
from tasks.services import trees
from tasks.services.trees import editing, queries
from tasks.status import Status
from tasks.storage import counts
from tasks.worker.supervisor import Sweeps
from tests.conftest import IS_SQLITE

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
ADA = Caller(user_id="ada", role=Role.OPERATOR)
BOB = Caller(user_id="bob", role=Role.OPERATOR)


def counted(caller: Caller, *, root_only: bool = False) -> dict[str, int]:
    found = queries.count(caller=caller, root_only=root_only)
    assert found["total"] == sum(found[status] for status in Status)
    return {status: number for status, number in found.items() if number and status != "total"}


def really(caller: Caller, *, root_only: bool = False) -> dict[str, int]:
    found = Task.objects.for_caller(caller)
    return dict(Counter((found.filter(parent_id=None) if root_only else found).values_list("status", flat=True)))


def tree(name: str) -> list[dict[str, object]]:
    return [{"id": name, "name": name}, {"id": f"{name} below", "name": "below", "parent_id": name}]


@pytest.fixture(params=[False, True], ids=["as they come", "added up each time"])
def settle(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compare the numbers with the tasks at the end, for each caller and level; also after they were added up."""
    yield
    if request.param:
        counts.compact()
    for caller in (ADA, BOB, LOCAL):
        for root_only in (False, True):
            assert counted(caller, root_only=root_only) == really(caller, root_only=root_only)


@pytest.mark.usefixtures("settle")
def test_numbers_follow_creation_status_and_deletion() -> None:
    trees.create_tree(caller=ADA, tasks=tree("a"))
    trees.create_tree(caller=BOB, tasks=tree("b"))
    counts.compact()
    trees.create_tree(caller=ADA, tasks=tree("c"))
    Task.objects.filter(id="a").update(status=Status.FAILED)
    Task.objects.filter(id="c below").update(status=Status.COMPLETED, progress=1)
    assert counted(ADA) == {"pending": 2, "failed": 1, "completed": 1}
    assert counted(ADA, root_only=True) == {"pending": 1, "failed": 1}
    assert counted(BOB) == {"pending": 2}
    editing.delete_task(caller=ADA, task_id="a", force=True)
    assert counted(LOCAL) == {"pending": 3, "completed": 1}


@pytest.mark.usefixtures("settle")
def test_what_is_rolled_back_is_not_counted() -> None:
    trees.create_tree(caller=ADA, tasks=tree("a"))
    with transaction.atomic():
        Task.objects.all().update(status=Status.CANCELLED)
        assert counted(ADA) == {"cancelled": 2}
        transaction.set_rollback(True)
    assert counted(ADA) == {"pending": 2}


@pytest.mark.usefixtures("settle")
def test_transactions_do_not_wait_for_each_other() -> None:
    """SQLite has one writer at a time, and refuses the second one also without triggers."""
    trees.create_tree(caller=ADA, tasks=tree("a"))
    other = connections.create_connection("default")
    try:
        with transaction.atomic():
            trees.create_tree(caller=ADA, tasks=tree("b"))
            with other.cursor() as cursor, pytest.raises(OperationalError) if IS_SQLITE else nullcontext():
                cursor.execute("PRAGMA busy_timeout = 0" if IS_SQLITE else "SET lock_timeout = 1")
                cursor.execute("UPDATE tasks_task SET status = 'failed' WHERE id = 'a'")
                assert cursor.rowcount == 1
            counts.compact()
    finally:
        other.close()
    assert counted(ADA) == ({"pending": 4} if IS_SQLITE else {"failed": 1, "pending": 3})


def test_a_sweep_adds_up() -> None:
    trees.create_tree(caller=ADA, tasks=tree("a"))
    Sweeps().sweep()
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(tasks) FROM tasks_count WHERE user_id = 'ada'")
        assert cursor.fetchone()[0] == 2


def test_a_migrated_table_still_counts() -> None:
    """A migration that makes the table of tasks again, as Django does on SQLite, has to make the triggers again."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'tasks_task'"
            if IS_SQLITE
            else "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'tasks_task'::regclass AND NOT tgisinternal"
        )
        assert cursor.fetchone()[0] == (3 if IS_SQLITE else 2)
