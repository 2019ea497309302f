"""How many queries a list costs, and which: the same few, however many rows there are."""

from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tasks.models import Question, Run, Task, TaskEvent
from tasks.storage import paginator

pytestmark = [pytest.mark.django_db, pytest.mark.both_engines_nightly]
LISTS = (
    "tasks/task/",
    "tasks/task/?rows=all",
    "tasks/task/?q=task",
    "tasks/run/",
    "tasks/taskevent/",
    "tasks/question/",
)


@pytest.fixture
def admin(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    client.defaults["HTTP_HOST"] = "localhost"
    return client


def store(count: int) -> None:
    now = datetime.now(UTC)
    ids = [f"task-{number}" for number in range(count)]
    moments = {"created_at": now, "updated_at": now}
    Task.objects.bulk_create([Task(id=each, root_id=each, user_id="alice", name=each, **moments) for each in ids])
    Run.objects.bulk_create(
        [Run(id=each, root_id=each, target_id=each, context_id=each, user_id="alice", created_at=now) for each in ids]
    )
    TaskEvent.objects.bulk_create(
        [TaskEvent(run_id=each, seq=1, type="final", task_id=each, payload={}, created_at=now) for each in ids]
    )
    Question.objects.bulk_create([Question(id=each, run_id=each, task_id=each, text="?", asked_at=now) for each in ids])


def queries_of(admin: Client, path: str) -> list[str]:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        response = admin.get(f"/admin/{path}")
    assert response.status_code == 200
    return [query["sql"] for query in queries]


@pytest.mark.parametrize("path", LISTS)
def test_a_list_costs_the_same_queries_for_few_rows_and_for_many(path: str, admin: Client) -> None:
    store(2)
    few = queries_of(admin, path)
    for model in (Task, Question, Run, TaskEvent):
        model.objects.all().delete()
    store(60)
    many = queries_of(admin, path)
    assert len(few) == len(many) <= 8
    counts = [sql for sql in many if "COUNT(" in sql]
    assert counts, "nothing is counted"
    assert [sql for sql in counts if f"LIMIT {paginator.MAX_ROWS}" not in sql] == []
    assert not any('"inputs"' in sql or '"payload"' in sql or '"memo"' in sql for sql in many)


@pytest.mark.both_engines
def test_a_list_says_that_it_ends_before_the_rows_do(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paginator, "MAX_ROWS", 55)
    store(60)
    first, last = (admin.get(f"/admin/tasks/run/?p={number}").content.decode() for number in (1, 2))
    assert "First 55 runs. Filter or search to see others." in first
    assert (first.count("field-tree"), last.count("field-tree")) == (50, 5)
