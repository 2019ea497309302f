"""Redis or Valkey for notifications, instead of the database's own while it is available.

It carries only hints, so no event can be lost.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

from redis import Redis, RedisError

from tasks.queue.notify import Notifier, Topic

TIMEOUT_SECONDS: Final = 0.5
OUTAGE_LOG_SECONDS: Final = 300.0
AGAIN_SECONDS: Final = 2.0
"""The seconds that a Redis that did not answer is left alone."""
SLICE_SECONDS = 1.0
"""The seconds after which a listener to the database checks again whether Redis is back."""

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
    """Publishes to Redis. Use it from one thread, on which nothing waits: Redis may hang."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS)
        self._patience = Patience()

    def publish(self, topics: Sequence[Topic]) -> bool:
        """Notify the listeners on Redis. False if it is unavailable: then they listen to the database."""
        if not self._patience.is_over:
            return False
        try:
            for topic in topics:
                self._redis.publish(topic, "")
        except RedisError:
            self._patience.begin("it cannot publish")
            return False
        self._patience.end()
        return True


class Subscription:
    """One listener. Use it from one thread."""

    def __init__(self, url: str, topic: Topic) -> None:
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
    """Listens to Redis. While it is unavailable, a notifier of the database listens, which `own` makes."""

    def __init__(self, own: Callable[[], Notifier], url: str, topic: Topic) -> None:
        self._make_own = own
        self._own: Notifier | None = None
        self._redis = Subscription(url, topic)

    def wait(self, timeout_seconds: float) -> bool:
        deadline = time.monotonic() + timeout_seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            is_notified = self._redis.wait(left)
            if is_notified is None:
                if self._own is None:
                    self._own = self._make_own()
                    return True  # notifications in the meantime are lost: tell the caller to read
                is_notified = self._own.wait(min(SLICE_SECONDS, left))
            else:
                self._close_own()
            if is_notified or time.monotonic() >= deadline:
                return is_notified

    def rest_until(self, awake: threading.Event) -> None:
        """Do nothing, as `PostgresNotifier` does."""

    def close(self) -> None:
        self._redis.close()
        self._close_own()

    def _close_own(self) -> None:
        if self._own is not None:
            self._own.close()
            self._own = None
