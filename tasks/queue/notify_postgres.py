"""PostgreSQL's notifications."""

import math
import select
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import psycopg

from tasks.queue.notify import Notifier, Topic

NOTIFY: Final = """
SELECT set_config('synchronous_commit', 'off', true), pg_notify(topic, '') FROM unnest(%s::text[]) AS topic
"""
"""No other NOTIFY of the server waits until the disk has this one: there is nothing to lose."""


def _connect(parameters: Mapping[str, Any]) -> psycopg.Connection:
    """Connect with what Django connects with."""
    known = {key: value for key, value in parameters.items() if key not in ("cursor_factory", "context")}
    return psycopg.connect(**known, autocommit=True)


class Publisher:
    """Sends NOTIFY on a connection of its own. Use it from one thread."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters
        self._connection: psycopg.Connection | None = None

    def publish(self, topics: Sequence[Topic]) -> None:
        """Send them, on a new connection if the old one fails. Without a database they are lost: listeners read on their own."""
        is_new = self._connection is None
        try:
            if self._connection is None:
                self._connection = _connect(self._parameters)
            self._connection.execute(NOTIFY, [list(topics)])
        except psycopg.Error:
            self.close()
            if not is_new:
                self.publish(topics)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def can_listen(parameters: Mapping[str, Any], *, within_seconds: float) -> bool:
    """Return whether a notification arrives. A pooler that lends out a session for one transaction at a time loses all."""
    notifier, publisher = PostgresNotifier(parameters, "apflow_runs"), Publisher(parameters)
    try:
        publisher.publish(["apflow_runs"])
        return notifier.wait(within_seconds)
    finally:
        notifier.close()
        publisher.close()


class PostgresNotifier(Notifier):
    def __init__(self, parameters: Mapping[str, Any], topic: Topic) -> None:
        self._parameters = parameters
        self._topic = topic
        self._connection: psycopg.Connection | None = None
        with suppress(psycopg.OperationalError):  # the server is unavailable; `wait` retries
            self._listen()

    def wait(self, timeout_seconds: float) -> bool:
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                if self._connection is None:
                    self._listen()
                    return True  # notifications in the meantime are lost: tell the caller to read
                # psycopg itself wakes up ten times a second, to look for signals.
                if not self._ready.poll(math.ceil(max(0.0, deadline - time.monotonic()) * 1000)):
                    return False
                if any(True for _ in self._connection.notifies(timeout=0, stop_after=1)):
                    return True
            except psycopg.OperationalError:
                self.close()
                if time.monotonic() >= deadline:
                    return False
                time.sleep(min(0.2, max(0.0, deadline - time.monotonic())))

    def rest_until(self, awake: threading.Event) -> None:
        """Do nothing: listening is free, and not reading is harmful.

        Once the pipe to a listener that does not read is full, its backend blocks, PostgreSQL keeps
        every notification for it, and databases cannot be dropped.
        """

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _listen(self) -> None:
        self._connection = _connect(self._parameters)
        self._ready = select.poll()
        self._ready.register(self._connection, select.POLLIN)
        self._connection.execute(f"LISTEN {self._topic}")
