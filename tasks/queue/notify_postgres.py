"""PostgreSQL's notifications."""

import threading
import time
from contextlib import suppress

import psycopg

from tasks.queue.notifier import Notifier, Topic


class PostgresNotifier(Notifier):
    def __init__(self, parameters: dict[str, object], topic: Topic) -> None:
        self._parameters = {key: value for key, value in parameters.items() if key not in ("cursor_factory", "context")}
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
                return self._notified(max(0.0, deadline - time.monotonic()))
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
        self._connection = psycopg.connect(**self._parameters, autocommit=True)  # type: ignore[arg-type]
        self._connection.execute(f"LISTEN {self._topic}")

    def _notified(self, timeout_seconds: float) -> bool:
        assert self._connection is not None  # noqa: S101
        return any(True for _ in self._connection.notifies(timeout=timeout_seconds, stop_after=1))
