"""Many chunks of one answer: others go on between them, and they are not all kept."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import pytest

from aipartnerupflow.executors import ExecutorError, Stopped
from llmkeys.resolve import Credentials
from llmkeys.secret import Secret
from tasks.executors.llm.litellm_bounds import MODEL_LOOP
from tasks.executors.llm.litellm_calls import MAX_PARTS, Streamed
from tasks.executors.llm.prompt import Completion, Prompt
from tasks.executors.llm.wire import WIRE
from tasks.worker.models_of_task import MAX_CHARACTERS, Lines
from tests.lazy_modules import LazyModule
from tests.llm_formats import Says
from tests.llm_server import llm_server
from tests.servers import until

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # of LiteLLM
litellm = LazyModule("litellm")
litellm_types = LazyModule("litellm.types.utils")
litellm_calls = LazyModule("tasks.executors.llm.litellm_calls")
openai = LazyModule("openai")
MESSAGES = [{"role": "user", "content": "Hi"}]


def chunk(text: str | None = None, *, usage: Any = None, ends: str | None = None, **delta: Any) -> Any:
    choice = litellm_types.StreamingChoices(
        index=0, delta=litellm_types.Delta(content=text, **delta), finish_reason=ends
    )
    made = litellm_types.ModelResponseStream(id="c", model="gpt-4", created=1, choices=[choice])
    if usage:
        made.usage = usage
    return made


def called(number: int) -> Any:
    function = {"name": "look" if not number else None, "arguments": str(number)}
    return chunk(
        tool_calls=[{"index": 0, "id": "call" if not number else None, "type": "function", "function": function}]
    )


def usage(completion_tokens: int) -> Any:
    return litellm_types.Usage(prompt_tokens=1, completion_tokens=completion_tokens, total_tokens=1 + completion_tokens)


@pytest.mark.parametrize(
    "sent",
    [
        lambda: [chunk("a", role="assistant"), *(chunk(f" {number}") for number in range(50)), chunk(ends="stop")],
        lambda: [chunk(f"{number}", usage=usage(number)) for number in range(50)],
        lambda: [
            *(chunk("Let me look. "), called(0), called(1), called(2)),
            *(chunk(ends="tool_calls"), chunk(usage=usage(7))),
        ],
        lambda: [chunk("", reasoning_content="hm"), chunk("So."), chunk("", ends="stop")],
    ],
    ids=["text", "usage", "calls", "thoughts"],
)
def test_what_is_kept_amounts_to_the_same_answer(sent: Callable[[], list[Any]]) -> None:
    chunks = sent()
    streamed = Streamed(max_characters=1000)
    expected: Any = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    texts = [streamed.add(each) for each in chunks]
    assert len(streamed.chunks()) <= 6
    found: Any = litellm.stream_chunk_builder(streamed.chunks(), messages=MESSAGES)
    message, wanted = found.choices[0].message, expected.choices[0].message
    assert (message.content, message.tool_calls) == (wanted.content, wanted.tool_calls)
    assert message.content == ("".join(texts) or None)
    assert found.choices[0].finish_reason == expected.choices[0].finish_reason
    assert found.usage.prompt_tokens == expected.usage.prompt_tokens
    if any(getattr(each, "usage", None) for each in chunks):
        assert found.usage.total_tokens == expected.usage.total_tokens


def test_an_answer_without_an_end_is_stopped() -> None:
    streamed = Streamed(max_characters=10)
    streamed.add(chunk("x" * 10))
    with pytest.raises(ExecutorError, match=r"more than the 10 characters that limits\.result_bytes allows"):
        streamed.add(chunk("x"))
    streamed, call = Streamed(max_characters=10), called(1)
    for _ in range(MAX_PARTS):
        streamed.add(call)
    with pytest.raises(ExecutorError, match="20,000 parts of tool calls"):
        streamed.add(call)


@pytest.fixture
def granted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def access(prompt: Prompt) -> Credentials:
        return Credentials(provider="openai", api_key=None, api_base=None, source="none")

    monkeypatch.setattr("tasks.executors.llm.litellm_calls.access", access)


async def ask(heard: Callable[[str], None]) -> Completion:
    prompt = Prompt(model="openai/gpt-4", messages=MESSAGES, run_id="run-1", user_id="alice")
    answer: Completion = await litellm_calls.ask(prompt, heard=heard, spent=lambda _: None)
    return answer


@pytest.mark.usefixtures("granted")
async def test_a_library_that_blocks_does_not_block_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, released = threading.Event(), threading.Event()

    async def complete(**_: object) -> AsyncIterator[Any]:
        begun.set()
        assert released.wait(60)
        return answer()

    async def answer() -> AsyncIterator[Any]:
        yield chunk("Here.", ends="stop")

    monkeypatch.setattr("litellm.acompletion", complete)
    asking = asyncio.create_task(ask(lambda text: None))
    await asyncio.to_thread(begun.wait, 20)
    released.set()  # by the loop of the worker, which goes on
    assert (await asking).content == "Here."


@pytest.mark.usefixtures("granted")
async def test_calls_take_turns_while_chunks_that_have_arrived_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider has sent everything before it is read. Another task of the models' loop counts its turns meanwhile."""
    read = 0
    turns: list[int] = []
    watching = asyncio.Event()

    async def all_at_once() -> AsyncIterator[Any]:
        nonlocal read
        for read in range(800):
            yield chunk(f"{read} ")
        yield chunk(usage=usage(800), ends="stop")

    async def complete(**_: object) -> AsyncIterator[Any]:
        await watching.wait()
        return all_at_once()

    async def bystander() -> None:
        watching.set()
        while read < 799:
            turns.append(read)
            await asyncio.sleep(0)

    monkeypatch.setattr("litellm.acompletion", complete)
    heard: list[str] = []
    answer, _ = await asyncio.gather(ask(heard.append), MODEL_LOOP.run(bystander))
    assert answer.content == "".join(heard) == "".join(f"{number} " for number in range(800))
    assert max(after - before for before, after in pairwise(turns)) <= litellm_calls.CHUNKS_EACH_TURN


@pytest.mark.usefixtures("granted")
async def test_a_cancelled_call_is_over_when_its_task_is(monkeypatch: pytest.MonkeyPatch) -> None:
    said, ended = threading.Event(), threading.Event()

    async def slowly() -> AsyncIterator[Any]:
        try:
            yield chunk("one ")
            wire = WIRE.get()
            assert wire is not None
            wire.read(b'data: {"choices": [{"index": 0, "delta": {"content": "two "}}]}\n\n')  # and not passed on yet
            said.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def complete(**_: object) -> AsyncIterator[Any]:
        return slowly()

    monkeypatch.setattr("litellm.acompletion", complete)
    asking = asyncio.create_task(ask(lambda text: None))
    await asyncio.to_thread(said.wait, 20)
    asking.cancel()
    with pytest.raises(Stopped) as stopped:
        await asking
    assert ended.is_set()
    assert stopped.value.result["content"] == "one two "


async def test_a_long_text_becomes_several_events() -> None:
    said: list[str] = []
    with Lines(said.append) as lines:
        lines.add("a" * MAX_CHARACTERS)
        lines.add("b")
    assert said == ["a" * MAX_CHARACTERS, "b"]


async def test_no_client_with_a_key_is_kept_after_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM keeps its clients for an hour, each with a key."""
    key = Secret("canary-that-is-not-kept")
    with llm_server() as llm:
        granted = Credentials(provider="openai", api_key=key, api_base=llm.openai_base, source="user")

        async def access(prompt: Prompt) -> Credentials:
            return granted

        monkeypatch.setattr("tasks.executors.llm.litellm_calls.access", access)
        prompt = Prompt(model="openai/gpt-4", messages=MESSAGES, run_id="run-1", user_id="alice")
        await litellm_calls.ask(prompt, heard=lambda _: None, spent=lambda _: None)
        assert llm.asked[-1].key == key.reveal()

    def is_gone() -> bool:
        gc.collect()
        # type(), because isinstance() asks the object itself for its class, and lazy objects of other tests then evaluate.
        clients = [found for found in gc.get_objects() if issubclass(type(found), openai.AsyncOpenAI)]
        return all(client.api_key != key.reveal() for client in clients)

    # The thread of the models lets go of the call after it has given the answer.
    until(is_gone, seconds=10, what="the client is gone")


async def test_a_provider_that_is_away_ends_no_other_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM asks a second time after a lost connection, with a client of its own, which it closes."""
    with llm_server() as llm:
        bases = {"openai/gpt-4": llm.openai_base, "anthropic/claude-sonnet-4-5": "http://127.0.0.1:9"}

        async def access(prompt: Prompt) -> Credentials:
            provider, _, _ = prompt.model.partition("/")
            key = Secret("canary-of-two-calls")
            return Credentials(provider=provider, api_key=key, api_base=bases[prompt.model], source="user")

        monkeypatch.setattr("tasks.executors.llm.litellm_calls.access", access)
        llm.will(Says(text="one two three", stalls_after=2))
        begun = asyncio.Event()
        asking = asyncio.create_task(ask(lambda text: begun.set()))
        await begun.wait()
        other = Prompt(model="anthropic/claude-sonnet-4-5", messages=MESSAGES, run_id="run-1", user_id="alice")
        with pytest.raises(ExecutorError, match="anthropic could not be reached"):
            await litellm_calls.ask(other, heard=lambda _: None, spent=lambda _: None)
        assert not llm.hung_up.is_set()
        asking.cancel()
        with pytest.raises(Stopped) as stopped:
            await asking
        assert llm.hung_up.wait(60)
    assert stopped.value.result["content"].startswith("one")
