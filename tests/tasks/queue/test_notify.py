"""The doorbell: it hears what other connections commit, at once, and nothing before."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from django.db import connection, transaction
from django_q.models import OrmQ

from apflow_site.db.connections import IS_SQLITE
from tasks.queue import notify
from tasks.queue.notify import LOOK_SECONDS, SHARE_OF_QUIET, Notifier, pause_after
from tests.servers import until

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
LONG_SECONDS = 60.0
"""The bell rings within 10 ms; the rest is for a machine that does other things too."""


@pytest.fixture
def bell() -> Iterator[Notifier]:
    bell = notify.listen(notify.RUNS)
    yield bell
    bell.close()


def write(topic: notify.Topic = notify.RUNS) -> None:
    with transaction.atomic():
        OrmQ.objects.create(key="k", payload="p")
        notify.send(topic)


def meanwhile(action: Callable[[], None]) -> threading.Thread:
    """Do it on a thread and a connection of its own."""

    def act() -> None:
        try:
            action()
        finally:
            connection.close()

    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_it_hears_a_commit_while_it_waits(bell: Notifier) -> None:
    thread = meanwhile(write)
    assert bell.wait(LONG_SECONDS)
    thread.join()


def test_it_hears_what_was_committed_before_it_waits_and_only_once(bell: Notifier) -> None:
    meanwhile(write).join()
    assert bell.wait(LONG_SECONDS)
    assert not bell.wait(0.05)


def test_it_does_not_hear_what_is_not_committed(bell: Notifier) -> None:
    with transaction.atomic():
        OrmQ.objects.create(key="k", payload="p")
        notify.send(notify.RUNS)
        assert not bell.wait(0.05)
        transaction.set_rollback(True)
    assert not bell.wait(0.05)


def test_silence_lasts_as_long_as_asked(bell: Notifier) -> None:
    started_at = time.monotonic()
    assert not bell.wait(0.1)
    assert time.monotonic() >= started_at + 0.1
    assert not bell.wait(0)


def test_every_listener_hears(bell: Notifier) -> None:
    second = notify.listen(notify.RUNS)
    try:
        meanwhile(write).join()
        assert bell.wait(LONG_SECONDS)
        assert second.wait(LONG_SECONDS)
    finally:
        second.close()


def test_postgresql_tells_topics_apart_and_for_sqlite_each_commit_is_a_ring(bell: Notifier) -> None:
    meanwhile(lambda: write(notify.EVENTS)).join()
    assert bell.wait(0.05) is IS_SQLITE


def test_who_is_not_attentive_holds_nobody_up() -> None:
    """PostgreSQL keeps what a listener does not read, and its backend hangs as soon as the pipe between them is full."""
    heard = threading.Event()
    listener = notify.Listener(notify.RUNS, heard.set)

    def hears() -> bool:
        write()
        return heard.wait(0.1)

    with listener.attentive():
        until(hears, seconds=LONG_SECONDS, what="the first ring")
    ring_often()
    until(lambda: not hanging_listeners(), seconds=LONG_SECONDS, what="an end of the listeners that hang")
    heard.clear()
    with listener.attentive():
        until(hears, seconds=LONG_SECONDS, what="a ring afterwards")


def ring_often() -> None:
    if not IS_SQLITE:  # there it is the commits that ring, and nothing is kept of them
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, number::text) FROM generate_series(1, 40000) AS number", [notify.RUNS])


def hanging_listeners() -> list[int]:
    if IS_SQLITE:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'ClientWrite'"
        )
        return [pid for (pid,) in cursor.fetchall()]


def test_sqlite_is_looked_at_less_often_the_longer_it_is_quiet() -> None:
    """A thousand times a second for a second after each commit would be most of the work of an idle server."""
    quiet, looks = 0.0, 0
    while quiet < 1.0:
        pause = pause_after(quiet)
        assert LOOK_SECONDS[0] <= pause <= max(LOOK_SECONDS[0], quiet * SHARE_OF_QUIET)
        quiet, looks = quiet + pause, looks + 1
    assert looks < 150
    assert pause_after(float("inf")) == LOOK_SECONDS[1]
