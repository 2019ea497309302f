"""A transaction in one go: all of it or nothing, also where its statements have been sent before it fails."""

import pytest
from django.db import DatabaseError, connection, transaction

from apflow_site.db.connections import IS_SQLITE
from apflow_site.db.pipelines import in_one_go

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
ADD = "INSERT INTO tasks_installationfact (name, value, updated_at) VALUES (%s, '', CURRENT_TIMESTAMP)"


def add(*names: str) -> None:
    with connection.cursor() as cursor:
        for name in names:
            cursor.execute(ADD, [name])


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
