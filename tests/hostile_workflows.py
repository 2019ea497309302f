"""Workflows that harm their worker, or try to: they fail, and others do not notice."""

from aipartnerupflow.workflows import step, workflow


@step(idempotent=True)
async def nothing() -> None:
    """Do nothing."""


@workflow
async def spin() -> None:
    """Block the loop of the worker for ever."""
    await nothing()
    while True:
        pass


@workflow
async def endless() -> None:
    """Make calls for ever."""
    while True:
        await nothing()
