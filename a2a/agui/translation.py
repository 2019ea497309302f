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

BEGIN: Final = frozenset({"task_start", "progress", "log", "task_spawned", "task_completed"})
"""After these events of a task it is open: a stream may begin in its midst."""
SUCCESS: Final[Json] = {"type": "success"}


@dataclass(slots=True, kw_only=True)
class Open:
    """A task that is shown as running: as a step, or as a subagent. `message_id` is that of the text under way."""

    step_name: str | None = None
    subagent_run_id: str | UnsetType = UNSET
    message_id: str | None = None
    has_spoken: bool = False


@dataclass(slots=True, kw_only=True)
class Translator:
    """Translates the events of one stream, in their order.

    A task whose executor answers in words is a subagent, unless the run is of this task: then its words are the agent's own.
    Any other task is a step. With `always_answers`, the result of the run is a message even if it is no text.
    """

    tree: Tree
    always_answers: bool
    pending_calls: list[str] = field(default_factory=list)
    """The calls of the front end's tools that the agent has made."""
    fault: str | None = None
    """Why the first task failed."""
    _open: dict[str, Open] = field(default_factory=dict)
    _invocations: dict[str, int] = field(default_factory=dict)

    def of(self, event: Json) -> Iterator[Event]:
        """The events of AG-UI for one of ours, other than `final`."""
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
        if type_ == "log" and is_spoken(shown.executor_id) and event["message"]:
            yield from self._spoken(task_id, event["message"], event)
        if operations := self.tree.operations(event):
            yield agui.StateDelta(delta=operations)
        match type_:
            case "task_completed":
                yield from self._answered(task_id, shown, event)
                yield from self._closed(task_id, outcome=SUCCESS)
            case "task_failed" | "task_retry" | "task_cancelled":
                if type_ == "task_failed" and self.fault is None:
                    self.fault = f"Task '{shown.name}' failed: {event['error']}"
                yield from self._closed(task_id, error=event["error"] or event["message"] or type_)

    def _opened(self, task_id: str, shown: Shown) -> Iterator[Event]:
        if task_id != self.tree.run.target_id and answers(shown.executor_id):
            number = self._invocations[task_id] = self._invocations.get(task_id, 0) + 1
            subagent = task_id if number == 1 else f"{task_id}#{number}"
            self._open[task_id] = Open(subagent_run_id=subagent)
            yield agui.SubagentStarted(subagent_run_id=subagent, name=shown.name)
            return
        name = shown.name
        if any(each.step_name == name for each in self._open.values()):
            name = f"{name} ({task_id})"
        self._open[task_id] = Open(step_name=name)
        yield agui.StepStarted(step_name=name)

    def _spoken(self, task_id: str, text: str, event: Json) -> Iterator[Event]:
        task = self._open[task_id]
        if task.message_id is None:
            task.message_id = f"{event['run_id']}:{event['seq']}"
            task.has_spoken = True
            yield agui.TextMessageStart(
                message_id=task.message_id, role="assistant", subagent_run_id=task.subagent_run_id
            )
        yield agui.TextMessageContent(message_id=task.message_id, delta=text, subagent_run_id=task.subagent_run_id)

    def _answered(self, task_id: str, shown: Shown, event: Json) -> Iterator[Event]:
        """The answer in the result, if it was not spoken before, and the calls of tools in it."""
        task, result = self._open[task_id], event["result"]
        text = answer_in(result, executor_id=shown.executor_id) if answers(shown.executor_id) else None
        calls = _calls(result) if is_spoken(shown.executor_id) else []
        is_whole = task_id == self.tree.run.target_id
        if text is None and is_whole and self.always_answers and not calls:
            text = result if isinstance(result, str) else orjson.dumps(result).decode()
        if text and not task.has_spoken:
            yield from self._spoken(task_id, text, event)
        if is_whole:
            for call in calls:
                yield from self._called(call, task, event)

    def _called(self, call: Json, task: Open, event: Json) -> Iterator[Event]:
        name, arguments = call["function"]["name"], call["function"]["arguments"] or "{}"
        call_id = call.get("id") or f"{event['run_id']}:call:{len(self.pending_calls)}"
        self.pending_calls.append(call_id)
        parent = UNSET if task.message_id is None else task.message_id
        yield agui.ToolCallStart(tool_call_id=call_id, tool_call_name=name, parent_message_id=parent)
        yield agui.ToolCallArgs(tool_call_id=call_id, delta=arguments)
        yield agui.ToolCallEnd(tool_call_id=call_id)

    def _closed(self, task_id: str, *, outcome: Json | None = None, error: str = "") -> Iterator[Event]:
        task = self._open.pop(task_id, None)
        if task is None:
            return
        if task.message_id is not None:
            yield agui.TextMessageEnd(message_id=task.message_id, subagent_run_id=task.subagent_run_id)
        if task.step_name is not None:
            yield agui.StepFinished(step_name=task.step_name)
        elif outcome is not None:
            yield agui.SubagentFinished(subagent_run_id=str(task.subagent_run_id), outcome=outcome)
        else:
            yield agui.SubagentError(subagent_run_id=str(task.subagent_run_id), message=error)


def _calls(result: Any) -> list[Json]:
    calls = result.get("tool_calls") if isinstance(result, dict) else None
    return [call for call in calls or () if isinstance(call, dict) and "function" in call]
