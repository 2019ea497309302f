"""Fills a migrated database with trees that have run: tasks, runs and events, the same rows for the same size.

The rows are made inside the database. Of each tree's tasks nine are children of the root. One owner has nine of ten
trees, and a thousand owners share the rest. Names and statuses are spread evenly over the time, except for two rare
ones: the root named `NEEDLE`, and the status `in_progress`, which no root has.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from orjson import dumps

from accounts.callers import Caller
from apflow_site.db.connections import IS_SQLITE
from tasks.models import Flow, Question, Task
from tasks.queue.leases import SUSPENDED
from tasks.rules.strict_json import Json
from tasks.rules.waits import digest_of, shape_of
from tasks.services.trees import create_tree
from tasks.storage import counts
from tasks.storage.bulk import db_time

TASKS: Final = 10
"""In each tree."""
OWNERS: Final = 1_000
LARGE_OWNER: Final = "owner0"
NEEDLE: Final = "The needle in the haystack"
BATCH: Final = 50_000
"""Trees in one transaction."""
START_MS: Final = 1_735_689_600_000
"""2025-01-01. A tree is created every ten seconds."""
TABLES: Final = ("tasks_task", "tasks_run", "tasks_taskevent")
MOST_VACUUMS: Final = 100
HELD_UP: Final = f"SELECT 1 FROM pg_class WHERE relname IN {TABLES} AND relallvisible < 0.9 * relpages LIMIT 1"


def fill(roots: int) -> None:
    """Add so many trees."""
    with _without_indexes():
        for first in range(0, roots, BATCH):
            last = min(first + BATCH, roots) - 1
            with transaction.atomic(), connection.cursor() as cursor:
                for statement in (_tasks(first, last, roots), _runs(first, last), _events(first, last)):
                    cursor.execute(statement)
    if not IS_SQLITE:  # the server has SQLite make no statistics
        _vacuum()


def _vacuum() -> None:
    """Do what autovacuum would, until indexes alone can answer for nearly all pages; a few are passed over each time.

    A snapshot of another connection, such as one of autovacuum itself, holds that up while it lasts.
    """
    with connection.cursor() as cursor:
        for _ in range(MOST_VACUUMS):
            cursor.execute("VACUUM (ANALYZE)")
            if not _is_found(cursor, HELD_UP):
                return
    raise RuntimeError(f"PostgreSQL still shows rows to an old snapshot after {MOST_VACUUMS} times VACUUM")


def add_up_counts() -> None:
    """Do what the sweeps of a server do while tasks are created more slowly than here."""
    with connection.cursor() as cursor:
        while _is_found(cursor, "SELECT 1 FROM tasks_count_change LIMIT 1"):
            counts.compact()
        if not IS_SQLITE:
            cursor.execute("VACUUM tasks_count_change")


def _is_found(cursor: CursorWrapper, query: str) -> bool:
    cursor.execute(query)
    return cursor.fetchone() is not None


def root_id(number: int) -> str:
    """The id of the tree with this number, the oldest of which is 0."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {_id('r', 0)} FROM (SELECT {number} + 0 * {2**40} AS r) AS one")
        return str(cursor.fetchone()[0])


@contextmanager
def _without_indexes() -> Iterator[None]:
    """Drop the indexes of the tables, except those of constraints, and make them again at the end."""
    dropped = list(_indexes())
    with connection.cursor() as cursor:
        for name, _ in dropped:
            cursor.execute(f'DROP INDEX "{name}"')
        yield
        for _, statement in dropped:
            cursor.execute(statement)


def _indexes() -> Iterator[tuple[str, str]]:
    """The name of each index, and the statement that makes it."""
    tables = ", ".join(f"'{table}'" for table in TABLES)
    if IS_SQLITE:
        query = (
            f"SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN ({tables})"
        )
    else:
        query = (
            f"SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN ({tables}) "
            "AND indexname NOT IN (SELECT conname FROM pg_constraint)"
        )
    with connection.cursor() as cursor:
        cursor.execute(query)
        yield from cursor.fetchall()


# --- expressions of both databases, of the number r of a tree and the position p of a task ---


def _numbers(name: str, first: int, last: int) -> str:
    if IS_SQLITE:
        counted = f"WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})"
        return f"({counted} SELECT i AS {name} FROM n) AS {name}s"
    return f"(SELECT generate_series({first}, {last})::bigint AS {name}) AS {name}s"


def _hex(number: str, digits: int) -> str:
    return f"printf('%0{digits}x', {number})" if IS_SQLITE else f"lpad(to_hex({number}), {digits}, '0')"


def _id(number: str, position: object) -> str:
    """A UUID of version 7, as the server makes them, except that it is not random."""
    ms = _hex(f"({START_MS} + {number} * 10000)", 12)
    mixed = _hex(f"(({number} * 16 + {position}) * 1299709 % 4294967291)", 12)
    return f"(substr({ms}, 1, 8) || '-' || substr({ms}, 9) || '-7000-8000-' || {mixed})"


def _time(number: str, seconds: object = 0) -> str:
    if IS_SQLITE:
        return f"strftime('%Y-%m-%d %H:%M:%f000', ({START_MS // 1000} + {number} * 10 + {seconds}), 'unixepoch')"
    return f"to_timestamp({START_MS // 1000} + {number} * 10 + {seconds})"


def _mixed(number: str) -> str:
    """A number below 1,000."""
    return f"({number} * 7919 % 1000)"


def _owner(number: str) -> str:
    return f"CASE WHEN {number} % 10 < 9 THEN '{LARGE_OWNER}' ELSE 'owner' || (1 + {number} / 10 % {OWNERS}) END"


def _status(number: str) -> str:
    """Half a percent of the trees never ran, four failed and one was cancelled."""
    mixed = _mixed(number)
    return (
        f"CASE WHEN {mixed} < 5 THEN 'pending' WHEN {mixed} < 45 THEN 'failed' "
        f"WHEN {mixed} < 55 THEN 'cancelled' ELSE 'completed' END"
    )


def _has_run(number: str) -> str:
    return f"{_mixed(number)} >= 5"


def _tasks(first: int, last: int, roots: int) -> str:
    name = (
        f"CASE WHEN p > 0 THEN 'Step ' || p WHEN r = {roots // 100} THEN '{NEEDLE}' "
        f"ELSE 'Daily report ' || {_mixed('r')} END"
    )
    columns = {
        "id": _id("r", "p"),
        "root_id": _id("r", 0),
        "parent_id": f"CASE WHEN p > 0 THEN {_id('r', 0)} END",
        "position": "p",
        "user_id": _owner("r"),
        "name": name,
        "status": _status("r"),
        "priority": "2",
        "executor_id": "'rest_executor'",
        "dependencies": f"""CASE WHEN p > 1 THEN '[{{"id":"' || {_id("r", "p - 1")} || '","required":true}}]' ELSE '[]' END""",
        "inputs": """'{"url":"https://reports.example.com/daily","number":' || r || '}'""",
        "result": f"""CASE WHEN {_has_run("r")} THEN '{{"status":200,"body":"The report number ' || r || '"}}' END""",
        "progress": f"CASE WHEN {_has_run('r')} THEN 1.0 ELSE 0.0 END",
        "attempt": f"CASE WHEN {_has_run('r')} THEN 1 ELSE 0 END",
        "has_children": "p = 0",
        "has_copy": "p < 0",
        "origin_type": "'create'",
        "created_at": _time("r"),
        "updated_at": _time("r", "p"),
        "started_at": f"CASE WHEN {_has_run('r')} THEN {_time('r', 'p')} END",
        "completed_at": f"CASE WHEN {_has_run('r')} THEN {_time('r', 'p')} END",
    }
    return _insert("tasks_task", columns, f"{_numbers('r', first, last)}, {_numbers('p', 0, TASKS - 1)}")


def _runs(first: int, last: int) -> str:
    columns = {
        "id": _id("r", 15),
        "root_id": _id("r", 0),
        "target_id": _id("r", 0),
        "user_id": _owner("r"),
        "context_id": _id("r", 0),
        "number": "1",
        "status": _status("r"),
        "turn": "r",
        "epoch": "1",
        "losses": "0",
        "last_seq": str(TASKS * 2 + 1),
        "created_at": _time("r"),
        "started_at": _time("r"),
        "finished_at": _time("r", TASKS),
    }
    return _insert("tasks_run", columns, f"{_numbers('r', first, last)} WHERE {_has_run('r')}")


def _events(first: int, last: int) -> str:
    """A task starts and ends; the run ends."""
    columns = {
        "run_id": _id("r", 15),
        "seq": "e",
        "type": f"CASE WHEN e > {TASKS * 2} THEN 'final' WHEN e % 2 = 1 THEN 'task_start' ELSE 'task_completed' END",
        "task_id": _id("r", "(e - 1) / 2 % 10"),
        "payload": f"""'{{"type":"task","seq":' || e || ',"run_id":"' || {_id("r", 15)} || '","root_task_id":"' || {_id("r", 0)} ||
            '","status":"completed","progress":1.0,"result":{{"status":200}},"protocol":"jsonrpc"}}'""",
        "created_at": _time("r", "e / 2"),
    }
    source = f"{_numbers('r', first, last)}, {_numbers('e', 1, TASKS * 2 + 1)} WHERE {_has_run('r')}"
    return _insert("tasks_taskevent", columns, source)


def _insert(table: str, columns: dict[str, str], source: str) -> str:
    names, values = ", ".join(columns), ", ".join(columns.values())
    return f"INSERT INTO {table} ({names}) SELECT {values} FROM {source}"


# --- runs of the last thirty days ---

FLOWS: Final = 100
SPAN: Final = timedelta(days=30)


def fill_home(runs: int) -> None:
    """Add so many runs without tasks, evenly over thirty days until now.

    A large owner has half of 100 flows, 19 others have the rest. One of twenty runs fails, each flow for four of 40 reasons.
    """
    now = datetime.now(UTC)
    Flow.objects.bulk_create(
        Flow(id=f"flow-{f:03}", user_id=_owner_of_flow(f), name=f"flow {f}", created_at=now, updated_at=now)
        for f in range(FLOWS)
    )
    with _without_indexes(), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_ended_runs(runs, now.timestamp()))
    if not IS_SQLITE:
        _vacuum()


def _owner_of_flow(number: int) -> str:
    return LARGE_OWNER if number < FLOWS / 2 else f"owner{1 + number % 19}"


def _ended_runs(runs: int, now: float) -> str:
    flow, reason = f"(r % {FLOWS})", f"(r % {FLOWS} % 10 * 4 + r * 389 % 991 % 4)"
    owners = " ".join(f"WHEN {flow} = {number} THEN '{_owner_of_flow(number)}'" for number in range(FLOWS))
    seconds = f"({now:.3f} - ({runs} - r) * {SPAN.total_seconds() / runs:.9f})"
    at = f"strftime('%Y-%m-%d %H:%M:%f000', {seconds}, 'unixepoch')" if IS_SQLITE else f"to_timestamp({seconds})"
    failed = "r * 613 % 997 < 50"
    failures = (
        f"""'[{{"task_id":"task","name":"Fetch","error":"No answer of server ' || {_padded(reason, 2)} || '"}}]'"""
    )
    columns = {
        "id": _id("r", 15),
        "root_id": _id("r", 0),
        "target_id": _id("r", 0),
        "user_id": f"CASE {owners} END",
        "context_id": _id("r", 0),
        "flow_id": f"'flow-' || {_padded(flow, 3)}",
        "number": "1",
        "status": f"CASE WHEN {failed} THEN 'failed' ELSE 'completed' END",
        "turn": "r",
        "epoch": "1",
        "losses": "0",
        "last_seq": "3",
        "total_tokens": f"1000 + {_mixed('r')}",
        "cost_nanos": f"1000000 + {_mixed('r')}",
        "error_key": f"CASE WHEN {failed} THEN {_hex(reason, 16)} END",
        "failures": f"CASE WHEN {failed} THEN {failures} END",
        **dict.fromkeys(("created_at", "started_at", "finished_at"), at),
    }
    return _insert("tasks_run", columns, _numbers("r", 0, runs - 1))


def _padded(number: str, digits: int) -> str:
    return f"printf('%0{digits}d', {number})" if IS_SQLITE else f"lpad(({number})::text, {digits}, '0')"


# --- trees of many tasks ---

LARGE_TREES: Final = (2_000, 10_000)


def large_tree(tasks: int) -> str:
    """The id of the tree with so many tasks."""
    return f"tree-of-{tasks}"


def add_large_trees() -> None:
    """Add a tree of each of these sizes, if it is missing, older than all others. One owner has them."""
    for number in LARGE_TREES:
        root = large_tree(number)
        if Task.objects.filter(id=root).exists():
            continue
        below: list[Json] = [{"id": f"{root}-{each}", "parent_id": root, **_step(each)} for each in range(1, number)]
        create_tree(caller=Caller(user_id="owner of large trees"), tasks=[{"id": root, **_step(0)}, *below])
        Task.objects.filter(root_id=root).update(created_at=datetime.fromtimestamp(START_MS / 1000 - number, UTC))


def _step(number: int) -> Json:
    inputs = {"url": "https://reports.example.com/daily", "number": number}
    return {"name": f"Step {number}", "schemas": {"method": "echo_executor"}, "inputs": inputs}


# --- runs that wait for an answer ---


def park(runs: int) -> None:
    """Add so many trees of one task that asks a question."""
    if not runs:
        return
    first = 10_000_000
    last = first + runs - 1
    with transaction.atomic(), connection.cursor() as cursor:
        for statement in (_parked_tasks(first, last), _parked_runs(first, last), _questions(first, last)):
            cursor.execute(statement)
    if not IS_SQLITE:
        _vacuum()


def _parked_tasks(first: int, last: int) -> str:
    columns = {
        "id": _id("r", 0),
        "root_id": _id("r", 0),
        "position": "0",
        "user_id": _owner("r"),
        "name": "'Approve the report'",
        "status": "'in_progress'",
        "priority": "2",
        "executor_id": "'approval_executor'",
        "dependencies": "'[]'",
        "inputs": """'{"question":"Publish the report?"}'""",
        "progress": "0.0",
        "attempt": "1",
        "has_children": "r < 0",
        "has_copy": "r < 0",
        "origin_type": "'create'",
        "created_at": _time("r"),
        "updated_at": _time("r"),
        "started_at": _time("r"),
    }
    return _insert("tasks_task", columns, _numbers("r", first, last))


def _parked_runs(first: int, last: int) -> str:
    columns = {
        "id": _id("r", 15),
        "root_id": _id("r", 0),
        "target_id": _id("r", 0),
        "user_id": _owner("r"),
        "context_id": _id("r", 0),
        "number": "1",
        "status": "'in_progress'",
        "turn": "r",
        "lease_owner": f"'{SUSPENDED}'",
        "lease_expires_at": "'9999-12-31 00:00:00'" if IS_SQLITE else "'9999-12-31 00:00:00+00'::timestamptz",
        "epoch": "2",
        "losses": "0",
        "last_seq": "2",
        "created_at": _time("r"),
        "started_at": _time("r"),
        "asked_at": _time("r"),
    }
    return _insert("tasks_run", columns, _numbers("r", first, last))


def _questions(first: int, last: int) -> str:
    columns = {
        "id": _id("r", 14),
        "run_id": _id("r", 15),
        "task_id": _id("r", 0),
        "text": "'Publish the report?'",
        "asked_at": _time("r"),
    }
    return _insert("tasks_question", columns, _numbers("r", first, last))


# --- waits ---

WAITED_EVENT: Final = "order.paid"
EVENT_INPUTS: Final = f'{{"event":"{WAITED_EVENT}"}}'


def park_waits(waits: int) -> None:
    """Add so many trees of one task that waits for the event of its own order, for a month. They belong to `local`."""
    park(waits)
    until = db_time(datetime.now(UTC) + timedelta(days=30))
    open_ones = Question.objects.filter(closed_at=None).values_list("id", "task_id")
    matches = [(wait_id, {"/order_id": task_id}) for wait_id, task_id in open_ones]
    values = [(until, dumps(each).decode(), shape_of(each), digest_of(each), wait_id) for wait_id, each in matches]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE tasks_task SET executor_id = 'event_executor', user_id = 'local', inputs = '{EVENT_INPUTS}' "
            "WHERE status = 'in_progress'"
        )
        cursor.execute("UPDATE tasks_run SET user_id = 'local' WHERE finished_at IS NULL")
        cursor.execute(f"UPDATE tasks_question SET kind = 'event', user_id = 'local', event = '{WAITED_EVENT}'")
        cursor.executemany(
            "UPDATE tasks_question SET expires_at = %s, match = %s, shape = %s, digest = %s WHERE id = %s", values
        )


def set_due(waits: int, *, after: datetime, seconds: float) -> None:
    """Let so many of the waits end one after the other within these seconds, as waits for a time."""
    chosen = Question.objects.filter(closed_at=None).order_by("digest").values_list("id", "task_id")[:waits]
    rows = list(enumerate(chosen))
    times = [(db_time(after + timedelta(seconds=seconds * place / waits)), row[0]) for place, row in rows]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE tasks_question SET kind = 'time', on_expiry = 'resume', expires_at = %s WHERE id = %s", times
        )
        cursor.executemany(
            """UPDATE tasks_task SET executor_id = 'wait_executor', inputs = '{"seconds":1}' WHERE id = %s""",
            [(row[1],) for _, row in rows],
        )
