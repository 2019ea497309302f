"""The thoughts of a task's models as they arrive: a message of reasoning for each call."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec import UNSET, UnsetType

from a2a.agui import events as agui
from a2a.agui.events import Event
from tasks.rules.strict_json import Json

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
