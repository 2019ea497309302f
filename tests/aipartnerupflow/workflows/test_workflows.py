"""Workflows as their authors see them: values and types, failures, time, what is named when it is wrong, and differences in a replay."""

import asyncio
import gc
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import choice
from typing import Any

import anyio
import msgspec
import pydantic
import pytest

from aipartnerupflow.workflows import (
    Again,
    Difference,
    StepCancelled,
    StepFailed,
    agent,
    ask,
    event,
    gather,
    now,
    patched,
    run,
    secret,
    sleep,
    step,
    workflow,
)
from aipartnerupflow.workflows.drive import Call, Cancel, Drive, End, Record
from aipartnerupflow.workflows.testing import START, Unanswered, play
from aipartnerupflow.workflows.values import inlined, schema_of

HERE = re.escape(__file__)


class Page(pydantic.BaseModel):
    url: str
    taken_at: datetime


class Note(msgspec.Struct):
    page: Page
    stars: int = 0


@dataclass
class Report:
    notes: list[Note]
    title: str | None = None


class Closed(Exception):
    """The site takes no requests."""


class Busy(Closed):
    """The site is busy."""


@step
def fetch(url: str, token: str = "") -> Page:
    assert isinstance(url, str)
    return Page(url=url, taken_at=datetime(2030, 1, 2, tzinfo=UTC))


@step
async def note(page: Page, *, stars: int = 1) -> Note:
    assert isinstance(page, Page)
    return Note(page, stars=stars)


@step
async def add(a: int, b: int = 1) -> int:
    return a + b


@workflow
async def research(topic: str, depth: int = 2) -> Report:
    """Research a topic."""
    pages = await gather(*(fetch(f"{topic}/{number}") for number in range(depth)), at_most=1)
    return Report([await note(page, stars=3) for page in pages], title=topic)


async def test_values_are_what_their_types_say_in_a_test_and_in_this_process() -> None:
    played = await play(research("rivers", depth=2), crash_at=range(100))
    assert [each.page.url for each in played.result.notes] == ["rivers/0", "rivers/1"]
    assert played.result == await research("rivers")
    assert list(played.calls)[:2] == ['1.1 fetch(url="rivers/0")', '2.1 fetch(url="rivers/1")']
    assert played.calls[2] == '3 note(page={"url":"rivers/0","taken_at":"2030-01-02T00:00:00Z"}, s…)'


async def test_a_step_elsewhere_is_a_plain_call() -> None:
    assert await add(1, b=2) == 3
    assert (await fetch("a")).url == "a"
    assert list(await gather(add(1), add(2))) == [2, 3]


def test_types_become_schemas() -> None:
    assert research.input_schema == {
        "type": "object",
        "properties": {"topic": {"type": "string"}, "depth": {"type": "integer", "default": 2}},
        "required": ["topic"],
        "additionalProperties": False,
    }
    assert set(research.result_schema["$defs"]) == {"Report", "Note"}
    assert note.input_schema["properties"]["page"]["required"] == ["url", "taken_at"]


async def test_a_failure_is_raised_at_the_await_and_a_declared_one_as_its_type() -> None:
    tried = []

    @step(retries=2, raises=(Closed,))
    def knock(how: str) -> None:
        tried.append(how)
        raise Busy("later", 7) if how == "politely" else ValueError(how)

    @workflow
    async def visit() -> list[str]:
        found = []
        for how in ("politely", "loudly"):
            try:
                await knock(how)
            except Closed as closed:
                found.append(f"closed {closed.args[1]}")
            except StepFailed as failed:
                found.append(f"{failed.path}: {failed}")
        return found

    assert (await play(visit(), crash_at=4)).result == ["closed 7", "2: knock() raised ValueError: loudly"]
    assert tried == ["politely"] * 3 + ["loudly"] * 3


async def test_people_agents_events_and_executors_answer() -> None:
    @workflow
    async def publish(topic: str) -> list[Any]:
        plan = await agent("planner", prompt=topic, returns=Report)
        answer = await ask("Publish?", options=["yes", "no"])
        paid = await event("payment", match={"/topic": topic})
        with suppress(TimeoutError):
            await event("never", timeout=timedelta(days=3))
        late = now() - START
        return [plan.title, answer, paid.payload, late.days, await run("rest_executor", url="https://example.com")]

    answers: dict[Any, Any] = {
        "planner": lambda prompt: {"notes": [], "title": prompt.upper()},
        "Publish?": iter(["yes"]),
        "payment": {"amount": 3},
    }
    with pytest.raises(StepFailed, match="no route"):
        await play(publish("a"), answers=answers | {"rest_executor": OSError("no route")})
    answers["Publish?"] = "yes"
    played = await play(publish("a"), answers=answers | {"rest_executor": {"status": 200}}, crash_at=range(50))
    assert played.result == ["A", "yes", {"amount": 3}, 3, {"status": 200}]
    with pytest.raises(Unanswered, match=rf"'Publish\?': … \(ask, {HERE}:\d+\)"):
        await play(publish("a"), answers={"planner": {"notes": []}})


async def test_a_step_can_be_answered_by_a_function_of_the_test() -> None:
    played = await play(research("rivers", 1), answers={fetch: lambda url: Page(url="fake", taken_at=START)})
    assert played.result.notes[0].page.url == "fake"


async def test_a_workflow_goes_on_in_parts() -> None:
    @workflow
    async def count(total: int, page: int = 0) -> int:
        total = await add(total, page)
        if page < 5:
            raise Again(total=total, page=page + 1)
        return total

    for crashes in ((), range(100)):
        played = await play(count(0), crash_at=crashes)
        assert (played.result, len(played.calls), len(played.performed)) == (15, 1, 6)
    assert await count(0) == 15


async def test_a_workflow_that_is_put_aside_calls_nothing() -> None:
    called = list[str]()

    @step
    async def tidy(how: str) -> None:
        called.append(how)

    @step
    def tidy_plainly(how: str) -> None:
        called.append(how)

    @workflow
    async def inner(how: str) -> None:
        await tidy(how)

    @workflow
    async def outer(how: str) -> None:
        try:
            await sleep(days=1)
        finally:
            await (inner if how == "workflow" else tidy if how == "step" else tidy_plainly)(how)

    for how in ("workflow", "step", "plain step"):
        drive = outer.drive({"how": how}, seed="s", at=START)
        assert [command.path for command in drive.begin()] == ["1"]
        drive.close()
        await asyncio.sleep(0)
    assert called == []


async def test_a_flow_is_no_agent_and_a_workflow_takes_no_secret() -> None:
    @workflow
    async def wrong(which: str) -> None:
        await agent(which, prompt="a") if which.startswith("flow:") else await inner(secret(which))

    @workflow
    async def inner(token: str) -> None:
        return

    with pytest.raises(
        ValueError, match=rf"{HERE}:\d+: agent\('flow:a'\) names a flow\. Run it with run\('flow:a', …\)"
    ):
        await play(wrong("flow:a"))
    with pytest.raises(TypeError, match=rf"{HERE}:\d+: a secret cannot be an argument of the workflow inner\(\)"):
        await play(wrong("crm"))


def test_models_and_people_get_the_schema_of_a_type_without_references() -> None:
    class Stars(pydantic.BaseModel):
        page: Page

    class Notes(pydantic.BaseModel):
        notes: list[Stars]

    @dataclass
    class Node:
        below: Any

    Node.__annotations__["below"] = list[Node]
    for kind in (Report, Notes):
        schema = inlined(schema_of(kind))
        assert (schema["type"], "$ref" in str(schema), "$defs" in schema) == ("object", False, False)
        assert schema["properties"]["notes"]["items"]["properties"]["page"]["properties"]["url"]["type"] == "string"
    assert inlined(schema_of(Node)) == schema_of(Node)


async def test_a_secret_has_no_value_in_the_workflow() -> None:
    seen = []

    @step
    def post(body: dict[str, Any], token: str) -> None:
        seen.append((body, token))

    @workflow
    async def publish() -> None:
        await post({"a/b": [secret("inner")]}, token=secret("outer"))

    played = await play(publish(), secrets={"inner": "I", "outer": "O"})
    assert seen == [({"a/b": ["I"]}, "O")]
    assert played.calls == ['1 post(body={"a/b":[null]}, token=null)']

    @workflow
    async def leak() -> None:
        await fetch(f"https://example.com/{secret('outer')}")

    with pytest.raises(TypeError, match="has no text in a workflow"):
        await play(leak())


async def test_a_cancellation_in_this_process_reaches_every_step_and_runs_what_cleans_up() -> None:
    begun, stopped, cleaned = asyncio.Event(), [], []

    @step
    async def hang(n: int) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(n)

    @step
    async def clean() -> None:
        cleaned.append(True)

    @workflow
    async def parent() -> None:
        try:
            await gather(hang(1), hang(2))
        finally:
            await clean()

    whole = asyncio.create_task(outer(parent))
    await begun.wait()
    whole.cancel()
    with pytest.raises(asyncio.CancelledError):
        await whole
    assert (sorted(stopped), cleaned) == ([1, 2], [True])


async def outer(parent: Callable[[], Awaitable[None]]) -> None:
    await parent()


@pytest.fixture
def drive_of() -> Iterator[Callable[..., Drive]]:
    """Makes drives, which are closed after the test."""
    drives = list[Drive]()

    def make(code: Any, *records: Record) -> Drive:
        drives.append(code.drive({}, seed="s", at=START, history=records))
        return drives[-1]

    yield make
    for drive in drives:
        drive.close()


def stored(call: Call, end: End | None = None) -> Record:
    return Record(call=call, hash=call.hash, end=end)


def completed(result: Any) -> End:
    return End(status="completed", at=START, result=result)


def test_a_drive_returns_calls_with_the_ends_that_led_to_them(drive_of: Callable[..., Drive]) -> None:
    @workflow
    async def code() -> int:
        first, second = await gather(add(1), add(2))
        return await add(first, second)

    drive = drive_of(code)
    one, two = drive.begin()
    assert isinstance(one, Call) and isinstance(two, Call)
    assert (one.path, two.path, one.seen, two.seen) == ("1.1", "2.1", (), ())
    assert drive.deliver("2.1", completed(3)) == []
    (three,) = drive.deliver("1.1", completed(2))
    assert isinstance(three, Call)
    assert (three.path, three.seen, three.inputs) == ("3", ("2.1", "1.1"), {"a": 2, "b": 3})
    assert drive.deliver("1.1", completed(2)) == [], "a second end changes nothing"
    drive.deliver("3", completed(5))
    assert drive.outcome == completed(5)


def test_an_order_to_cancel_is_repeated_before_ends_that_were_not_delivered(drive_of: Callable[..., Drive]) -> None:
    @workflow
    async def code() -> str:
        first, second, third = [asyncio.ensure_future(add(number)) for number in range(3)]
        await asyncio.wait([first, third], return_when=asyncio.FIRST_COMPLETED)
        if third.done():
            return f"third, {await second}"
        second.cancel()
        return f"first, {await third}"

    drive = drive_of(code)
    one, two, three = (stored(each) for each in drive.begin() if isinstance(each, Call))
    three.end = completed(3)
    one.end = replace(completed(1), at=START + timedelta(seconds=1))
    (order,) = drive.deliver("1.1", one.end)
    assert isinstance(order, Cancel)
    assert (order.path, order.after, order.seen) == ("2.1", 3, ("1.1",))
    two.end, two.cancel = End(status="cancelled", at=START + timedelta(seconds=2)), order
    again = drive_of(code, one, two, three)
    again.begin()
    assert again.outcome is not None
    assert (again.outcome.status, again.outcome.result) == ("completed", "first, 3")


async def test_branches_that_end_at_the_same_moment_are_in_the_order_in_which_they_began() -> None:
    async def same(number: int) -> int:
        return number

    @workflow
    async def code() -> list[int]:
        ended, _ = await asyncio.wait([asyncio.ensure_future(same(number)) for number in range(50)])
        await add(1)
        return [branch.result() for branch in ended]

    assert (await play(code())).result == list(range(50))


async def test_a_person_cancels_a_step(drive_of: Callable[..., Drive]) -> None:
    @workflow
    async def code() -> str:
        try:
            return str(await add(1))
        except StepCancelled as cancelled:
            return str(cancelled)

    drive = drive_of(code)
    drive.begin()
    drive.deliver("1", End(status="cancelled", at=START, error="Cancelled by alice"))
    assert drive.outcome is not None and drive.outcome.result == "Cancelled by alice"


def test_a_cancellation_comes_before_the_ends_that_it_caused(drive_of: Callable[..., Drive]) -> None:
    @workflow
    async def code() -> str:
        try:
            return str(await add(1))
        except StepCancelled:
            return "cancelled by a person"
        finally:
            await add(2)

    (one,) = drive_of(code).begin()
    assert isinstance(one, Call)
    history = [stored(one, End(status="cancelled", at=START))]
    drive = code.drive({}, seed="s", at=START, history=history, is_cancelled=True)
    _, two = drive.begin()
    assert isinstance(two, Call) and two.seen == ("",)
    drive.deliver("2", completed(3))
    assert drive.outcome is not None and drive.outcome.status == "cancelled"


def failing() -> Iterator[tuple[int | None, Any]]:
    """Codes that fail in their second call, `fetch`, and how many calls they had made before what made them fail."""

    @workflow
    async def at_once() -> None:
        await add(1)
        await fetch("a")

    @workflow
    async def after_cleaning_up() -> None:
        await add(1)
        try:
            await fetch("a")
        finally:
            await gather(add(2), add(3))

    @workflow
    async def by_its_own_exception() -> None:
        await add(1)
        try:
            with suppress(StepFailed):
                await fetch("a")
            raise ValueError("too late")
        except ValueError as error:
            await add(2)
            raise RuntimeError("no more") from error

    @workflow
    async def beside_others() -> None:
        await gather(add(1), fetch("a"), add(2), at_most=2)

    @workflow
    async def in_what_handles_it() -> None:
        await add(1)
        try:
            await fetch("a")
        except StepFailed:
            await fetch("b")

    @workflow
    async def after_it_went_on() -> None:
        await add(1)
        with suppress(StepFailed):
            await fetch("a")
        await add(2)
        await fetch("b")

    @workflow
    async def by_a_check() -> None:
        await add(1)
        with suppress(StepFailed):
            await fetch("a")
        await add(2)
        raise ValueError("too late")

    yield 2, at_once
    yield 2, after_cleaning_up
    yield 2, by_its_own_exception
    yield 3, beside_others
    yield 2, in_what_handles_it
    yield 4, after_it_went_on
    yield None, by_a_check


@pytest.mark.parametrize(("calls", "code"), [pytest.param(*each, id=each[1].__name__) for each in failing()])
def test_a_workflow_that_fails_says_how_far_it_was_before(
    calls: int | None, code: Any, drive_of: Callable[..., Drive]
) -> None:
    drive = drive_of(code)
    commands = drive.begin()
    while drive.outcome is None:
        call = commands.pop(0)
        if isinstance(call, Call):
            end = End(status="failed", at=START, error="no") if call.name == "fetch" else completed(1)
            commands += drive.deliver(call.path, end)
    assert (drive.outcome.status, drive.failed_after) == ("failed", calls)


def changed(number: int) -> Iterator[tuple[str, Any]]:
    """Codes that differ from `add(1)`, then `add(2)`, and the words that say how."""

    @workflow
    async def other_arguments() -> None:
        await add(1)
        await add(3)

    @workflow
    async def another_step() -> None:
        await add(1)
        await fetch("a")

    @workflow
    async def fewer_calls() -> None:
        await add(1)

    @workflow
    async def beside_each_other() -> None:
        await gather(add(1), add(2))

    @workflow
    async def sooner() -> None:
        first = asyncio.ensure_future(add(1))
        await add(2)
        await first

    yield rf"{HERE}:\d+: the run called 2 add\(a=2\), and the code now calls 2 add\(a=3\)", other_arguments
    yield rf"{HERE}:\d+: the run called 2 add\(a=2\), and the code now calls 2 fetch\(url=\"a\"\)", another_step
    yield r"the run called 2 add\(a=2\), and the code does not", fewer_calls
    yield r"the run called 1 add\(a=1\), and the code now calls 1\.1 add\(a=1\)", beside_each_other
    yield r"the run called 1 add\(a=1\), and the code now calls 2 add\(a=2\)", sooner


@pytest.mark.parametrize("number", range(5))
def test_a_difference_between_code_and_history_is_named(number: int, drive_of: Callable[..., Drive]) -> None:
    @workflow
    async def code() -> None:
        await add(1)
        await add(2)

    drive = drive_of(code)
    (one,) = drive.begin()
    (two,) = drive.deliver("1", completed(2))
    assert isinstance(one, Call) and isinstance(two, Call)
    words, new_code = list(changed(number))[number]
    with pytest.raises(Difference, match=words):
        drive_of(new_code, stored(one, completed(2)), stored(two)).begin()


def test_a_call_that_no_longer_waits_for_an_end_is_a_difference(drive_of: Callable[..., Drive]) -> None:
    @workflow
    async def code() -> None:
        first = asyncio.ensure_future(add(1))
        await add(2)
        await first
        await add(3)

    @workflow
    async def new_code() -> None:
        first = asyncio.ensure_future(add(1))
        await add(2)
        await add(3)
        await first

    drive = drive_of(code)
    one, two = drive.begin()
    drive.deliver("2", completed(3))
    (three,) = drive.deliver("1.1", completed(2))
    history = [stored(each, completed(0)) for each in (one, two) if isinstance(each, Call)]
    assert isinstance(three, Call)
    with pytest.raises(Difference, match=r"3 add\(a=3\) after 2, 1\.1 had ended, and the code now after 2"):
        drive_of(new_code, *history, stored(three)).begin()


def test_works_that_have_not_begun_are_closed_after_a_difference(drive_of: Callable[..., Drive]) -> None:
    """A coroutine that is never awaited would warn, and warnings are errors here."""

    @workflow
    async def code() -> None:
        await gather(*(add(number) for number in range(5)), at_most=2)

    first, *_ = drive_of(code).begin()
    assert isinstance(first, Call)
    with pytest.raises(Difference):
        drive_of(code, Record(call=first, hash="another")).begin()
    gc.collect()


def test_code_that_was_changed_for_new_runs_only_replays_old_ones(drive_of: Callable[..., Drive]) -> None:
    @workflow
    async def old() -> None:
        await add(1)
        await add(2)

    @workflow
    async def new() -> None:
        if patched("more"):
            await add(0)
        await add(1)
        await add(2)
        if patched("later"):
            await add(3)

    drive = drive_of(old)
    (one,) = drive.begin()
    assert isinstance(one, Call)
    replayed = drive_of(new, stored(one, completed(2)))
    (two,) = replayed.begin()
    (three,) = replayed.deliver("2", completed(3))
    assert isinstance(two, Call) and isinstance(three, Call)
    assert (three.path, three.inputs, three.patches) == ("3", {"a": 3}, ("later",))
    again = drive_of(new, stored(one, completed(2)), stored(two, completed(3)), stored(three))
    assert again.begin() == []
    (fresh,) = drive_of(new).begin()
    assert isinstance(fresh, Call) and fresh.patches == ("more",)


def impure() -> Iterator[tuple[str, Callable[[], Any]]]:
    def direct() -> Any:
        @workflow
        async def code() -> float:
            return time.time()

    def by_helper() -> Any:
        @workflow
        async def code() -> str:
            return helper()

    def within() -> Any:
        @workflow
        async def code() -> str:
            with open("file") as file:  # noqa: ASYNC230, PTH123
                return file.read()

    def imported() -> Any:
        @workflow
        async def code() -> datetime:
            from datetime import datetime as moment  # noqa: PLC0415

            return moment.now(UTC)

    yield r"code\(\) calls time\.time\(\), .* use now\(\)", direct
    yield r"helper\(\) calls choice\(\), .* use random\(\)", by_helper
    yield r"code\(\) calls open\(\), .* do it in a step", within
    yield r"code\(\) calls moment\.now\(\), .* use now\(\)", imported


def helper() -> str:
    return choice(["a", "b"])


@pytest.mark.parametrize("number", range(4))
def test_what_is_not_the_same_in_a_replay_is_named_where_a_workflow_is_declared(number: int) -> None:
    words, declare = list(impure())[number]
    with pytest.raises(TypeError, match=rf"^{HERE}:\d+: {words}"):
        declare()


async def test_values_that_cannot_be_stored_are_named_at_the_call() -> None:
    @step
    async def odd() -> Any:
        return object()

    @workflow
    async def wrong_argument(value: Any) -> None:
        await add(float("nan"))  # type: ignore[arg-type]

    @workflow
    async def wrong_result() -> None:
        await odd()

    @workflow
    async def wrong_name() -> None:
        await add(c=1)  # type: ignore[call-arg]

    table: list[tuple[str, Callable[[], Any]]] = [
        (rf"{HERE}:\d+: the argument 'value' of wrong_argument\(\) cannot be stored", lambda: wrong_argument(object())),
        (rf"{HERE}:\d+: the argument 'a' of add\(\) cannot be stored: NaN", lambda: wrong_argument(1)),
        (rf"{HERE}:\d+: the argument 'value' .* more than 64 bits", lambda: wrong_argument(2**70)),
        (rf"{HERE}:\d+: the result of odd\(\) cannot be stored: a value of type object is no JSON", wrong_result),
        (rf"{HERE}:\d+: add\(a: int, b: int = 1\) -> int is called wrongly: missing", wrong_name),
    ]
    for words, call in table:
        with pytest.raises((TypeError, StepFailed), match=words):
            await play(call())


def test_what_cannot_be_a_workflow_says_why() -> None:
    with pytest.raises(TypeError, match=r"Write `async def plain`"):

        @workflow  # type: ignore[arg-type]
        def plain() -> None: ...

    with pytest.raises(TypeError, match=r"the parameter 'values', which has no name"):

        @step
        def many(*values: int) -> None: ...

    @workflow
    async def typed(value: complex) -> None: ...

    with pytest.raises(TypeError, match=r"the parameter 'value' of typed\(\) has no JSON form"):
        typed.check()

    @step
    def unknown(value: "Unknown") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(
        TypeError, match=rf"{HERE}:\d+: a type hint of unknown\(\) is not known at run time: name 'Unknown'"
    ):
        unknown.check()


async def test_a_workflow_that_waits_for_no_call_or_never_waits_fails() -> None:
    @workflow
    async def waits() -> None:
        await asyncio.Event().wait()

    @workflow
    async def spins() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    @workflow
    async def threads() -> None:
        await asyncio.get_running_loop().run_in_executor(None, print)

    for code, words in (
        (waits, rf"{HERE}:\d+: the workflow waits for something that is not a call"),
        (spins, "without waiting for a call"),
        (threads, r"cannot use threads, sockets or processes \(loop.run_in_executor\)"),
    ):
        with pytest.raises(RuntimeError, match=words):
            await play(code())


async def test_timers_of_asyncio_are_stored() -> None:
    @workflow
    async def code() -> datetime:
        await asyncio.sleep(3600)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sleep(days=1), 60)
        return now()

    played = await play(code(), crash_at=range(100))
    assert played.result - START < timedelta(minutes=61, seconds=1)
    assert [call.partition(" ")[2] for call in played.calls] == [
        f"sleep timer(seconds={seconds})" for seconds in ("3600.0", "60.0", "86400.0")
    ]


async def test_what_is_open_when_a_workflow_ends_is_cancelled() -> None:
    @workflow
    async def code() -> int:
        left = asyncio.ensure_future(sleep(days=400))
        result = await add(1)
        assert not left.done()
        return result

    played = await play(code())
    assert (played.result, played.clock - START < timedelta(days=1)) == (2, True)

    @workflow
    async def tidy() -> int:
        async def branch() -> None:
            try:
                await sleep(days=400)
            finally:
                await add(7)

        left = asyncio.ensure_future(branch())
        result = await add(1)
        assert not left.done()
        return result

    assert (await play(tidy())).calls == ["2 add(a=1)", "1.1 sleep timer(seconds=34560000.0)"]


async def test_a_key_names_a_call_once() -> None:
    @workflow
    async def code(keys: list[str]) -> list[int]:
        return [await add.options(key=key)(1) for key in keys]

    assert (await play(code(["a", "b"]))).calls == ["add:a add(a=1)", "add:b add(a=1)"]
    with pytest.raises(ValueError, match="the key 'a' is taken"):
        await play(code(["a", "a"]))


async def test_what_frameworks_use_of_asyncio_works_and_is_put_aside_in_silence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Task groups wait for their tasks when they are left, also when a crash puts the code aside."""

    @step
    async def double(number: int) -> int:
        return 2 * number

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            for number in range(2):
                yield await double(number)
        finally:
            await asyncio.sleep(0)

    @workflow
    async def grouped() -> list[int]:
        found, lock, go = list[int](), asyncio.Lock(), asyncio.Event()

        async def add(number: int) -> None:
            await go.wait()
            async with lock:
                found.append(await double(number))

        async with anyio.create_task_group() as outer, asyncio.TaskGroup() as inner:
            outer.start_soon(add, 10)
            inner.create_task(add(20))
            go.set()
            found.append(await asyncio.wait_for(double(5), timeout=60))
        async with aclosing(numbers()) as each:
            return sorted([*found, *[number async for number in each]])

    first = await play(grouped())
    assert first.result == [0, 2, 10, 20, 40]
    for crash in range(1, first.commits + 1):
        again = await play(grouped(), crash_at=crash)
        assert (again.result, again.performed) == (first.result, first.performed)
    gc.collect()
    assert caplog.records == []
