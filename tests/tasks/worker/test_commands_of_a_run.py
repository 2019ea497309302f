"""What a run of one step asks of the database: the statements, and which commits wait for the disk.

`python -m benchmarks.commands` counts the same for a whole server.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import pytest
from django.db import connection, transaction

from accounts.callers import LOCAL
from apflow_site.db.connections import IS_SQLITE
from tasks import events
from tasks.models import Run, Task
from tasks.queue import leases, notify
from tasks.services import trees
from tasks.worker.changes import Change, RunClosed, TaskFinished, TaskStarted
from tasks.worker.commit import commit
from tasks.worker.load_run import Found, poll
from tasks.worker.run_recorder import Fence
from tasks.worker.shares import TreeMemory

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
AT = "2026-01-01 00:00:00"


@contextmanager
def statements() -> Iterator[list[str]]:
    """The first two words of each statement of this thread, without the begin of transactions, which only SQLite has."""
    seen = list[str]()
    connection.ensure_connection()  # which has statements of its own

    def note(execute: Any, sql: str, *rest: Any) -> Any:
        if not sql.startswith("BEGIN"):
            seen.append(" ".join(sql.replace('"', "").split()[:2]))
        return execute(sql, *rest)

    with connection.execute_wrapper(note):
        yield seen


def polled() -> Found:
    claim = partial(leases.claim, owner="a/1/1", limit=1)
    return poll(claim, partial(leases.release, owner="a/1/1"), memory=TreeMemory(2**20), waiting=[])


def test_a_submission_takes_one_statement_for_each_row() -> None:
    with statements() as seen:
        trees.execute_tree(caller=LOCAL, tasks=[{"name": "echo_executor"}])
    assert seen == ["INSERT INTO", "INSERT INTO", "INSERT INTO"]


def test_a_claim_takes_one_statement_and_one_that_loads_the_tree() -> None:
    trees.execute_tree(caller=LOCAL, tasks=[{"name": "echo_executor"}])
    with statements() as seen:
        assert len(polled().claimed) == 1
    looks = ["SELECT 1"] if IS_SQLITE else []  # SQLite's lock is taken only if there is something to claim
    assert seen == [*looks, "UPDATE tasks_run", "SELECT id,"]


def test_a_poll_without_work_looks_once_for_requests() -> None:
    with statements() as seen:
        assert polled().claimed == []
    assert seen == (["SELECT 1"] if IS_SQLITE else ["UPDATE tasks_run"]) + ["SELECT EXISTS"]


def test_start_and_end_of_the_last_task_and_the_end_of_the_run_are_one_commit_of_five_statements() -> None:
    run = trees.execute_tree(caller=LOCAL, tasks=[{"id": "t", "name": "echo_executor"}]).run
    ((claim, _, _),) = polled().claimed
    fence = Fence(run_id=claim.run_id, epoch=claim.epoch, token=claim.token, owner="")
    names = ("task_start", "task_completed", "final")
    begun, done, over = ({"type": name, "task_id": "t", "seq": 0} for name in names)
    changes = [
        TaskStarted(**fence, event=begun, task_id="t", attempt=1, at=AT),
        TaskFinished(**fence, event=done, task_id="t", status="completed", result="{}", at=AT),
        RunClosed(**fence, event=over, status="completed", at=AT),
    ]
    with statements() as seen:
        assert commit(changes) == [None] * 3
    updated = "UPDATE tasks_task" if IS_SQLITE else "WITH written"
    assert seen == ["UPDATE tasks_run", updated, "DELETE FROM", "INSERT INTO"]
    assert [event["type"] for event in events.read(run_id=run.id)] == list(names)


def test_steps_of_many_runs_that_start_and_end_together_take_as_many_statements_on_postgresql_as_one() -> None:
    starts, ends = list[Change](), list[Change]()
    for number in range(3):
        name = f"t{number}"
        trees.execute_tree(caller=LOCAL, tasks=[{"id": name, "name": "echo_executor"}])
        ((claim, _, _),) = polled().claimed
        fence = Fence(run_id=claim.run_id, epoch=claim.epoch, token=claim.token, owner="")
        event = {"type": "task_start", "task_id": name, "seq": 0}
        starts.append(TaskStarted(**fence, event=event, task_id=name, attempt=1, at=AT))
        ends.append(TaskFinished(**fence, event={**event}, task_id=name, status="completed", result="{}", at=AT))
        ends.append(RunClosed(**fence, event={**event}, status="completed", at=AT))
    with statements() as seen:
        assert commit(starts) == [None] * 3
    with statements() as seen_at_the_end:
        assert commit(ends) == [None] * 6
    if not IS_SQLITE:
        assert seen == ["WITH held", "WITH written", "INSERT INTO"]
        assert seen_at_the_end == ["WITH held", "WITH written", "DELETE FROM", "INSERT INTO"]
    began = datetime.fromisoformat(AT).replace(tzinfo=UTC)
    assert set(Task.objects.values_list("status", "attempt", "started_at")) == {("completed", 1, began)}
    assert set(Run.objects.values_list("status", "last_seq", "lease_owner")) == {("completed", 3, None)}


def test_a_plan_that_is_made_while_there_are_few_rows_finds_them_by_their_ids() -> None:
    """PostgreSQL keeps it for thousands of further rows."""
    changes, seen = list[Change](), list[tuple[str, Any]]()
    for number in range(3):
        trees.execute_tree(caller=LOCAL, tasks=[{"id": f"t{number}", "name": "echo_executor"}])
        ((claim, _, _),) = polled().claimed
        fence = Fence(run_id=claim.run_id, epoch=claim.epoch, token=claim.token, owner="")
        event = {"type": "final", "task_id": f"t{number}", "seq": 0}
        changes.append(TaskFinished(**fence, task_id=f"t{number}", status="completed", result="{}", at=AT))
        changes.append(RunClosed(**fence, event=event, status="completed", at=AT))

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append((sql, params[0] if many else params))
        return execute(sql, params, many, context)

    reader = events.log.LogReader()
    with connection.execute_wrapper(note):
        assert commit(changes[:2]) == [None] * 2
        assert commit(changes[2:]) == [None] * 4
        assert len(reader.news(limit=10)) == 3
    read = [(sql, params) for sql, params in seen if sql.split()[0] in ("UPDATE", "WITH")]
    assert len(read) == (6 if IS_SQLITE else 5)
    for sql, params in read:
        assert without_a_key(sql, params) == [], sql


NOT_ANALYSED: Final = "UPDATE pg_class SET relpages = 0, reltuples = -1 WHERE relname IN ('tasks_run', 'tasks_task')"
"""As in a new installation. The server may have analysed the tables meanwhile, with the rows of other tests."""


def without_a_key(sql: str, params: Any) -> list[str]:
    """The places of the plan that read rows of runs or tasks without the value of a key, where nothing has been analysed yet."""
    with connection.cursor() as cursor:
        if not IS_SQLITE:
            cursor.execute(NOT_ANALYSED)
        cursor.execute(f"EXPLAIN {'QUERY PLAN' if IS_SQLITE else '(FORMAT JSON)'} {sql}", params)
        found = cursor.fetchall()
    if IS_SQLITE:
        return [detail for *_, detail in found if re.match("SCAN tasks_(run|task)$", detail)]
    plan = found[0][0]
    nodes = json.loads(plan) if isinstance(plan, str) else plan
    nodes, read = [each["Plan"] for each in nodes], list[str]()
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        index = node.get("Index Name", "")
        tables = ("tasks_run", "tasks_task")
        is_of_them = index.startswith(("run_", "tasks_run_")) or node.get("Relation Name") in tables
        is_read = node["Node Type"] in ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Index Scan")
        if is_of_them and is_read and "Index Cond" not in node:
            read.append(f"{node['Node Type']} {index}")
    return read


def test_only_the_end_of_a_run_is_notified_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of a chain would wake every listener of the server, one by one."""
    sent = []
    monkeypatch.setattr(notify, "send", lambda topic, *, can_wait=False: sent.append((topic, can_wait)))
    trees.execute_tree(caller=LOCAL, tasks=[{"id": "t", "name": "echo_executor"}])
    ((claim, _, _),) = polled().claimed
    fence = Fence(run_id=claim.run_id, epoch=claim.epoch, token=claim.token, owner="")
    event = {"type": "task_start", "task_id": "t", "seq": 0}
    commit([TaskStarted(**fence, event=event, task_id="t", attempt=1, at=AT)])
    end = TaskFinished(**fence, event={**event}, task_id="t", status="completed", result="{}", at=AT)
    commit([end, RunClosed(**fence, event={**event}, status="completed", at=AT)])
    assert sent[-2:] == [(notify.EVENTS, True), (notify.EVENTS, False)]


@pytest.fixture
def production_durability() -> Iterator[None]:
    """PostgreSQL as it is by default. The tests' own server flushes nothing, to be fast."""
    if IS_SQLITE:
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = 'on'")
        yield
        cursor.execute("RESET synchronous_commit")


@pytest.mark.usefixtures("production_durability")
def test_only_the_claim_does_not_wait_for_the_disk() -> None:
    always = durability()
    trees.execute_tree(caller=LOCAL, tasks=[{"name": "echo_executor"}])
    with transaction.atomic():
        assert leases.claim(owner="a/1/1", limit=1)
        assert durability() == (always if IS_SQLITE else "off")
    assert durability() == always != "off"


def durability() -> str:
    """What a commit of this thread waits for. On SQLite a setting of the connection decides, for all commits."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous" if IS_SQLITE else "SHOW synchronous_commit")
        return str(cursor.fetchone()[0])
