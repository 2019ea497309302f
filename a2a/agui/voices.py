"""The speakers in a task and their messages: the agents of a crew and the nodes of a graph, by turns or at once."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec import UNSET, UnsetType

from a2a.agui import events as agui
from a2a.agui.events import Event
from a2a.agui.thoughts import Speaker, speaker_of
from tasks.rules.strict_json import Json


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
