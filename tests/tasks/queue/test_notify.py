"""The doorbell: it hears what other connections commit, at once, and nothing before."""

import errno
import resource
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import pytest
from django.db import connection, transaction
from django_q.models import OrmQ

from apflow_site.db.connections import IS_SQLITE
from tasks.queue import notify
from tasks.queue.notify import POLLED, SEEN, WATCHED, FileWatch, Looks, Notifier, SqliteNotifier, Topic
from tasks.queue.notify_postgres import PostgresNotifier
from tests.fork_server import run_command
from tests.servers import environment_of, new_database, until

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
LONG_SECONDS = 60.0
"""The bell rings within 10 ms; the rest is for a machine that does other things too."""


@pytest.fixture
def bell() -> Iterator[Notifier]:
    bell = notify.listen(notify.RUNS)
    yield bell
    bell.close()


def write(topic: Topic = notify.RUNS, *, can_wait: bool = False) -> None:
    with transaction.atomic():
        OrmQ.objects.create(key="k", payload="p")
        notify.send(topic, can_wait=can_wait)


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


def test_a_listener_sleeps_while_nothing_happens(bell: Notifier) -> None:
    """The system counts how often this thread has gone to sleep."""
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    assert not bell.wait(2)
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before < 10


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
    assert bell.wait(LONG_SECONDS if IS_SQLITE else 0.05) is IS_SQLITE


def test_what_can_wait_is_sent_with_what_cannot(bell: Notifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "LATER_SECONDS", 10 * LONG_SECONDS)
    meanwhile(partial(write, can_wait=True)).join()
    assert bell.wait(0.05) is IS_SQLITE
    meanwhile(partial(write, notify.EVENTS)).join()
    assert bell.wait(LONG_SECONDS)


def test_what_can_wait_is_sent_without_anything_else_too(bell: Notifier) -> None:
    meanwhile(partial(write, can_wait=True)).join()
    assert bell.wait(LONG_SECONDS)


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


def test_a_listener_that_begins_late_rings_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may connect more slowly than others write, and what was written before would wait for the next notification."""
    begins, heard = threading.Event(), threading.Event()
    listen = notify.listen

    def listen_late(topic: Topic) -> Notifier:
        assert begins.wait(LONG_SECONDS)
        return listen(topic)

    monkeypatch.setattr(notify, "listen", listen_late)
    with notify.Listener(notify.RUNS, heard.set).attentive():
        write()
        assert not heard.is_set()
        begins.set()
        assert heard.wait(LONG_SECONDS)


def test_a_listener_reads_now_and_then_without_a_notification(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may end between its commit and its notification."""
    monkeypatch.setattr(notify, "LISTEN_SECONDS", 0.01)
    heard: SimpleQueue[None] = SimpleQueue()
    with notify.Listener(notify.RUNS, partial(heard.put, None)).attentive():
        for _ in range(3):
            heard.get(timeout=LONG_SECONDS)


def test_what_a_command_commits_is_heard_although_it_ends_at_once(tmp_path: Path) -> None:
    """Its notifications wait for a thread, for which it waits at its end."""
    with new_database() as url:
        environment = environment_of(url, tmp_path)
        bell: Notifier
        if IS_SQLITE:
            bell = SqliteNotifier(url.removeprefix("sqlite:///"))
        else:
            bell = PostgresNotifier({"conninfo": url}, notify.RUNS)
        with closing(bell):
            assert run_command("maintenance", "off", env=environment).returncode == 0
            assert run_command("maintenance", "on", env=environment).returncode == 0
            assert run_command("maintenance", "off", env=environment).returncode == 0
            assert bell.wait(LONG_SECONDS)


def ring_often() -> None:
    """More than a pipe holds, in large notifications: each is also for the listeners that earlier tests have left."""
    if not IS_SQLITE:  # there it is the commits that ring, and nothing is kept of them
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_notify(%s, lpad(number::text, 7000, '0')) FROM generate_series(1, 200) AS number",
                [notify.RUNS],
            )


def hanging_listeners() -> list[int]:
    if IS_SQLITE:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'ClientWrite'"
        )
        return [pid for (pid,) in cursor.fetchall()]


@pytest.mark.parametrize(("looks", "most"), [(POLLED, 150), (WATCHED, 40), (SEEN, 8)])
def test_sqlite_is_looked_at_less_often_the_longer_it_is_quiet(looks: Looks, most: int) -> None:
    """A thousand times a second for a second after each commit would be most of the work of an idle server."""
    quiet, count = 0.0, 0
    while quiet < 1.0:
        pause = looks.pause(quiet)
        assert looks.shortest_seconds <= pause <= max(looks.shortest_seconds, quiet * looks.share_of_quiet)
        quiet, count = quiet + pause, count + 1
    assert count < most
    assert looks.pause(float("inf")) == looks.longest_seconds


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Iterator[tuple[str, sqlite3.Connection]]:
    """A database in WAL mode, and a connection that writes to it."""
    path = str(tmp_path / "a.sqlite3")
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE seen (number INTEGER)")
    yield path, writer
    writer.close()


def commit(writer: sqlite3.Connection) -> None:
    writer.execute("INSERT INTO seen VALUES (1)")


def test_the_kernel_wakes_a_listener_of_sqlite(
    sqlite_file: tuple[str, sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would look only after the test has failed."""
    path, writer = sqlite_file
    monkeypatch.setattr(notify, "WATCHED", WATCHED._replace(longest_seconds=1e5))
    with closing(SqliteNotifier(path)) as bell:
        threading.Timer(0.1, commit, [writer]).start()
        assert bell.wait(1e6)
        assert bell.is_watching
        assert not bell.wait(0)


def test_after_a_commit_sqlite_is_looked_at_a_few_times(
    sqlite_file: tuple[str, sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dozens of looks after each commit, in every process, would be most of the work of an idle server."""
    path, writer = sqlite_file
    due, pauses = [writer], list[float]()

    class Watch(FileWatch):
        def wait(self, seconds: float) -> bool:
            if due:
                commit(due.pop())
            pauses.append(seconds)
            return super().wait(seconds)

    monkeypatch.setattr(notify, "FileWatch", Watch)
    with closing(SqliteNotifier(path)) as bell:
        assert bell.wait(LONG_SECONDS)
        pauses.clear()
        assert not bell.wait(0.3)
        assert len(pauses) < 12


def test_a_commit_whose_writes_were_reported_with_those_of_the_one_before_is_heard(
    sqlite_file: tuple[str, sqlite3.Connection], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listener wakes up late, finds the first commit, and hears nothing of the second, which is still being flushed."""
    path, writer = sqlite_file
    (tmp_path / "silent").touch()
    due = [writer]

    class Watch(FileWatch):
        def __init__(self, _: str) -> None:
            super().__init__(str(tmp_path / "silent"))

        def wait(self, seconds: float) -> bool:
            if not due:
                return super().wait(seconds)
            commit(due.pop())
            threading.Timer(0.1, commit, [writer]).start()
            return True

    monkeypatch.setattr(notify, "FileWatch", Watch)
    for looks in ("WATCHED", "SEEN"):
        monkeypatch.setattr(notify, looks, getattr(notify, looks)._replace(longest_seconds=1e5))
    with closing(SqliteNotifier(path)) as bell:
        assert bell.wait(1e6)
        assert bell.wait(1e6)
        assert bell.is_watching


def test_a_listener_that_is_not_woken_polls(
    sqlite_file: tuple[str, sqlite3.Connection], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems tell nothing. Here the log that is watched is another file."""
    path, writer = sqlite_file
    (tmp_path / "other").touch()
    monkeypatch.setattr(notify, "FileWatch", lambda _: FileWatch(str(tmp_path / "other")))
    with closing(SqliteNotifier(path)) as bell:
        assert bell.is_watching
        for _ in range(3):
            commit(writer)
            assert bell.wait(LONG_SECONDS)
            assert not bell.is_watching


def test_a_listener_polls_if_nothing_can_be_watched(
    sqlite_file: tuple[str, sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux allows a user 128 instances of inotify, and other systems have none."""
    path, writer = sqlite_file

    def refuse(_: str) -> FileWatch:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(notify, "FileWatch", refuse)
    with closing(SqliteNotifier(path)) as bell:
        assert not bell.is_watching
        commit(writer)
        assert bell.wait(LONG_SECONDS)
        assert not bell.wait(0.05)


def test_a_commit_that_was_flushed_late_does_not_make_a_listener_deaf(
    sqlite_file: tuple[str, sqlite3.Connection],
) -> None:
    """What is heard is the write before the flush; other connections see the commit after it."""
    path, writer = sqlite_file
    with closing(SqliteNotifier(path)) as bell:
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN")
        writer.executemany(
            "INSERT INTO seen VALUES (?)", [(number,) for number in range(20_000)]
        )  # some pages are written
        assert not bell.wait(0.05)
        threading.Timer(0.1, writer.execute, ["COMMIT"]).start()
        assert bell.wait(LONG_SECONDS)
        assert bell.is_watching


def test_what_is_written_to_a_file_is_heard_once(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.touch()
    with closing(FileWatch(str(file))) as watch:
        assert not watch.wait(0)
        file.write_text("one")
        assert watch.wait(LONG_SECONDS)
        assert not watch.wait(0.05)


def test_a_file_that_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileWatch(str(tmp_path / "none"))
