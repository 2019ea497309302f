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
class Thoughts:
    """The agents that think now. Each makes one call at a time. `were_heard`: since the last `silent`."""

    subagent_run_id: str | UnsetType = UNSET
    were_heard: bool = False
    _by_speaker: dict[Speaker, tuple[str, str]] = field(default_factory=dict)
    """The call, and its message."""

    def heard(self, event: Json) -> Iterator[Event]:
        """Yield the words of a `token` event that has reasoning."""
        speaker, call_id = speaker_of(event), event["result"]["call_id"]
        if self._by_speaker.get(speaker, ("", ""))[0] != call_id:
            yield from self.ended(speaker)
            message_id = f"{event['run_id']}:{event['seq']}:reasoning"
            self._by_speaker[speaker] = call_id, message_id
            yield agui.ReasoningStart(message_id=message_id, subagent_run_id=self.subagent_run_id)
            yield agui.ReasoningMessageStart(
                role="reasoning", message_id=message_id, subagent_run_id=self.subagent_run_id
            )
        self.were_heard = True
        yield agui.ReasoningMessageContent(
            message_id=self._by_speaker[speaker][1], delta=event["message"], subagent_run_id=self.subagent_run_id
        )

    def whole(self, thought: str, event: Json) -> Iterator[Event]:
        """Thoughts that came with the answer of a task."""
        by: Json = {"call_id": "whole"}
        yield from self.heard(event | {"message": thought, "result": by})
        yield from self.ended((None, None))

    def ended(self, speaker: Speaker) -> Iterator[Event]:
        """End the message of an agent, if there is one: it answers now."""
        _, message_id = self._by_speaker.pop(speaker, (None, None))
        if message_id is not None:
            yield agui.ReasoningMessageEnd(message_id=message_id, subagent_run_id=self.subagent_run_id)
            yield agui.ReasoningEnd(message_id=message_id, subagent_run_id=self.subagent_run_id)

    def silent(self) -> Iterator[Event]:
        """End all messages."""
        for speaker in list(self._by_speaker):
            yield from self.ended(speaker)
        self.were_heard = False


@dataclass(slots=True, kw_only=True)
class Voice:
    """The newest message of an agent: the words of one call of its model."""

    call_id: str
    message_id: str
    text: str = ""
    is_open: bool = True


@dataclass(slots=True, kw_only=True)
class Voices:
    """The agents of one task. Each makes one call at a time, so its next call ends its message."""

    subagent_run_id: str | UnsetType = UNSET
    _by_agent: dict[Speaker, Voice] = field(default_factory=dict)

    def heard(self, event: Json) -> Iterator[Event]:
        """Yield the words of a `token` event, in the message of the agent that says them."""
        by, text, speaker = event["result"], event["message"], speaker_of(event)
        voice = self._by_agent.get(speaker)
        if voice is None or voice.call_id != by["call_id"]:
            yield from self._ended(voice)
            voice = self._by_agent[speaker] = Voice(
                call_id=by["call_id"], message_id=f"{event['run_id']}:{event['seq']}"
            )
            yield agui.TextMessageStart(
                message_id=voice.message_id, role="assistant", name=by["agent"], subagent_run_id=self.subagent_run_id
            )
        voice.text += text
        yield agui.TextMessageContent(message_id=voice.message_id, delta=text, subagent_run_id=self.subagent_run_id)

    def have_said(self, answer: str) -> bool:
        """Return whether the newest message of an agent ends with the answer of the task."""
        return any(voice.text.rstrip().endswith(answer.strip()) for voice in self._by_agent.values())

    def silent(self) -> Iterator[Event]:
        """End all messages."""
        for voice in self._by_agent.values():
            yield from self._ended(voice)

    def _ended(self, voice: Voice | None) -> Iterator[Event]:
        if voice is not None and voice.is_open:
            voice.is_open = False
            yield agui.TextMessageEnd(message_id=voice.message_id, subagent_run_id=self.subagent_run_id)


BEGIN: Final = frozenset({"task_start", "progress", "log", TOKEN, "task_spawned", "task_completed"})
"""After these events of a task it is open: a stream may begin in its midst."""
SUCCESS: Final[Json] = {"type": "success"}


@dataclass(slots=True, kw_only=True)
class Open:
    """A task that is shown as running: as a step, as a subagent, or as the call of a tool by an agent.

    `message_id` is that of its newest text, which is under way if it `is_speaking`.
    """

    step_name: str | None = None
    subagent_run_id: str | UnsetType = UNSET
    is_call: bool = False
    message_id: str | UnsetType = UNSET
    is_speaking: bool = False
    has_spoken: bool = False
    voices: Voices = field(default_factory=Voices)
    thoughts: Thoughts = field(default_factory=Thoughts)


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
        for translated in self._translated(event):
            yield structs.replace(translated, timestamp=at)

    def close(self, *, interrupt_ids: list[str]) -> Iterator[Event]:
        """End what is still shown as running: the stream ends here, perhaps before the run."""
        outcome: Json = {"type": "suspended", "interruptIds": interrupt_ids} if interrupt_ids else SUCCESS
        for task_id in list(self._open):
            yield from self._closed(task_id, outcome=outcome)

    def _translated(self, event: Json) -> Iterator[Event]:
        task_id, type_ = event["task_id"], event["type"]
        shown = self.tree.tasks[task_id]
        if type_ in BEGIN and task_id not in self._open:
            yield from self._opened(task_id, shown)
        if type_ == TOKEN and event["message"] and answers(shown.executor_id) and not self._open[task_id].is_call:
            yield from self._heard(task_id, shown, event)
        if operations := self.tree.operations(event):
            yield agui.StateDelta(delta=operations)
        match type_:
            case "task_spawned" | "progress" if is_spoken(shown.executor_id):
                yield from self._silent(
                    self._open[task_id]
                )  # it speaks again after its calls, or once it was corrected
            case "task_completed":
                yield from self._answered(task_id, shown, event)
                yield from self._closed(task_id, outcome=SUCCESS, event=event)
            case "task_retry" if self._open.get(task_id, NOT_OPEN).is_call:
                pass  # it is one call, however often it is tried
            case "task_failed" | "task_retry" | "task_cancelled":
                yield from self._closed(task_id, event=event)

    def _opened(self, task_id: str, shown: Shown) -> Iterator[Event]:
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
                voices=Voices(subagent_run_id=subagent),
                thoughts=Thoughts(subagent_run_id=subagent),
            )
            yield agui.SubagentStarted(subagent_run_id=subagent, name=shown.name)
            return
        name = shown.name
        if any(each.step_name == name for each in self._open.values()):
            name = f"{name} ({task_id})"
        self._open[task_id] = Open(step_name=name)
        yield agui.StepStarted(step_name=name)

    def _heard(self, task_id: str, shown: Shown, event: Json) -> Iterator[Event]:
        """Words of a model: thoughts or an answer."""
        task = self._open[task_id]
        if is_reasoning(event):
            yield from self._paused(task)
            yield from task.thoughts.heard(event)
            return
        yield from task.thoughts.ended(speaker_of(event))
        if is_spoken(shown.executor_id):
            yield from self._spoken(task_id, event["message"], event)
        else:
            yield from task.voices.heard(event)

    def _spoken(self, task_id: str, text: str, event: Json) -> Iterator[Event]:
        task = self._open[task_id]
        if not task.is_speaking:
            task.message_id = f"{event['run_id']}:{event['seq']}"
            task.is_speaking = task.has_spoken = True
            yield agui.TextMessageStart(
                message_id=task.message_id, role="assistant", subagent_run_id=task.subagent_run_id
            )
        yield agui.TextMessageContent(message_id=str(task.message_id), delta=text, subagent_run_id=task.subagent_run_id)

    def _paused(self, task: Open) -> Iterator[Event]:
        """End the text under way. Later text is another message."""
        if task.is_speaking:
            yield agui.TextMessageEnd(message_id=str(task.message_id), subagent_run_id=task.subagent_run_id)
        task.is_speaking = False

    def _silent(self, task: Open) -> Iterator[Event]:
        """End what is said and thought."""
        yield from self._paused(task)
        yield from task.thoughts.silent()
        task.has_spoken = False

    def _answered(self, task_id: str, shown: Shown, event: Json) -> Iterator[Event]:
        """Yield the thoughts and the answer in the result, if they were not sent before, and the calls of the front end's tools in it."""
        task, result = self._open[task_id], event["result"]
        if task.is_call:
            return
        text = answer_in(result, executor_id=shown.executor_id) if answers(shown.executor_id) else None
        is_whole = task_id == self.tree.run.target_id
        spoken: Json = result if is_spoken(shown.executor_id) and isinstance(result, dict) else {}
        made = spoken.get("tool_calls") if is_whole else None
        calls = [call for call in made or () if isinstance(call, dict) and "function" in call]
        thought = spoken.get("reasoning")
        # The thoughts may have arrived as they were written.
        if isinstance(thought, str) and thought and not task.thoughts.were_heard:
            yield from self._paused(task)
            yield from task.thoughts.whole(thought, event)
        if text is None and is_whole and self.always_answers and not calls:
            text = _text(result)
        if text and not task.has_spoken and not task.voices.have_said(text):
            yield from self._spoken(task_id, text, event)
        for call in calls:
            call_id = call.get("id") or f"{event['run_id']}:call:{len(self.pending_calls)}"
            self.pending_calls.append(call_id)
            yield from _call(call_id, call["function"]["name"], call["function"]["arguments"] or "{}", task)

    def _closed(self, task_id: str, *, outcome: Json | None = None, event: Json | None = None) -> Iterator[Event]:
        """End a task with this outcome or, without one, with the error of the event. A call that has none goes on."""
        task = self._open.pop(task_id, None)
        if task is None:
            return
        yield from self._silent(task)
        yield from task.voices.silent()
        error = "" if event is None else event["error"] or event["message"] or event["status"]
        if task.step_name is not None:
            yield agui.StepFinished(step_name=task.step_name)
        elif task.is_call:
            if event is not None:
                content = f"Error: {error}" if outcome is None else _text(event["result"])
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


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
