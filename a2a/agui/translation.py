"""Our events as those of AG-UI: steps, subagents, messages, calls of tools and changes of the state."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from msgspec import UNSET, UnsetType, structs

from a2a.agui import events as agui
from a2a.agui.events import Event
from a2a.agui.state import Shown, Tree, is_spoken
from tasks.executors import answer_in, answers
from tasks.rules.strict_json import Json
from tasks.rules.words import TOKEN, is_reasoning

Speaker = tuple[str | None, str | None]
"""An agent, and its task in a crew."""


def speaker_of(event: Json) -> Speaker:
    """Return who says the words of a `token` event."""
    return event["result"].get("agent"), event["result"].get("crew_task")


@dataclass(slots=True, kw_only=True)
class ReasoningMessages:
    """The messages of the agents of one task that reason now. Each agent makes one call at a time. `were_sent`: since the last `end_all`."""

    subagent_run_id: str | UnsetType = UNSET
    were_sent: bool = False
    _by_speaker: dict[Speaker, tuple[str, str]] = field(default_factory=dict)
    """The call, and its message."""

    def add(self, event: Json) -> Iterator[Event]:
        """Yield the words of a `token` event that has reasoning."""
        speaker, call_id = speaker_of(event), event["result"]["call_id"]
        if self._by_speaker.get(speaker, ("", ""))[0] != call_id:
            yield from self.end(speaker)
            message_id = f"{event['run_id']}:{event['seq']}:reasoning"
            self._by_speaker[speaker] = call_id, message_id
            yield agui.ReasoningStart(message_id=message_id, subagent_run_id=self.subagent_run_id)
            yield agui.ReasoningMessageStart(
                role="reasoning", message_id=message_id, subagent_run_id=self.subagent_run_id
            )
        self.were_sent = True
        yield agui.ReasoningMessageContent(
            message_id=self._by_speaker[speaker][1], delta=event["message"], subagent_run_id=self.subagent_run_id
        )

    def add_whole(self, text: str, event: Json) -> Iterator[Event]:
        """Yield the reasoning that came with the answer of a task."""
        by: Json = {"call_id": "whole"}
        yield from self.add(event | {"message": text, "result": by})
        yield from self.end((None, None))

    def end(self, speaker: Speaker) -> Iterator[Event]:
        """End the message of an agent, if there is one: it answers now."""
        _, message_id = self._by_speaker.pop(speaker, (None, None))
        if message_id is not None:
            yield agui.ReasoningMessageEnd(message_id=message_id, subagent_run_id=self.subagent_run_id)
            yield agui.ReasoningEnd(message_id=message_id, subagent_run_id=self.subagent_run_id)

    def end_all(self) -> Iterator[Event]:
        """End all messages."""
        for speaker in list(self._by_speaker):
            yield from self.end(speaker)
        self.were_sent = False


@dataclass(slots=True, kw_only=True)
class TextMessage:
    """The newest message of an agent: the words of one call of its model."""

    call_id: str
    message_id: str
    text: str = ""
    is_open: bool = True


@dataclass(slots=True, kw_only=True)
class TextMessages:
    """The messages of the agents of one task. Each makes one call at a time, so its next call ends its message."""

    subagent_run_id: str | UnsetType = UNSET
    _by_agent: dict[Speaker, TextMessage] = field(default_factory=dict)

    def add(self, event: Json) -> Iterator[Event]:
        """Yield the words of a `token` event, in the message of the agent that says them."""
        by, text, speaker = event["result"], event["message"], speaker_of(event)
        newest = self._by_agent.get(speaker)
        if newest is None or newest.call_id != by["call_id"]:
            yield from self._end(newest)
            newest = self._by_agent[speaker] = TextMessage(
                call_id=by["call_id"], message_id=f"{event['run_id']}:{event['seq']}"
            )
            yield agui.TextMessageStart(
                message_id=newest.message_id, role="assistant", name=by["agent"], subagent_run_id=self.subagent_run_id
            )
        newest.text += text
        yield agui.TextMessageContent(message_id=newest.message_id, delta=text, subagent_run_id=self.subagent_run_id)

    def end_with(self, answer: str) -> bool:
        """Return whether the newest message of an agent ends with the answer of the task."""
        return any(message.text.rstrip().endswith(answer.strip()) for message in self._by_agent.values())

    def end_all(self) -> Iterator[Event]:
        """End all messages."""
        for message in self._by_agent.values():
            yield from self._end(message)

    def _end(self, message: TextMessage | None) -> Iterator[Event]:
        if message is not None and message.is_open:
            message.is_open = False
            yield agui.TextMessageEnd(message_id=message.message_id, subagent_run_id=self.subagent_run_id)


BEGIN: Final = frozenset({"task_start", "progress", "log", TOKEN, "task_spawned", "task_completed"})
"""After these events of a task it is open: a stream may begin in its midst."""
SUCCESS: Final[Json] = {"type": "success"}


@dataclass(slots=True, kw_only=True)
class Open:
    """A task that is shown as running: as a step, as a subagent, or as the call of a tool by an agent.

    `message_id` is that of its newest text, which is under way if it `is_writing`.
    """

    step_name: str | None = None
    subagent_run_id: str | UnsetType = UNSET
    is_call: bool = False
    message_id: str | UnsetType = UNSET
    is_writing: bool = False
    has_written: bool = False
    messages: TextMessages = field(default_factory=TextMessages)
    reasoning: ReasoningMessages = field(default_factory=ReasoningMessages)


NOT_OPEN: Final = Open()


@dataclass(slots=True, kw_only=True)
class Translator:
    """Translates the events of one stream, in their order.

    A task whose executor answers in words is a subagent, unless the run is of this task: then its words are the agent's own.
    A task that a model asks for is a call of a tool, and any other a step. With `always_answers`, the result of the run is a message even if it is no text.
    """

    tree: Tree
    always_answers: bool
    pending_calls: list[str] = field(default_factory=list)
    """The calls of the front end's tools that the agent has made."""
    arguments: str = "{}"
    """The arguments of the call that `wants_arguments`."""
    _open: dict[str, Open] = field(default_factory=dict)
    _invocations: dict[str, int] = field(default_factory=dict)

    def wants_arguments(self, event: Json) -> bool:
        """Return whether this event is the first of a call of a tool."""
        task_id = event["task_id"]
        return event["type"] in BEGIN and task_id not in self._open and self.tree.caller_of(task_id) is not None

    def of(self, event: Json) -> Iterator[Event]:
        """Yield the events of AG-UI for one of ours, other than `final`."""
        at = agui.milliseconds(event["timestamp"])
        for translated in self._translate(event):
            yield structs.replace(translated, timestamp=at)

    def close(self, *, interrupt_ids: list[str]) -> Iterator[Event]:
        """End what is still shown as running: the stream ends here, perhaps before the run."""
        outcome: Json = {"type": "suspended", "interruptIds": interrupt_ids} if interrupt_ids else SUCCESS
        for task_id in list(self._open):
            yield from self._close(task_id, outcome=outcome)

    def _translate(self, event: Json) -> Iterator[Event]:
        task_id, type_ = event["task_id"], event["type"]
        shown = self.tree.tasks[task_id]
        if type_ in BEGIN and task_id not in self._open:
            yield from self._begin(task_id, shown)
        if type_ == TOKEN and event["message"] and answers(shown.executor_id) and not self._open[task_id].is_call:
            yield from self._add_words(task_id, shown, event)
        if operations := self.tree.operations(event):
            yield agui.StateDelta(delta=operations)
        match type_:
            case "task_spawned" | "progress" if is_spoken(shown.executor_id):
                # It writes again after its calls, or once it was corrected.
                yield from self._end_messages(self._open[task_id])
            case "task_completed":
                yield from self._add_answer(task_id, shown, event)
                yield from self._close(task_id, outcome=SUCCESS, event=event)
            case "task_retry" if self._open.get(task_id, NOT_OPEN).is_call:
                pass  # it is one call, however often it is tried
            case "task_failed" | "task_retry" | "task_cancelled":
                yield from self._close(task_id, event=event)

    def _begin(self, task_id: str, shown: Shown) -> Iterator[Event]:
        if (caller := self.tree.caller_of(task_id)) is not None:
            agent = self._open.get(caller, NOT_OPEN)
            self._open[task_id] = Open(subagent_run_id=agent.subagent_run_id, is_call=True)
            yield from _call(task_id, shown.name, self.arguments, agent)
            return
        if task_id != self.tree.run.target_id and answers(shown.executor_id):
            number = self._invocations[task_id] = self._invocations.get(task_id, 0) + 1
            subagent = task_id if number == 1 else f"{task_id}#{number}"
            self._open[task_id] = Open(
                subagent_run_id=subagent,
                messages=TextMessages(subagent_run_id=subagent),
                reasoning=ReasoningMessages(subagent_run_id=subagent),
            )
            yield agui.SubagentStarted(subagent_run_id=subagent, name=shown.name)
            return
        name = shown.name
        if any(each.step_name == name for each in self._open.values()):
            name = f"{name} ({task_id})"
        self._open[task_id] = Open(step_name=name)
        yield agui.StepStarted(step_name=name)

    def _add_words(self, task_id: str, shown: Shown, event: Json) -> Iterator[Event]:
        """Yield the words of a model: reasoning, or an answer."""
        task = self._open[task_id]
        if is_reasoning(event):
            yield from self._end_text(task)
            yield from task.reasoning.add(event)
            return
        yield from task.reasoning.end(speaker_of(event))
        if is_spoken(shown.executor_id):
            yield from self._add_text(task_id, event["message"], event)
        else:
            yield from task.messages.add(event)

    def _add_text(self, task_id: str, text: str, event: Json) -> Iterator[Event]:
        task = self._open[task_id]
        if not task.is_writing:
            task.message_id = f"{event['run_id']}:{event['seq']}"
            task.is_writing = task.has_written = True
            yield agui.TextMessageStart(
                message_id=task.message_id, role="assistant", subagent_run_id=task.subagent_run_id
            )
        yield agui.TextMessageContent(message_id=str(task.message_id), delta=text, subagent_run_id=task.subagent_run_id)

    def _end_text(self, task: Open) -> Iterator[Event]:
        """End the text under way. Later text is another message."""
        if task.is_writing:
            yield agui.TextMessageEnd(message_id=str(task.message_id), subagent_run_id=task.subagent_run_id)
        task.is_writing = False

    def _end_messages(self, task: Open) -> Iterator[Event]:
        """End the messages of the task."""
        yield from self._end_text(task)
        yield from task.reasoning.end_all()
        task.has_written = False

    def _add_answer(self, task_id: str, shown: Shown, event: Json) -> Iterator[Event]:
        """Yield the reasoning and the answer in the result, if they were not sent before, and the calls of the front end's tools in it."""
        task, result = self._open[task_id], event["result"]
        if task.is_call:
            return
        text = answer_in(result, executor_id=shown.executor_id) if answers(shown.executor_id) else None
        is_whole = task_id == self.tree.run.target_id
        spoken: Json = result if is_spoken(shown.executor_id) and isinstance(result, dict) else {}
        made = spoken.get("tool_calls") if is_whole else None
        calls = [call for call in made or () if isinstance(call, dict) and "function" in call]
        reasoning = spoken.get("reasoning")
        # The reasoning may have arrived as it was written.
        if isinstance(reasoning, str) and reasoning and not task.reasoning.were_sent:
            yield from self._end_text(task)
            yield from task.reasoning.add_whole(reasoning, event)
        if text is None and is_whole and self.always_answers and not calls and result is not None:
            text = _as_text(result)
        if text and not task.has_written and not task.messages.end_with(text):
            yield from self._add_text(task_id, text, event)
        for call in calls:
            call_id = call.get("id") or f"{event['run_id']}:call:{len(self.pending_calls)}"
            self.pending_calls.append(call_id)
            yield from _call(call_id, call["function"]["name"], call["function"]["arguments"] or "{}", task)

    def _close(self, task_id: str, *, outcome: Json | None = None, event: Json | None = None) -> Iterator[Event]:
        """End a task with this outcome or, without one, with the error of the event. A call that has none goes on."""
        task = self._open.pop(task_id, None)
        if task is None:
            return
        yield from self._end_messages(task)
        yield from task.messages.end_all()
        error = "" if event is None else event["error"] or event["message"] or event["status"]
        if task.step_name is not None:
            yield agui.StepFinished(step_name=task.step_name)
        elif task.is_call:
            if event is not None:
                content = f"Error: {error}" if outcome is None else _as_text(event["result"])
                yield agui.ToolCallResult(
                    message_id=f"{event['run_id']}:{event['seq']}",
                    tool_call_id=task_id,
                    content=content,
                    subagent_run_id=task.subagent_run_id,
                )
        elif outcome is not None:
            yield agui.SubagentFinished(subagent_run_id=str(task.subagent_run_id), outcome=outcome)
        else:
            yield agui.SubagentError(subagent_run_id=str(task.subagent_run_id), message=error)


def _call(call_id: str, name: str, arguments: str, agent: Open) -> Iterator[Event]:
    """Yield a call of a tool, in the newest message of the agent."""
    tag = agent.subagent_run_id
    yield agui.ToolCallStart(
        tool_call_id=call_id, tool_call_name=name, parent_message_id=agent.message_id, subagent_run_id=tag
    )
    yield agui.ToolCallArgs(tool_call_id=call_id, delta=arguments, subagent_run_id=tag)
    yield agui.ToolCallEnd(tool_call_id=call_id, subagent_run_id=tag)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
