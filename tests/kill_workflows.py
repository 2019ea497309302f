"""A workflow of everything that one may wait for, whose workers are killed. Each step adds a line with its task to the file of the environment."""

import asyncio
import os
from typing import Final

from aipartnerupflow.executors import current_context
from aipartnerupflow.workflows import Again, StepFailed, ask, event, gather, sleep, step, workflow
from tests.effect_functions import SINK

ROUNDS: Final = 3


async def act() -> None:
    """Take a little while before the effect, and after it."""
    await asyncio.sleep(0.03)
    task_id = current_context().task_id
    file = os.open(os.environ[SINK], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{task_id}\n".encode())
    finally:
        os.close(file)
    await asyncio.sleep(0.03)


@step(idempotent=True)
async def look_up(text: str) -> str:
    """Do what may be done twice, unless it has ended."""
    await act()
    return text.upper()


@step
async def pay(amount: int) -> int:
    """Do what must not be done twice."""
    await act()
    return amount


@step(idempotent=True)
async def refuse(text: str) -> None:
    await act()
    raise ValueError(text)


@step(idempotent=True)
async def hang() -> None:
    await asyncio.Event().wait()


@workflow
async def pipeline(name: str, part: int = 1, found: list[str] | None = None) -> list[str]:
    """Look things up beside each other, pay in a loop, ask, sleep, race, wait for an event and clean up, in two parts."""
    found = found or []
    found += await gather(*(look_up(f"{name} {part} {number}") for number in range(4)), at_most=2)
    for number in range(ROUNDS):
        try:
            found.append(f"paid {await pay(number)}")
        except StepFailed:  # it is not known whether it was paid when the worker was killed
            found.append(f"paid {number}")
    branches = [asyncio.ensure_future(hang()), asyncio.ensure_future(look_up("race"))]
    ended, left = await asyncio.wait(branches, return_when=asyncio.FIRST_COMPLETED)
    for branch in left:
        branch.cancel()
    found += [str(branch.result()) for branch in ended]
    found.append(await ask(f"Publish part {part} of {name}?", options=["yes", "no"]))
    await sleep(seconds=0.1)
    try:
        await refuse(name)
    except StepFailed:
        found.append("refused")
    finally:
        found.append(await look_up("cleanup"))
    if part == 1:
        raise Again(name=name, part=2, found=found)
    paid = await event("paid", match={"/name": name})
    return [*found, paid.payload["name"]]


def expected(name: str) -> list[str]:
    """Return the result of `pipeline`."""
    found = list[str]()
    for part in (1, 2):
        found += [f"{name} {part} {number}".upper() for number in range(4)]
        found += [f"paid {number}" for number in range(ROUNDS)]
        found += ["RACE", "yes", "refused", "CLEANUP"]
    return [*found, name]
