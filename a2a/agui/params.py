"""`RunAgentInput` of AG-UI 1.0: what a front end sends. Unknown fields are ignored, as the protocol requires."""

from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta, Struct

from a2a.core.parsing import Params, fault_of
from a2a.methods.params import Tags
from tasks.rules.exceptions import InvalidParams
from tasks.rules.files import FILE
from tasks.rules.strict_json import Json

Id = Annotated[str, Meta(min_length=1, max_length=255)]
MOST_RESUMED = 100


class Given(Struct, rename="camel", frozen=True, kw_only=True):
    """Base class of all objects."""


class DataSource(Given, frozen=True, tag_field="type", tag="data"):
    value: str
    mime_type: str


class UrlSource(Given, frozen=True, tag_field="type", tag="url"):
    value: str
    mime_type: str | None = None


class FileSource(Given, frozen=True, tag_field="type", tag="file"):
    """A file of this server, by its id."""

    value: str

    @property
    def file(self) -> Json:
        return {FILE: self.value}


Source = DataSource | UrlSource | FileSource


class SavedSource(FileSource, frozen=True):
    """A file whose data came with the request. No request has one."""

    whole: Json

    @property
    def file(self) -> Json:
        return self.whole


class TextPart(Given, frozen=True, tag_field="type", tag="text"):
    text: str


class ImagePart(Given, frozen=True, tag_field="type", tag="image"):
    source: Source


class AudioPart(Given, frozen=True, tag_field="type", tag="audio"):
    source: Source


class VideoPart(Given, frozen=True, tag_field="type", tag="video"):
    source: Source


class DocumentPart(Given, frozen=True, tag_field="type", tag="document"):
    source: Source


Part = TextPart | ImagePart | AudioPart | VideoPart | DocumentPart
Content = str | list[Part]


class FunctionCall(Given, frozen=True):
    name: str
    arguments: str


class ToolCall(Given, frozen=True):
    id: str
    function: FunctionCall


class DeveloperMessage(Given, frozen=True, tag_field="role", tag="developer"):
    id: str
    content: str


class SystemMessage(Given, frozen=True, tag_field="role", tag="system"):
    id: str
    content: str


class AssistantMessage(Given, frozen=True, tag_field="role", tag="assistant"):
    id: str
    content: str | None = None
    tool_calls: list[ToolCall] | None = None


class UserMessage(Given, frozen=True, tag_field="role", tag="user"):
    id: str
    content: Content


class ToolMessage(Given, frozen=True, tag_field="role", tag="tool"):
    id: str
    content: Content
    tool_call_id: str
    error: str | None = None


class ActivityMessage(Given, frozen=True, tag_field="role", tag="activity"):
    id: str


class ReasoningMessage(Given, frozen=True, tag_field="role", tag="reasoning"):
    id: str


Message = (
    DeveloperMessage | SystemMessage | AssistantMessage | UserMessage | ToolMessage | ActivityMessage | ReasoningMessage
)


class Tool(Given, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    description: str
    parameters: Json | None = None
    strict: bool = False
    """Whether the provider makes the arguments fit the schema. Only OpenAI's wires send it."""


class ContextEntry(Given, frozen=True):
    description: str
    value: str


class Resume(Given, frozen=True):
    """The answer to an interrupt, or that there will be none."""

    interrupt_id: Id
    status: Literal["resolved", "cancelled"]
    payload: Any = None


class ForwardedProps(Params, frozen=True, kw_only=True):
    """The tree, or the flow with its inputs, that a request of ours runs instead of its messages."""

    tasks: list[Any] | Json | None = None
    flow: Id | None = None
    version: Annotated[int, Meta(ge=1)] | None = None
    inputs: Json | None = None
    tags: Tags | None = None
    """Words by which `runs.list` finds the run."""

    def contradictions(self) -> list[tuple[str, str]]:
        if self.flow is not None:
            return [] if self.tasks is None else [("tasks", "not allowed with flow: send one of them")]
        given = {"version": self.version, "inputs": self.inputs}
        return [(name, "allowed with flow only") for name, value in given.items() if value is not None]

    @property
    def is_empty(self) -> bool:
        return self.tasks is None and self.flow is None


class RunAgentInput(Given, frozen=True):
    """A request to run something. `state` is not read: the state is the server's."""

    thread_id: Id
    run_id: Id
    protocol_version: str | None = None
    messages: list[Message] = []
    parent_run_id: Id | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    context: Annotated[list[ContextEntry], Meta(max_length=1_000)] | None = None
    forwarded_props: Any = None
    resume: Annotated[list[Resume], Meta(max_length=MOST_RESUMED)] | None = None

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Raise InvalidParams with the path of the first field that is not valid."""
        if not isinstance(value, dict):
            raise InvalidParams([("body", "must be an object: RunAgentInput of AG-UI")])
        try:
            given = msgspec.convert({name: item for name, item in value.items() if item is not None}, cls)
        except msgspec.ValidationError as error:
            fault = fault_of(error)
            reason = "required" if fault.missing is not None else fault.reason.replace("`", "'")
            raise InvalidParams([(fault.field or "body", reason)]) from None
        _ = given.wanted  # its errors belong to the request
        return given

    @property
    def is_before_1_0(self) -> bool:
        """Whether the client is one before AG-UI 1.0: those send no version."""
        return self.protocol_version is None or self.protocol_version.startswith("0.")

    @property
    def wanted(self) -> ForwardedProps:
        """`forwardedProps`. Raises InvalidParams."""
        try:
            return ForwardedProps.parse({} if self.forwarded_props is None else self.forwarded_props)
        except InvalidParams as error:
            raise InvalidParams([(f"forwardedProps.{field}", reason) for field, reason in error.problems]) from None


def text_of(content: Content | None) -> str:
    """Return the text of a message, without its files."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.text for part in content if isinstance(part, TextPart))
