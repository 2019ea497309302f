"""Model calls for people: what was said as messages, with the results of tools beside their calls, and the differences of two calls. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from html import escape
from typing import Any, Final

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.token import Token

from aipartnerupflow.costs import price
from tasks.dashboard.json_text import on_one_line
from tasks.dashboard.words import duration
from tasks.models import ModelCall
from tasks.rules.strict_json import Json, MalformedJson, decode
from tasks.rules.token_usage import dollars

TITLES: Final = ("title", "document_title", "cited_text")
USUAL_ENDS: Final = ("stop", "tool_calls")
TAGS: Final = frozenset(
    "a blockquote br code del em h4 h5 h6 hr li ol p pre s strong table tbody td th thead tr ul".split()
)
ADDRESSES: Final = ("https://", "http://", "mailto:")
IMAGES: Final = ("data:image/png;", "data:image/jpeg;", "data:image/gif;", "data:image/webp;")
KEPT_OF_DATA: Final = 64
"""The number of characters of a file that the record of a call has (`tasks.rules.call_content`)."""
TOP: Final = 4
"""The level of the topmost heading of an answer: those of the page are above it."""
SAME_LINES: Final = 2
"""The number of equal lines that are shown around a difference."""
MOST_LINES: Final = 4_000
BAD_RESULTS: Final = ("Error: ", "Not called: ")
"""The beginnings of what a model reads of a call that failed or was not made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool that a model wants to call. `result` is the text that the model has read; None if it has not read any."""

    name: str
    arguments: str
    id: str = ""
    result: str | None = None

    @property
    def is_bad(self) -> bool:
        """Whether the model has read that the call failed, or was not made."""
        return self.result is not None and self.result.startswith(BAD_RESULTS)

    @property
    def as_code(self) -> str:
        """The arguments as in Python, `product="tea", packets=5`; as they are if they are no object."""
        try:
            given = decode(self.arguments.encode(), nesting=50)
        except MalformedJson:
            return self.arguments
        if not isinstance(given, dict):
            return self.arguments
        return ", ".join(f"{name}={on_one_line(value)}" for name, value in given.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """An image or document in a message. `src` is its data, of an image that pages show; else empty."""

    name: str
    src: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message: `role` says it, in `text`; a model may call tools instead."""

    role: str
    text: str
    tools: Sequence[ToolCall] = ()
    files: Sequence[File] = ()
    answers: str = ""
    """The id of the tool call that it answers."""

    @property
    def html(self) -> SafeString:
        return as_html(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source of an answer. `url` is empty if it is no web address."""

    title: str
    url: str


def who(call: ModelCall) -> str:
    """Return the agent and its task, or the step; else the model."""
    step = f"{'step' if call.agent else 'Step'} {call.step}" if call.step else None
    return " · ".join(filter(None, (call.agent, call.crew_task, step))) or call.model or "unknown model"


def facts(call: ModelCall) -> str:
    """Return tokens, cost and duration, as far as they are known."""
    tokens = None if call.total_tokens is None else f"{call.total_tokens:,} tokens"
    cost = None if call.cost_nanos is None else price(dollars(call.cost_nanos))
    took = None if call.duration_ms is None else duration(call.duration_ms / 1000)
    return " · ".join(filter(None, (tokens, cost, took)))


def talk_of(content: Json, *, files: Mapping[str, str] | None = None) -> list[Message]:
    """Return the messages that were sent, each result with its call. `files` has the whole data of cut files (`files_in`)."""
    talk: list[Message] = []
    for message in (message_of(each, files or {}) for each in content.get("messages", [])):
        at = next((n for n in range(len(talk) - 1, -1, -1) if talk[n].role != "tool"), None)
        if message.role == "tool" and at is not None and (tools := _with_result(talk[at].tools, message)) is not None:
            talk[at] = replace(talk[at], tools=tools)
        else:
            talk.append(message)
    return talk


def _with_result(tools: Sequence[ToolCall], message: Message) -> list[ToolCall] | None:
    """Return the calls, that of this result with it; None if none of them waits for it."""
    waiting = [n for n, tool in enumerate(tools) if tool.result is None]
    found = next((n for n in waiting if tools[n].id and tools[n].id == message.answers), None)
    if found is None and (message.answers == "" or not any(tools[n].id for n in waiting)):
        found = next(iter(waiting), None)  # without ids, by their order
    if found is None:
        return None
    return [replace(tool, result=message.text) if n == found else tool for n, tool in enumerate(tools)]


def answer_of(content: Json, following: Json | None = None) -> Message | None:
    """Return the answer; the results of its tools are in the `following` call of the same agent. None without one."""
    text, tools = text_of(content.get("answer")), tools_in(content.get("tool_calls") or [])
    if not text and not tools:
        return None
    answer = Message(role="assistant", text=text, tools=tools)
    results: list[Message] = []
    for message in reversed((following or {}).get("messages", [])):
        read = message_of(message)
        if read.role == "assistant":
            break
        if read.role == "tool":
            results.insert(0, read)
    for result in results:
        answer = replace(answer, tools=_with_result(answer.tools, result) or answer.tools)
    return answer


def source_of(citation: Any) -> Source:
    """Read a source: an address, or an object as Anthropic's, OpenAI's and Perplexity's. One of another form is shown as JSON."""
    given: Mapping[str, Any] = citation if isinstance(citation, Mapping) else {"url": citation}
    if isinstance(nested := given.get("url_citation"), Mapping):
        given = nested
    url = next((given[name] for name in ("url", "source", "uri") if isinstance(given.get(name), str)), "")
    titles = (given[name] for name in TITLES if isinstance(given.get(name), str) and given[name].strip())
    title = next(titles, None) or url or on_one_line(citation)
    return Source(title=title, url=url if url.startswith(("https://", "http://")) else "")


def message_of(message: Any, files: Mapping[str, str] | None = None) -> Message:
    """Read a message in OpenAI's format. One of another form is shown as JSON."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        return Message(role="message", text=on_one_line(message))
    content, answers = message.get("content"), message.get("tool_call_id")
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return Message(
        role=message["role"],
        text=text_of(content),
        tools=tools_in(message.get("tool_calls") or []),
        files=[file for part in parts if (file := _file_of(part, files or {})) is not None],
        answers=answers if isinstance(answers, str) else "",
    )


def _file_of(part: Json, files: Mapping[str, str]) -> File | None:
    """Return the file of a part; None if it is a text."""
    if isinstance(part.get("text"), str):
        return None
    kind = str(part.get("type", "part"))
    inner = part.get(kind)
    given: Json = inner if isinstance(inner, dict) else {}
    data = next((given[name] for name in ("url", "file_data", "data") if isinstance(given.get(name), str)), "")
    names = (given.get("filename"), data.partition(";")[0].removeprefix("data:"), given.get("format"), kind)
    src = files.get(data, data)
    return File(
        name=next(name for name in names if isinstance(name, str) and name)[:200],
        src=src if src.startswith(IMAGES) and "…" not in src else "",
    )


def files_in(value: Any) -> Iterator[tuple[str, str]]:
    """Return the files in the inputs of a task: as the record of a call has them, which is cut, and whole."""
    match value:
        case str() if value.startswith("data:") and len(value) > KEPT_OF_DATA:
            yield f"{value[:KEPT_OF_DATA]}… ({len(value) - KEPT_OF_DATA:,} more characters)", value
        case dict():
            for item in value.values():
                yield from files_in(item)
        case list():
            for item in value:
                yield from files_in(item)


def text_of(content: Any) -> str:
    """Return the text of a message, without its files."""
    if content is None or isinstance(content, str):
        return (content or "").strip()
    if not isinstance(content, list):
        return on_one_line(content)
    texts = [part.get("text") if isinstance(part, dict) else on_one_line(part) for part in content]
    return "\n".join(text for text in texts if isinstance(text, str))


def tools_in(calls: Any) -> list[ToolCall]:
    found = []
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            name, arguments = str(function.get("name", "tool")), function.get("arguments", "")
            text = arguments if isinstance(arguments, str) else on_one_line(arguments)
        else:
            name, text = "tool", on_one_line(call)
        call_id = call.get("id") if isinstance(call, Mapping) else None
        found.append(ToolCall(name=name, arguments=text, id=call_id if isinstance(call_id, str) else ""))
    return found


# --- Markdown ---


def _image(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    """Render an image as a link: to load it would tell another server who reads the page."""
    token = tokens[index]
    return f'<a href="{escape(str(token.attrs.get("src", "")))}">{escape(token.content or "image")}</a>'


MARKDOWN: Final = MarkdownIt("js-default", {"maxNesting": 20})
"""It escapes HTML in the text. Deeper nesting, which costs time, is shown as text."""
MARKDOWN.add_render_rule("image", _image)


def as_html(text: str) -> SafeString:
    """Render Markdown of anyone as safe HTML: a few elements without attributes, and links to web addresses."""
    tokens = MARKDOWN.parse(text)
    _set_levels([token for token in tokens if token.type in ("heading_open", "heading_close")])
    html = MARKDOWN.renderer.render(tokens, MARKDOWN.options, {})
    clean = nh3.clean(
        html,
        tags=set(TAGS),
        attributes={"a": {"href"}},
        attribute_filter=lambda tag, name, value: (
            value if name != "href" or value.lower().startswith(ADDRESSES) else None
        ),
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(clean)  # noqa: S308  (just sanitised)


def _set_levels(headings: Sequence[Token]) -> None:
    """Let the headings begin at TOP and leave out no level, for those who hear the page."""
    top = min((int(token.tag[1:]) for token in headings), default=1)
    before = TOP - 1
    for token in headings:
        if token.type == "heading_open":
            before = max(TOP, min(int(token.tag[1:]) - top + TOP, before + 1, 6))
        token.tag = f"h{before}"


# --- differences ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a difference: `+` is new, `-` is gone, `=` is the same, and `…` stands for `text` equal lines."""

    sign: str
    text: str


def diff(before: str, after: str) -> list[Line]:
    """Return what differs between two texts, line by line; nothing if they are equal."""
    if before == after:
        return []
    old, new = before.splitlines()[:MOST_LINES], after.splitlines()[:MOST_LINES]
    found: list[Line] = []
    at = 0  # in `old`
    for group in SequenceMatcher(None, old, new).get_grouped_opcodes(SAME_LINES):
        if group[0][1] > at:
            found.append(Line(sign="…", text=f"{group[0][1] - at:,}"))
        for verb, from_old, to_old, from_new, to_new in group:
            if verb == "equal":
                found += [Line(sign="=", text=text) for text in old[from_old:to_old]]
                continue
            found += [Line(sign="-", text=text) for text in old[from_old:to_old]]
            found += [Line(sign="+", text=text) for text in new[from_new:to_new]]
        at = group[-1][2]
    if at < len(old):
        found.append(Line(sign="…", text=f"{len(old) - at:,}"))
    return found


def as_text(messages: Sequence[Message]) -> str:
    """Return messages as one text, to compare them."""
    blocks = []
    for message in messages:
        tools = [
            f"→ {tool.name}({tool.as_code}){'' if tool.result is None else f' = {tool.result}'}"
            for tool in message.tools
        ]
        files = [f"[{file.name}]" for file in message.files]
        blocks.append("\n".join([f"{message.role.capitalize()}:", *filter(None, [message.text]), *files, *tools]))
    return "\n\n".join(blocks)
