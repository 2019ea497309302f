"""Redis or Valkey for notifications, beside the database's own.

It carries only hints, so no event can be lost.
"""

import logging
import os
import threading
import time
from contextlib import suppress
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any, Final

from django.conf import settings
from redis import Redis, RedisError

from tasks.queue.notifier import Notifier

TIMEOUT_SECONDS: Final = 0.5
OUTAGE_LOG_SECONDS: Final = 300.0
AGAIN_SECONDS: Final = 2.0
"""How long a Redis that did not answer is left alone."""
SLICE_SECONDS = 1.0
"""How often a listener to Redis checks for notifications that only the database has."""

log = logging.getLogger(__name__)


class Outage:
    """Whether Redis is available to this process, logged when it changes and every OUTAGE_LOG_SECONDS."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logged_at: float | None = None

    def begin(self, reason: str) -> None:
        now = time.monotonic()
        with self._lock:
            if self._logged_at is not None and now < self._logged_at + OUTAGE_LOG_SECONDS:
                return
            self._logged_at = now
        log.warning(
            "Redis is unavailable: %s; using the database's notifications alone", reason, extra={"event": "redis.away"}
        )

    def end(self) -> None:
        if self._logged_at is None:
            return
        with self._lock:
            self._logged_at = None
        log.info("Redis is available again", extra={"event": "redis.back"})


@cache
def _outage(process_id: int) -> Outage:
    """One for each process, which has several clients of Redis."""
    return Outage()


class Patience:
    """Decides when an unavailable Redis is worth another attempt."""

    def __init__(self) -> None:
        self._next_try_at = 0.0
        self._outage = _outage(os.getpid())

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._next_try_at

    def begin(self, reason: str) -> None:
        self._next_try_at = time.monotonic() + AGAIN_SECONDS
        self._outage.begin(reason)

    def end(self) -> None:
        """Redis has answered."""
        self._outage.end()


class Publisher:
    """Publishes on a thread of its own, so that a Redis that hangs delays no commit."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS)
        self._patience = Patience()
        self._topics: SimpleQueue[str] = SimpleQueue()
        threading.Thread(target=self._publish_forever, name="notify-redis", daemon=True).start()

    def publish(self, topic: str) -> None:
        """Publish soon, unless Redis is away. Returns at once."""
        self._topics.put(topic)

    def _publish_forever(self) -> None:
        while True:
            for topic in self._waiting():
                self._publish(topic)

    def _waiting(self) -> set[str]:
        """The topics in the queue, each once: two notifications that wait say no more than one."""
        topics = {self._topics.get()}
        with suppress(Empty):
            while True:
                topics.add(self._topics.get_nowait())
        return topics

    def _publish(self, topic: str) -> None:
        if not self._patience.is_over:
            return
        try:
            self._redis.publish(topic, "")
        except RedisError:
            self._patience.begin("it cannot publish")
        else:
            self._patience.end()


@cache
def _publisher(url: str, process_id: int) -> Publisher:
    """One for each process: a forked process does not inherit the thread."""
    return Publisher(url)


def publish(topic: str) -> None:
    """Notify the listeners on Redis, if it is available. Returns at once."""
    _publisher(settings.APFLOW.redis.url, os.getpid()).publish(topic)


def listen(own: Notifier, url: str, topic: str) -> Notifier:
    """Return a notifier that listens to both Redis and the database."""
    return RedisNotifier(own, Subscription(url, topic))


class Subscription:
    """One listener. Use it from one thread."""

    def __init__(self, url: str, topic: str) -> None:
        # Referenced, since a client closes its connections when it is collected. `Any`: its
        # `pubsub` has no types.
        self._redis: Any = Redis.from_url(url, socket_connect_timeout=TIMEOUT_SECONDS)
        self._topic = topic
        self._pubsub: Any = None
        self._patience = Patience()
        self._subscribe()

    def wait(self, timeout_seconds: float) -> bool | None:
        """Wait for a notification; whether one arrived in time.

        Returns None at once while Redis is unavailable.
        """
        if self._pubsub is None:
            return self._subscribe() or None  # notifications in the meantime are lost: tell the caller to read
        try:
            message = self._pubsub.get_message(ignore_subscribe_messages=True, timeout=timeout_seconds)
        except RedisError:
            self.close()
            self._patience.begin("it does not answer")
            return None
        return message is not None

    def close(self) -> None:
        if self._pubsub is not None:
            self._pubsub.close()
            self._pubsub = None

    def _subscribe(self) -> bool:
        if not self._patience.is_over:
            return False
        pubsub = self._redis.pubsub()
        try:
            pubsub.subscribe(self._topic)
            pubsub.get_message(timeout=TIMEOUT_SECONDS)  # the confirmation: from here on no notification is missed
        except RedisError:
            pubsub.close()
            self._patience.begin("it cannot be reached")
            return False
        self._pubsub = pubsub
        self._patience.end()
        return True


class RedisNotifier(Notifier):
    """Listens to Redis continuously and to the database every second.

    While Redis is unavailable it listens to the database alone.
    """

    def __init__(self, own: Notifier, redis: Subscription) -> None:
        self._own = own
        self._redis = redis

    def wait(self, timeout_seconds: float) -> bool:
        deadline = time.monotonic() + timeout_seconds
        while True:
            slice_seconds = min(SLICE_SECONDS, max(0.0, deadline - time.monotonic()))
            is_notified = self._redis.wait(slice_seconds)
            if self._own.wait(slice_seconds if is_notified is None else 0.0) or is_notified:
                return True
            if time.monotonic() >= deadline:
                return False

    def rest_until(self, awake: threading.Event) -> None:
        self._own.rest_until(awake)

    def close(self) -> None:
        self._redis.close()
        self._own.close()
