"""Parts of a stream, joined: a provider sends one for each token, and each costs LiteLLM as much as a long one.

Parts that arrive within a tenth of a second and differ in nothing but their text are passed on as one;
with many streams at once, within up to a second.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, ClassVar, Final

import orjson

EVERY_SECONDS: Final = 0.1
MOST_SECONDS: Final = 1.0
MOST_EACH_SECOND: Final = 250
"""The number of times per second that all streams of a process together are passed on, as far as MOST_SECONDS allows."""
MAX_WAITING_BYTES: Final = 2**20
"""The bytes that may have arrived without being taken: then no more is read."""
TEXTS_OF_ANTHROPIC: Final = {
    "text_delta": "text",
    "input_json_delta": "partial_json",
    "thinking_delta": "thinking",
}
TEXTS: Final = frozenset({"content", "text_delta", "candidate", "response"})
"""The kinds of parts that are text of the answer itself."""
Slot = tuple[Any, dict[str, Any], str]
"""The place of a part's text: parts of the same kind, the first member, may be joined."""


class Merger:
    """Takes the parts of one stream in order, and returns fewer."""

    def __init__(self) -> None:
        self._done: list[bytes] = []
        self._bytes = 0
        self._kind: Any = None
        self._frame: Any = None
        self._before = b""
        self._slot: tuple[dict[str, Any], str] | None = None
        self._texts: list[str] = []
        self._end: tuple[bytes, dict[str, Any]] | None = None

    @property
    def waiting_bytes(self) -> int:
        return self._bytes

    @property
    def text(self) -> str:
        """The text of the parts of the answer that were not taken yet."""
        names = self._kind if isinstance(self._kind, tuple) else (self._kind,)
        return "".join(self._texts) if TEXTS & {*map(str, names)} else ""

    def add(
        self, raw: bytes, frame: Mapping[str, Any] | None, *, before: bytes = b"data: ", after: bytes = b"\n\n"
    ) -> None:
        """Add a part: `raw` is all of it, `frame` its JSON, if it has any, which stands between `before` and `after`."""
        self._bytes += len(raw)
        slot = None if frame is None else slot_of(frame)
        if slot is None:
            self._add_other(raw, frame, before, after)
            return
        kind, holder, name = slot
        if kind != self._kind:
            self._flush()
            self._kind, self._frame, self._slot = kind, frame, (holder, name)
            self._before, self._after = before, after
        self._texts.append(holder[name])

    def take(self) -> bytes:
        """Return all that was added since, as parts of a stream."""
        self._flush()
        taken = b"".join(self._done)
        self._done.clear()
        self._bytes = 0
        return taken

    def _add_other(self, raw: bytes, frame: Mapping[str, Any] | None, before: bytes, after: bytes) -> None:
        """Add a part that is not joined with others, but for the usage with the end before it, as OpenAI sends them."""
        match frame or {}:
            case {"choices": [], "usage": {} as usage, **fields} if self._end is not None:
                self._done.append(before + orjson.dumps(self._end[1] | fields | {"usage": usage}) + after)
                self._end = None
            case {"choices": [{"finish_reason": str()}]} as end if not end.get("usage"):
                self._flush()
                self._end = raw, dict(end)
            case _:
                self._flush()
                self._done.append(raw)

    def _flush(self) -> None:
        if self._end is not None:
            self._done.append(self._end[0])
            self._end = None
        if self._slot is None:
            return
        holder, name = self._slot
        holder[name] = "".join(self._texts)
        self._done.append(self._before + orjson.dumps(self._frame) + self._after)
        self._kind = self._frame = self._slot = None
        self._texts.clear()


def slot_of(frame: Mapping[str, Any]) -> Slot | None:
    """Return where the text of a part is, if it has nothing else that matters."""
    match frame:
        case {"usage": usage} if usage:
            return None
        case {"choices": [{"delta": {}, **choice}]}:
            is_bare = not choice.get("finish_reason") and not choice.get("logprobs")
            return _of_openai(frame["choices"][0]["delta"], choice.get("index")) if is_bare else None
        case {"type": "content_block_delta", "index": index, "delta": {"type": kind}} if kind in TEXTS_OF_ANTHROPIC:
            return _slot(("block", index, kind), frame["delta"], TEXTS_OF_ANTHROPIC[kind])
        case {"candidates": [{"content": {"parts": [{"text": str(), **rest}]}, **candidate}]}:
            is_bare = not rest and not candidate.keys() - {"index"}
            return ("candidate", frame["candidates"][0]["content"]["parts"][0], "text") if is_bare else None
        case {"response": str(), "done": False}:
            return _slot("response", frame, "response")
    return None


def _of_openai(delta: dict[str, Any], index: Any) -> Slot | None:
    given = {name for name, value in delta.items() if value is not None} - {"role"}
    if len(given) != 1:
        return None
    name = given.pop()
    if name in ("content", "reasoning_content"):
        return _slot((name, index), delta, name)
    match delta:
        case {"tool_calls": [{"index": number, "function": {"arguments": str(), **function}, **call}]}:
            is_bare = not any(function.values()) and not call.get("id")
            return (("call", number), delta["tool_calls"][0]["function"], "arguments") if is_bare else None
    return None


def _slot(kind: Any, place: Any, name: str) -> Slot | None:
    return (kind, place, name) if isinstance(place.get(name), str) else None


class Coalesced:
    """Reads a stream as it arrives and yields it a few times a second."""

    _open: ClassVar[int] = 0

    def __init__(self, source: AsyncIterator[bytes], read: Callable[[bytes], None], merger: Merger) -> None:
        """`read` is called with each piece of the source, and adds its parts to the merger."""
        self._source = source
        self._read = read
        self._merger = merger
        self._due = asyncio.Event()
        self._room = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._taken_at = 0.0
        self._feeding: asyncio.Task[None] | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._feeding = asyncio.create_task(self._feed())
        Coalesced._open += 1
        try:
            while not self._feeding.done():
                await self._due.wait()
                self._due.clear()
                self._timer = None
                self._taken_at = asyncio.get_running_loop().time()
                self._room.set()
                if data := self._merger.take():
                    yield data
            self._feeding.result()
        finally:
            Coalesced._open -= 1
            await self.aclose()

    async def aclose(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._feeding is not None and not self._feeding.done():
            self._feeding.cancel()
            await asyncio.wait([self._feeding])

    async def _feed(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async for data in self._source:
                self._read(data)
                if self._merger.waiting_bytes > MAX_WAITING_BYTES:
                    self._room.clear()
                    self._due.set()
                    await self._room.wait()
                elif self._timer is None:
                    wait_seconds = min(MOST_SECONDS, max(EVERY_SECONDS, Coalesced._open / MOST_EACH_SECOND))
                    self._timer = loop.call_at(max(loop.time(), self._taken_at + wait_seconds), self._due.set)
        finally:
            self._due.set()
