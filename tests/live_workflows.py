"""Workflows that tests of workers run. `RAN` has the arguments of each call of a step, in this process."""

import asyncio
import threading
from datetime import timedelta
from typing import Final

from aipartnerupflow.workflows import Again, StepFailed, ask, event, gather, now, sleep, step, uuid, workflow

RAN: Final[list[tuple[str, int]]] = []
BROKEN: Final[set[str]] = set()
"""The names of the steps that do not end well."""
MAY_SWEEP: Final = threading.Event()


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


@step(idempotent=True)
async def flaky(a: int) -> int:
    RAN.append(("flaky", a))
    if {"flaky", f"flaky {a}"} & BROKEN:
        raise ValueError("broken")
    return a


@step(idempotent=True)
async def slow(a: int) -> int:
    RAN.append(("slow", a))
    if "slow" in BROKEN:
        await asyncio.Event().wait()
    return a


@step(idempotent=True, pool="thread")
def sweep(a: int) -> int:
    RAN.append(("sweep", a))
    assert MAY_SWEEP.wait(60)
    return a


@step(idempotent=True)
async def mark(a: int, text: str) -> int:
    RAN.append(("mark", a))
    if "mark" in BROKEN:
        raise ValueError("broken")
    return a


@workflow
async def approved(count: int) -> dict[str, object]:
    """Wait for a person, for a time, and for an event, the first of which is late."""
    whole = await add(count)
    answer = await ask("Publish {{whole}}?", options=["yes", "no"])
    try:
        await event("paid", timeout=timedelta(milliseconds=1))
    except TimeoutError:
        answer += " late"
    await sleep(seconds=0.001)
    paid = await event("paid", match={"/order": 1})
    return {"whole": await double(whole), "error": f"{answer} {paid.payload}"}


@workflow
async def tidy(count: int) -> dict[str, object]:
    """Clean up, however it ends."""
    try:
        return {"whole": await slow(count), "error": None}
    finally:
        await sweep(count)


@workflow
async def patient(count: int) -> dict[str, object]:
    """Wait for what `count` says, and clean up."""
    try:
        match count:
            case 1:
                await ask("Go on?")
            case 2:
                await event("paid")
            case 3:
                await sleep(hours=1)
            case _:
                await gather(patient_branch("Go on?"), patient_branch("Really?"))
    finally:
        await sweep(count)
    return {}


async def patient_branch(question: str) -> None:
    try:
        await ask(question)
    finally:
        await mark(4, question)


@workflow
async def careless(count: int) -> dict[str, object]:
    """Wait for a person, and clean up with a question that nobody answers."""
    try:
        await ask("Go on?")
    finally:
        await ask("May I clean up?")
    return {}


@workflow
async def undone(count: int) -> dict[str, object]:
    """Undo what was done before a failure."""
    held = await add(count)
    try:
        whole = sum(await gather(*(flaky(number) for number in range(count)), at_most=1))
    except StepFailed:
        await mark(held, "undo")
        raise
    return {"whole": held + whole, "error": None}


@workflow
async def counted(count: int, whole: int = 0) -> dict[str, object]:
    """Count down in parts. Each leaves a step that never ends."""
    whole += await add(10 * count)
    open_step = asyncio.ensure_future(hang(count))
    whole += await flaky(count)
    await mark(count, f"{uuid()} {now()}")
    if count > 0:
        raise Again(count=count - 1, whole=whole)
    assert not open_step.done()
    return {"whole": whole, "error": None}


@workflow
async def nested(count: int) -> dict[str, object]:
    """Call a workflow that goes on in parts."""
    first = await counted(count)
    return {"whole": [first["whole"], await add(count)], "error": None}


@workflow
async def swept(count: int) -> int:
    """Cancel a step that never ends when another one has ended."""
    branches = [asyncio.ensure_future(hang(100)), asyncio.ensure_future(sweep(count))]
    ended, left = await asyncio.wait(branches, return_when=asyncio.FIRST_COMPLETED)
    for branch in left:
        branch.cancel()
    return sum([branch.result() for branch in ended])


@workflow
async def parted(count: int) -> None:
    """Wait in the second part."""
    if count > 0:
        await add(count)
        raise Again(count=0)
    try:
        await ask("Go on?")
    finally:
        await sweep(count)


class Refused(Exception):
    """An exception that the workflow gets as it is."""


@step(idempotent=True, raises=(Refused,))
async def refuse(a: int) -> int:
    RAN.append(("refuse", a))
    raise Refused("no", a)


@step(idempotent=True, raises=(Refused,), pool="thread")
def refuse_on_a_thread(a: int) -> int:
    RAN.append(("refuse_on_a_thread", a))
    raise Refused("never", a)


@workflow
async def caught(count: int) -> dict[str, object]:
    """Catch exceptions of steps."""
    try:
        await refuse(count)
    except Refused as refused:
        error, whole = refused.args
    try:
        await refuse_on_a_thread(await add(whole))
    except Refused as refused:
        return {"whole": refused.args[1], "error": error}
    return {"whole": 0, "error": None}


@workflow
async def mended(count: int) -> dict[str, object]:
    """Fail until what is broken is mended."""
    whole = await add(count)
    try:
        await double(-whole)
    except StepFailed:
        whole += 1
    await mark(whole, f"{uuid()} {now()}")
    return {"whole": sum(await gather(flaky(whole), slow(whole))), "error": None}


@workflow
async def hasty(count: int) -> dict[str, object]:
    """End while a step is at work."""
    open_step = asyncio.ensure_future(hang(count))
    whole = await add(count)
    return {"whole": whole, "error": None if not open_step.done() else "done"}


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


async def _reviewed(count: int, *, first: str) -> dict[str, object]:
    whole = await add(count)
    answer = await ask(first, options=["yes", "no"])
    if "edited" in BROKEN:
        whole = await double(whole)
    return {"whole": await add(whole), "error": answer}


def _first(question: str) -> str:
    return "Really?" if "changed" in BROKEN else question


@workflow
async def reviewed(count: int) -> dict[str, object]:
    """Ask a person. Its code differs when it is `edited`, and what it has done differs, too, when it is `changed`."""
    return await _reviewed(count, first=_first("Good?"))


@workflow(replays=True)
async def replaying(count: int) -> dict[str, object]:
    """Ask a person, and go on with code that does the same."""
    return await _reviewed(count, first=_first("Good?"))


@workflow(on_mismatch="fail")
async def failing(count: int) -> dict[str, object]:
    """Ask a person, and fail without the code that it began with."""
    return await _reviewed(count, first=_first("Good?"))
