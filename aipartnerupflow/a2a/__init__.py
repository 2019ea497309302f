"""The public API for message handlers: what an A2A message asks for, and the decisions about it.

The setting `a2a.message_handler` names a function that takes an `Incoming` and returns a `Decision`. It runs inside a
transaction that writes, in web processes: look up little, and wait for nothing.

Like `aipartnerupflow.executors`, this package is pure Python: it starts nothing, imports no Django, and can be type-checked where
only the wheel is installed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
"""A JSON object."""

__all__ = [
    "Ask",
    "AskForKey",
    "Decision",
    "Default",
    "Incoming",
    "Json",
    "Reject",
    "Reply",
    "RunFlow",
    "RunStored",
    "RunTree",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A message that asks for something."""

    message: Json
    """The Message of A2A 1.0 as JSON, for clients of all versions; `parts` has at least one part. A file whose bytes came with it is
    saved, and its part is `{"data": {"$file": …}, "filename", "mediaType"}`; JSON and plain text stay as they came.
    """
    context_id: str = ""
    """The conversation that the message belongs to, also that which it begins: a name for all that is kept between messages."""
    metadata: Json = field(default_factory=dict)
    """The metadata of the request, in addition to that of the message."""
    references: Mapping[str, Any] = field(default_factory=dict)
    """The results of the finished tasks that the message refers to, by the ids that it used."""
    is_follow_up: bool = False
    """Whether the message answers an `Ask` or `AskForKey`."""
    history: Sequence[Json] = ()
    """The earlier messages of the caller in the same context and the answers to them, oldest first, as Messages of A2A 1.0 with
    one text part: the newest ones within the setting `a2a.conversation_characters`."""

    @property
    def text(self) -> str:
        """Return the text parts of the message."""
        return "\n".join(part["text"] for part in self.message["parts"] if "text" in part).strip()

    @property
    def files(self) -> list[Json]:
        """Return the files of the message, as values for inputs. They are deleted after the decision, unless what runs names them."""
        parts = [part for part in self.message["parts"] if "filename" in part and isinstance(part.get("data"), dict)]
        return [part["data"] for part in parts if "$file" in part["data"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Default:
    """Do what the server does without a message handler."""

    incoming: Incoming | None = None
    """The message to do it with; None for the one that came in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTree:
    """Store these tasks and run them."""

    tasks: object
    """A list of tasks with one root, or a single task, as in `tasks.execute`."""
    with_history: bool = True
    """Whether the tasks of `llm_executor` whose prompt is the text of the message also get the history of the conversation. A task
    with `history`, `messages` or `params.conversation` has one of its own."""
    inputs: Json = field(default_factory=dict)
    """The inputs of the run, for `{{run.inputs.topic}}` in the tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFlow:
    """Run a flow of the caller with inputs."""

    name: str
    version: int | None = None
    """Default: the newest."""
    inputs: Json = field(default_factory=dict)
    offered: Json = field(default_factory=dict)
    """Further inputs, which the run gets if the flow takes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStored:
    """Run a stored task again, or a copy of it."""

    task_id: str
    copy_execution: bool = False
    """Run a copy, and leave the stored task as it is."""
    copy_children: bool = False
    """Copy the tasks below it, too."""
    inputs: Json = field(default_factory=dict)
    """The inputs of the run, for `{{run.inputs.topic}}` in the tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Input is required: the A2A Task waits in `TASK_STATE_INPUT_REQUIRED` for a follow-up, with this text as its message."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AskForKey:
    """A credential is required, which arrives by another way than messages: the A2A Task waits in `TASK_STATE_AUTH_REQUIRED`."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """Run nothing: the A2A Task ends in `TASK_STATE_REJECTED`, with this text as its message."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Answer with a message, and make no A2A Task."""

    parts: Sequence[Json]
    """A2A 1.0's parts: `{"text": …}` or `{"data": …}`."""


Decision = RunTree | RunFlow | RunStored | Ask | AskForKey | Reject | Reply | Default
"""The return type of a message handler."""
