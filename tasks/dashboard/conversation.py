"""The model calls of a task as a conversation, and when each of them ran. Pure but for `conversation_of`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from aipartnerupflow.costs import price
from tasks.dashboard.json_text import on_one_line
from tasks.dashboard.words import duration
from tasks.models import ModelCall
from tasks.rules.strict_json import Json
from tasks.rules.token_usage import dollars
from tasks.storage import loads

SHOWN: Final = 30
"""The number of calls that the panel shows with their texts; `runs.calls` has all."""
TITLES: Final = ("title", "document_title", "cited_text")
USUAL_ENDS: Final = ("stop", "tool_calls")
LEAST: Final = 1.0
"""The width of the shortest bar, in percent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool that a model wants to call, with its arguments as text."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message: `role` says it, in `text`; a model may call tools instead."""

    role: str
    text: str
    tools: Sequence[ToolCall] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source of an answer. `url` is empty if it is no web address."""

    title: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A call with what was said for the first time in it. `earlier` were sent before by the same agent.

    `x` and `width` are its bar, in percent of the time from the first start to the last end.
    """

    call: ModelCall
    earlier: Sequence[Message]
    messages: Sequence[Message]
    answer: Message | None
    reasoning: str
    sources: Sequence[Source]
    left_out: int
    x: float
    width: float

    @property
    def who(self) -> str:
        """The agent and its task, or the step."""
        step = f"step {self.call.step}" if self.call.step else None
        return " · ".join(filter(None, (self.call.agent, self.call.crew_task, step)))

    @property
    def facts(self) -> str:
        """Tokens, cost and duration, as far as they are known."""
        call = self.call
        tokens = None if call.total_tokens is None else f"{call.total_tokens:,} tokens"
        cost = None if call.cost_nanos is None else price(dollars(call.cost_nanos))
        took = None if call.duration_ms is None else duration(call.duration_ms / 1000)
        return " · ".join(filter(None, (tokens, cost, took)))

    @property
    def details(self) -> str:
        """The facts that the head leaves out: the model, the attempt, the tokens, and an end that is not usual."""
        call = self.call
        attempt = f"attempt {call.attempt}" if call.attempt > 1 else None
        counts = None if call.prompt_tokens is None else f"{call.prompt_tokens:,} in, {call.completion_tokens:,} out"
        end = f"ended with {call.finish_reason}" if call.finish_reason not in (None, *USUAL_ENDS) else None
        return " · ".join(filter(None, (call.model if self.who else None, attempt, counts, end)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """The first calls of a task in a run, in `seconds` from the first start to the last end. `more`: not all are shown."""

    rows: Sequence[Row]
    more: bool
    seconds: float


def conversation_of(calls: Sequence[ModelCall]) -> Conversation:
    """Load what was said in these calls, as many as are shown and fit into the response, and arrange it."""
    sizes = dict(
        ModelCall.objects.filter(id__in=[call.id for call in calls[:SHOWN]])
        .order_by("started_at", "id")
        .values_list("id", loads.size_of("content"))
    )
    ids = loads.spend_on_page(sizes, least=0)
    contents = dict(ModelCall.objects.filter(id__in=ids).values_list("id", "content"))
    return arrange(
        [(call, contents[call.id] or {}) for call in calls if call.id in contents], more=len(calls) > len(ids)
    )


def arrange(found: Sequence[tuple[ModelCall, Json]], *, more: bool = False) -> Conversation:
    """Arrange calls, each with its content, which is empty if it is not stored."""
    if not found:
        return Conversation(rows=[], more=more, seconds=0.0)
    start = min(call.started_at for call, _ in found)
    end = max(call.started_at + timedelta(milliseconds=call.duration_ms or 0) for call, _ in found)
    total = (end - start).total_seconds()
    rows: list[Row] = []
    before: dict[tuple[str | None, str | None], Sequence[Any]] = {}
    for call, content in found:
        sent = content.get("messages", [])
        earlier = before.get((call.agent, call.crew_task), ())
        before[(call.agent, call.crew_task)] = sent
        known = 0  # messages that both have at their start
        while known < min(len(earlier), len(sent)) and earlier[known] == sent[known]:
            known += 1
        messages = [message_of(each) for each in sent]
        x = 100 * (call.started_at - start).total_seconds() / total if total else 0.0
        width = (call.duration_ms or 0) / 10 / total if total else 100.0
        tools = _tools(content.get("tool_calls") or [])
        text = _text_of(content.get("answer"))
        rows.append(
            Row(
                call=call,
                earlier=messages[:known],
                messages=messages[known:],
                answer=Message(role="assistant", text=text, tools=tools) if text or tools else None,
                reasoning=_text_of(content.get("reasoning")),
                sources=[source_of(each) for each in content.get("citations", [])],
                left_out=content.get("left_out_messages", 0),
                x=min(x, 100 - LEAST),
                width=min(max(LEAST, width), 100.0),
            )
        )
    return Conversation(rows=rows, more=more, seconds=total)


def source_of(citation: Any) -> Source:
    """Read a source: an address, or an object as Anthropic's, OpenAI's and Perplexity's. One of another form is shown as JSON."""
    given: Mapping[str, Any] = citation if isinstance(citation, Mapping) else {"url": citation}
    if isinstance(nested := given.get("url_citation"), Mapping):
        given = nested
    url = next((given[name] for name in ("url", "source", "uri") if isinstance(given.get(name), str)), "")
    titles = (given[name] for name in TITLES if isinstance(given.get(name), str) and given[name].strip())
    title = next(titles, None) or url or on_one_line(citation)
    return Source(title=title, url=url if url.startswith(("https://", "http://")) else "")


def message_of(message: Any) -> Message:
    """Read a message in OpenAI's format. One of another form is shown as JSON."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        return Message(role="message", text=on_one_line(message))
    return Message(
        role=message["role"], text=_text_of(message.get("content")), tools=_tools(message.get("tool_calls") or [])
    )


def _text_of(content: Any) -> str:
    """Return the text of a message; parts that are no text are named."""
    if content is None or isinstance(content, str):
        return (content or "").strip()
    if not isinstance(content, list):
        return on_one_line(content)
    texts = []
    for part in content:
        if isinstance(part, dict):
            texts.append(part["text"] if isinstance(part.get("text"), str) else f"[{part.get('type', 'part')}]")
        else:
            texts.append(on_one_line(part))
    return "\n".join(texts)


def _tools(calls: Any) -> list[ToolCall]:
    found = []
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            name, arguments = str(function.get("name", "tool")), function.get("arguments", "")
            text = arguments if isinstance(arguments, str) else on_one_line(arguments)
        else:
            name, text = "tool", on_one_line(call)
        found.append(ToolCall(name=name, arguments=text))
    return found
