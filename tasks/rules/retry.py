"""Retry policy: exponential backoff with full jitter. Pure."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

NO_RETRY: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """The policy in `params.retry` of a task. Default: a single attempt."""

    max_attempts: int = 1
    backoff_seconds: float = 1.0
    backoff_factor: float = 2.0
    max_backoff_seconds: float = 60.0

    def delay(self, attempt: int, asked_for: float | None) -> float:
        """Seconds to wait after this attempt, at least as long as the remote side asked for."""
        longest = min(self.backoff_seconds * self.backoff_factor ** (attempt - 1), self.max_backoff_seconds)
        return max(random.uniform(0, longest), asked_for or 0.0)  # noqa: S311  (spreads load, guards nothing)


def retry_of(params: Mapping[str, Any]) -> Retry:
    """Return the retry policy in the params of a task."""
    return Retry(**params.get("retry", NO_RETRY))
