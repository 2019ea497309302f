"""Workflows that tests of workers run. `RAN` has the arguments of each call of a step, in this process."""

import asyncio
from typing import Final

from aipartnerupflow.workflows import StepFailed, gather, now, step, uuid, workflow

RAN: Final[list[tuple[str, int]]] = []


@step(idempotent=True)
async def add(a: int, b: int = 1) -> int:
    RAN.append(("add", a))
    return a + b


@step(idempotent=True, pool="thread")
def double(a: int) -> int:
    RAN.append(("double", a))
    if a < 0:
        raise ValueError("too small")
    return 2 * a


@step(idempotent=True)
async def hang(a: int) -> int:
    RAN.append(("hang", a))
    await asyncio.Event().wait()
    return a


@workflow
async def race(count: int) -> dict[str, object]:
    """Cancel what is slower."""
    whole = 0
    for number in range(count):
        branches = [asyncio.ensure_future(hang(100 * number)), asyncio.ensure_future(add(100 * number))]
        ended, left = await asyncio.wait(branches, return_when=asyncio.FIRST_COMPLETED)
        for branch in left:
            branch.cancel()
        whole += sum([branch.result() for branch in ended])
    return {"whole": whole + await double(1), "error": None}


@workflow
async def total(count: int) -> dict[str, object]:
    """Add numbers up."""
    parts = await gather(*(add(100 * number) for number in range(count)), at_most=2)
    whole = sum(parts)
    for _ in range(2):
        whole = await add(whole)
    try:
        await double(-1)
    except StepFailed as failed:
        error = str(failed)
    return {"whole": await double(whole), "error": error, "uuid": str(uuid()), "now": now()}
