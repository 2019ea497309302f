"""The stored part of a model call: its messages, the answer, its reasoning and sources, the tool calls and the options, within bounds. Pure.

`{messages, left_out_messages, answer, reasoning, citations, left_out_citations, tool_calls, left_out_tool_calls, options}`. `options` are the
parameters of the call, such as its temperature and tools; null if they are too long. A long text loses its middle, an image its data, and a long conversation its older messages; the numbers say how many are left out.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from tasks.rules.strict_json import Json

CONTENT_BYTES: Final = 65_536
"""About how much is stored of one call, as JSON."""
TEXT_CHARACTERS: Final = 8_192
"""The number of characters of one text that are kept."""
DATA_CHARACTERS: Final = 64
"""The number of characters of an image, or of another `data:` URL, that are kept."""
SECRET_CHARACTERS: Final = 4_096
"""The number of characters that are masked besides a part of a text, so that no secret is cut in half."""
DEPTH: Final = 20
LARGEST: Final = 2**63

Mask = Callable[[str], str]


def stored_content(
    *,
    messages: Sequence[Any],
    answer: str | None,
    tool_calls: Sequence[Any],
    mask: Mask,
    reasoning: str | None = None,
    citations: Sequence[Any] = (),
    options: Mapping[str, Any] | None = None,
) -> str:
    """Return the content as JSON text. `mask` replaces secrets in a text."""
    said, thought = (None if text is None else _shortened(text, mask) for text in (answer, reasoning))
    calls = _that_fit(tool_calls, CONTENT_BYTES // 4, mask)
    cited = _that_fit(citations, CONTENT_BYTES // 8, mask)
    given = _that_fit([dict(options or {})], CONTENT_BYTES // 4, mask)
    room = CONTENT_BYTES - len(orjson.dumps([said, thought, calls, cited, given]))
    first = _that_fit(messages[:1], room // 2, mask)  # the first message says what the model is
    room -= len(orjson.dumps(first))
    kept = [*first, *reversed(_that_fit(reversed(messages[1:]), room, mask))]
    content: Json = {
        "messages": kept,
        "left_out_messages": len(messages) - len(kept),
        "answer": said,
        "reasoning": thought,
        "citations": cited,
        "left_out_citations": len(citations) - len(cited),
        "tool_calls": calls,
        "left_out_tool_calls": len(tool_calls) - len(calls),
        "options": given[0] if given else None,
    }
    together = "\n".join(_texts_in(content))
    if mask(together) != together:
        content = _with_masks(content, mask)
    return orjson.dumps(content).decode()


def _clean(value: Any, mask: Mask, depth: int = 0) -> Any:
    """Return the value as JSON that can be stored, with short texts."""
    match value:
        case str():
            return _shortened(value, mask)
        case dict() | list() | tuple() if depth == DEPTH:
            return "…"
        case dict():
            return {_shortened(str(name), mask): _clean(item, mask, depth + 1) for name, item in value.items()}
        case list() | tuple():
            return [_clean(item, mask, depth + 1) for item in value]
        case int() if not -LARGEST <= value < LARGEST:
            return str(value)
        case int() | float() | None:
            return value
    return f"({type(value).__name__})"


def _shortened(text: str, mask: Mask) -> str:
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if text.startswith("data:") and len(text) > DATA_CHARACTERS:
        return f"{text[:DATA_CHARACTERS]}… ({len(text) - DATA_CHARACTERS:,} more characters)"
    if len(text) <= TEXT_CHARACTERS:
        return text
    half = TEXT_CHARACTERS // 2
    start = mask(text[: half + SECRET_CHARACTERS])[:half]
    end = mask(text[-half - SECRET_CHARACTERS :])[-half:]
    return f"{start} … ({len(text) - TEXT_CHARACTERS:,} characters left out) … {end}"


def _that_fit(values: Iterable[Any], room: int, mask: Mask) -> list[Any]:
    """Return the first values that have no more bytes together. The others are not read."""
    kept = list[Any]()
    for value in (_clean(each, mask) for each in values):
        room -= len(orjson.dumps(value)) + 1
        if room < 0:
            break
        kept.append(value)
    return kept


def _texts_in(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from _texts_in(item)
        case dict():
            for name, item in value.items():
                yield name
                yield from _texts_in(item)


def _with_masks(value: Any, mask: Mask) -> Any:
    match value:
        case str():
            return mask(value)
        case list():
            return [_with_masks(item, mask) for item in value]
        case dict():
            return {mask(name): _with_masks(item, mask) for name, item in value.items()}
    return value
