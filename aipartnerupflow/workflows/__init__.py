"""Workflows as code: a coroutine function decides which steps follow which ends, and survives crashes by a replay of them.

    from aipartnerupflow.workflows import gather, step, workflow

    @step(retries=3)
    def fetch(url: str) -> str: ...

    @workflow
    async def pages(urls: list[str]) -> list[str]:
        return await gather(*(fetch(url) for url in urls), at_most=5)

Importing the package starts nothing: it imports no Django and reads no settings. `aipartnerupflow.workflows.testing` plays
workflows in tests.
"""

from aipartnerupflow.workflows.calls import (
    Event,
    agent,
    as_completed,
    ask,
    event,
    gather,
    now,
    patched,
    random,
    run,
    sleep,
    uuid,
)
from aipartnerupflow.workflows.drive import Again, Difference
from aipartnerupflow.workflows.functions import StepCancelled, StepFailed, step, workflow
from aipartnerupflow.workflows.values import secret

__all__ = [
    "Again",
    "Difference",
    "Event",
    "StepCancelled",
    "StepFailed",
    "agent",
    "as_completed",
    "ask",
    "event",
    "gather",
    "now",
    "patched",
    "random",
    "run",
    "secret",
    "sleep",
    "step",
    "uuid",
    "workflow",
]
