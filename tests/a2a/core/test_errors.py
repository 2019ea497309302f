import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import OperationalError, connection, transaction

from a2a.core.errors import RULES, failure_of, rule_of
from a2a.core.exceptions import BodyTooLarge, UnsupportedMediaType
from accounts.auth import AuthenticationFailed
from accounts.callers import LOCAL
from tasks.models import Task
from tasks.rules import exceptions
from tasks.rules.strict_json import MalformedJson
from tasks.services import trees
from tasks.services.upkeep import readiness


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MalformedJson("not JSON"), -32700),
        (BodyTooLarge("too large"), -32600),
        (exceptions.InvalidParams([("name", "required")]), -32602),
        (exceptions.TaskNotFound("t"), -32001),
        (exceptions.CircularDependency(["a", "b", "a"]), -32002),
        (exceptions.ExecutorNotFound("ech", close_matches=["echo_executor"]), -32003),
        (AuthenticationFailed(), -32004),
        (exceptions.RoleTooLow(), -32004),
        (exceptions.SchemaMismatch(), -32005),
        (exceptions.StatusConflict(), -32006),
        (exceptions.AlreadyExecuting(), -32008),
        (exceptions.CannotDelete(), -32009),
        (exceptions.InvalidParent(), -32010),
        (exceptions.InvalidDependency(), -32011),
        (exceptions.InvalidTree(), -32012),
        (exceptions.LimitReached(data={"retry_after_seconds": 3}), -32029),
    ],
)
def test_an_error_has_the_code_of_the_contract_and_its_own_words(error: Exception, code: int) -> None:
    failure = failure_of(error, call_id="x")
    assert (failure.code, failure.id) == (code, "x")
    assert failure.message == str(error) != ""
    assert failure.data == getattr(error, "data", None)


def test_every_error_of_the_domain_is_in_the_table() -> None:
    domain = [
        kind for _, kind in inspect.getmembers(exceptions, inspect.isclass) if kind.__module__ == exceptions.__name__
    ]
    internal = {exceptions.TasksError, exceptions.LeaseLost, exceptions.TooManyWaits}
    assert {kind for kind in domain if issubclass(kind, Exception)} - internal <= RULES.keys()


@pytest.mark.parametrize(
    ("error", "http_status"),
    [
        (MalformedJson("not JSON"), 400),
        (AuthenticationFailed(), 401),
        (BodyTooLarge("too large"), 413),
        (UnsupportedMediaType("not JSON"), 415),
        (OperationalError("away"), 503),
        (exceptions.TaskNotFound("t"), 200),
        (exceptions.InvalidParams([("name", "required")]), 200),
        (RuntimeError("bug"), 200),
    ],
)
def test_json_rpc_errors_are_answered_with_200_and_transport_failures_are_not(
    error: Exception, http_status: int
) -> None:
    assert failure_of(error).http_status == http_status


@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), OperationalError("secret"), KeyError("secret")])
def test_the_text_of_an_unknown_error_stays_in_the_log(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="a2a.core.errors"):
        failure = failure_of(error, call_id=1)
    assert failure.code == -32603
    assert "secret" not in str(failure)
    assert failure.data["error_id"] in caplog.text
    assert "secret" in caplog.text
    # Every request has the same error while the database is away: its traceback explains nothing.
    assert ("Traceback" in caplog.text or caplog.records[-1].exc_info is not None) != isinstance(
        error, OperationalError
    )


def test_a_subclass_has_the_code_of_its_class() -> None:
    class Deeper(exceptions.InvalidTree):
        """Deeper."""

    assert rule_of(Deeper()).code == -32012


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_a_disk_that_is_full_is_told_from_a_database_that_is_away() -> None:
    with pytest.raises(OperationalError) as caught, no_room(), transaction.atomic():
        trees.create_tree(caller=LOCAL, tasks=[{"name": "big", "inputs": {"text": "x" * 100_000}}])
    failure = failure_of(caught.value)
    assert failure.message == "The database is out of disk space, so nothing was stored. Try again in 2 seconds."
    assert failure.http_status == 503
    assert not Task.objects.exists()


@contextmanager
def no_room() -> Iterator[None]:
    """Each engine refuses as it does when a page cannot be had. Pages that earlier tests have freed are no room either."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA page_count")
            cursor.execute(f"PRAGMA max_page_count = {cursor.fetchone()[0]}")
            try:
                yield
            finally:
                cursor.execute("PRAGMA max_page_count = 1073741823")
        else:
            cursor.execute(
                "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
            )
            cursor.execute("CREATE TRIGGER no_room BEFORE INSERT ON tasks_task EXECUTE FUNCTION no_room()")
            try:
                yield
            finally:
                cursor.execute("DROP FUNCTION no_room CASCADE")


@pytest.mark.django_db
def test_a_full_disk_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    assert readiness.checked(readiness.database)["ok"]
    monkeypatch.setattr(readiness, "ROOM_BYTES", 2**62)
    found = readiness.checked(readiness.database)
    assert (found["ok"], found["message"]) == (False, "The disk of the database is full: nothing can be stored.")
