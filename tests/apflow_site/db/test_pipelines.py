"""A transaction in one go: all of it or nothing, also where its statements have been sent before it fails."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest
from django.db import DatabaseError, connection, transaction

from apflow_site.databases import PREPARED
from apflow_site.db.connections import IS_SQLITE
from apflow_site.db.pipelines import in_one_go, pipelined

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
ADD = "INSERT INTO tasks_installationfact (name, value, updated_at) VALUES (%s, '', CURRENT_TIMESTAMP)"


def add(*names: str) -> None:
    with connection.cursor() as cursor:
        for name in names:
            cursor.execute(ADD, [name])


def touch() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tasks_installationfact SET value = '' WHERE name LIKE 'go %%'", [])


def added() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM tasks_installationfact WHERE name LIKE 'go %%' ORDER BY name", [])
        return [name for (name,) in cursor.fetchall()]


def test_it_is_committed_and_then_what_waits_for_its_commit_is_called() -> None:
    seen = list[list[str]]()
    with in_one_go():
        add("go 1", "go 2")
        transaction.on_commit(lambda: seen.append(added()))
        assert added() == ["go 1", "go 2"]  # reading waits for the replies, and commits nothing
        assert seen == []
    assert seen == [["go 1", "go 2"]]


def test_a_refused_statement_takes_back_all() -> None:
    with pytest.raises(DatabaseError), in_one_go():
        add("go 1", "go 1", "go 2")
    assert added() == []


def test_an_error_between_two_statements_takes_back_those_that_were_sent() -> None:
    for is_answered in (False, True):
        with pytest.raises(ZeroDivisionError), in_one_go():
            add("go 1")
            assert not is_answered or added() == ["go 1"]
            raise ZeroDivisionError
        assert added() == []
    with in_one_go():
        add("go 3")
    assert added() == ["go 3"]


@contextmanager
def pipelined_transaction() -> Iterator[None]:
    with transaction.atomic(), pipelined():
        yield


@pytest.mark.parametrize("fails_too", [False, True])
@pytest.mark.parametrize(
    ("outer", "block"),
    [(nullcontext, in_one_go), (nullcontext, pipelined_transaction), (transaction.atomic, in_one_go)],
    ids=["alone", "pipelined", "within a transaction"],
)
def test_what_follows_a_refused_statement_can_be_used_later(
    outer: Callable[[], AbstractContextManager[None]],
    block: Callable[[], AbstractContextManager[None]],
    fails_too: bool,
) -> None:
    """psycopg takes a statement for prepared once it has been sent often, also where PostgreSQL skipped it."""
    with outer():
        for _ in range(dict(PREPARED)["prepare_threshold"]):
            with block():
                touch()
        with pytest.raises((DatabaseError, ZeroDivisionError)), block():
            add("go 1", "go 1")
            touch()
            if fails_too:
                raise ZeroDivisionError
        with block():
            add("go 2")
            touch()
    assert added() == ["go 2"]


def test_within_a_transaction_it_is_a_part_of_that() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        with in_one_go():
            add("go 1")
        raise ZeroDivisionError
    assert added() == []


def test_postgresql_gets_no_begin_and_no_commit(capfd: pytest.CaptureFixture[str]) -> None:
    """The messages of the protocol, as the client traces them: its requests, and where it waits."""
    if IS_SQLITE:
        return
    connection.ensure_connection()
    raw = connection.connection.pgconn
    raw.trace(2)
    with in_one_go():
        add("go 1", "go 2")
    raw.untrace()
    messages = [line.split("\t") for line in capfd.readouterr().err.splitlines()]
    sent = [message[message.index("F") + 2] for message in messages if "F" in message[:2]]
    assert sent.count("Sync") == 1
    assert "Query" not in sent
