"""The interface of a listener, for any database."""

import threading
from abc import ABC, abstractmethod
from typing import Literal

Topic = Literal["apflow_runs", "apflow_events", "apflow_schedules"]


class Notifier(ABC):
    """One listener with its own connection. Use it from one thread, and close it at the end."""

    @abstractmethod
    def wait(self, timeout_seconds: float) -> bool:
        """Block until a notification arrives; False after the timeout, or if the database is
        unavailable.
        """

    @abstractmethod
    def rest_until(self, awake: threading.Event) -> None:
        """Pause listening, if that saves work, until `awake` is set."""

    @abstractmethod
    def close(self) -> None: ...
