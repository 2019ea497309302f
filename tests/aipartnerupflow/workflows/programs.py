"""Random workflows: programs as data, a workflow that runs one, and a slow and obvious evaluation of those without races."""

import asyncio
from typing import Any

from hypothesis import strategies as st

from aipartnerupflow.workflows import StepFailed, as_completed, gather, now, random, sleep, step, uuid, workflow

Program = Any
"""A list whose first item names what it does."""


@step
async def work(n: int) -> str:
    return f"did {n}"


@step
async def fail(n: int) -> str:
    raise ValueError(f"failed {n}")


@workflow
async def interpret(program: list[Any]) -> Any:
    return await done(program)


async def done(program: Program) -> Any:  # noqa: C901  (a table)
    kind, *parts = program
    match kind:
        case "step":
            return await work(parts[0])
        case "fail":
            try:
                return await fail(parts[0])
            except StepFailed as error:
                return str(error)
        case "value":
            return [random().random(), str(uuid()), now().isoformat(), await work(0)]
        case "sleep":
            await sleep(seconds=parts[0])
            return "slept"
        case "sequence":
            return [await done(part) for part in parts]
        case "gather":
            return await gather(*(done(part) for part in parts[1:]), at_most=parts[0])
        case "group":
            async with asyncio.TaskGroup() as group:
                branches = [group.create_task(done(part)) for part in parts]
            return [branch.result() for branch in branches]
        case "completed":
            return [each async for each in as_completed([done(part) for part in parts])]
        case "race":
            return await raced([asyncio.ensure_future(done(part)) for part in parts])
        case "timeout":
            try:
                async with asyncio.timeout(parts[0]):
                    return await done(parts[1])
            except TimeoutError:
                return await work(parts[0])
        case "cancel":
            branch = asyncio.ensure_future(done(parts[0]))
            first = await done(parts[1])
            branch.cancel()
            await asyncio.wait([branch])
            return [first, "cancelled" if branch.cancelled() else branch.result()]
        case "cleanup":
            try:
                return await done(parts[0])
            finally:
                await work(parts[1])
        case "child":
            return await interpret(parts[0])
    raise AssertionError(kind)


async def raced(branches: list[asyncio.Future[Any]]) -> Any:
    """Return the result of the first, and how many others ended at the same moment. The others are cancelled."""
    ended, left = await asyncio.wait(branches, return_when=asyncio.FIRST_COMPLETED)
    for branch in left:
        branch.cancel()
    if left:
        await asyncio.wait(left)
    return [branch.result() for branch in ended]


LEAF = st.one_of(
    st.tuples(st.just("step"), st.integers(0, 9)),
    st.tuples(st.just("step"), st.integers(0, 9)),
    st.tuples(st.just("fail"), st.integers(0, 9)),
    st.tuples(st.just("value")),
    st.tuples(st.just("sleep"), st.integers(1, 9)),
)


def _larger(part: st.SearchStrategy[Program], *, races: bool) -> st.SearchStrategy[Program]:
    def of(kind: str, *more: st.SearchStrategy[Any]) -> st.SearchStrategy[Program]:
        parts = st.lists(part, min_size=1, max_size=4)
        return st.builds(lambda first, rest: (kind, *first, *rest), st.tuples(*more), parts)

    calm = [
        of("sequence"),
        of("gather", st.sampled_from([None, 1, 2])),
        of("group"),
        st.tuples(st.just("cleanup"), part, st.integers(0, 9)),
        st.tuples(st.just("child"), part),
    ]
    wild = [
        of("race"),
        of("race"),
        of("completed"),
        st.tuples(st.just("timeout"), st.integers(1, 9), part),
        st.tuples(st.just("cancel"), part, part),
    ]
    return st.one_of(*calm, *(wild if races else []))


def programs(*, races: bool = True, children: bool = True, most: int = 8) -> st.SearchStrategy[list[Any]]:
    """Draw programs, as the JSON that a workflow gets."""
    drawn = st.recursive(LEAF, lambda part: _larger(part, races=races), max_leaves=most).map(as_lists)
    return drawn if children else drawn.map(without_children)


def as_lists(program: Program) -> Any:
    return [as_lists(each) for each in program] if isinstance(program, tuple) else program


def without_children(program: Any) -> Any:
    if not isinstance(program, list):
        return program
    return ["sequence" if program[0] == "child" else program[0], *map(without_children, program[1:])]


def evaluated(program: Program) -> Any:
    """Return what the program returns, if it has no race; the values of a replay are None."""
    kind, *parts = program
    match kind:
        case "step":
            return f"did {parts[0]}"
        case "fail":
            return f"fail() raised ValueError: failed {parts[0]}"
        case "value":
            return None
        case "sleep":
            return "slept"
        case "sequence" | "group":
            return [evaluated(part) for part in parts]
        case "gather":
            return [evaluated(part) for part in parts[1:]]
        case "cleanup" | "child":
            return evaluated(parts[0])
    raise AssertionError(kind)


def without_values(program: Program, result: Any) -> Any:
    """Return the result with None in place of the values of a replay."""
    kind, *parts = program
    if kind == "value":
        return None
    if kind in ("sequence", "group", "gather"):
        parts = parts[1:] if kind == "gather" else parts
        return [without_values(part, each) for part, each in zip(parts, result, strict=True)]
    return without_values(parts[0], result) if kind in ("cleanup", "child") else result
