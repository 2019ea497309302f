"""The parameters of each operation of A2A 1.0.

Unknown fields are ignored, as the protocol requires.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from a2a.core.parsing import Problem, fault_of
from accounts.callers import Caller
from llmkeys.providers import SentKey
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json
from tasks.services.trees.idempotency import Token


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """The context of one request.

    `url` returns the base URL of this server. `version` is the A2A version of the client, which push
    notifications use, too. `token` belongs to the Idempotency-Key of a request that may be
    repeated.
    """

    caller: Caller
    url: Callable[[], str]
    version: str
    token: Token | None = None
    llm_key: SentKey | None = None


Id = Annotated[str, Meta(min_length=1, max_length=255)]
MaybeId = Annotated[str, Meta(max_length=255)]
"""Empty means absent, as in Protocol Buffers."""
HistoryLength = Annotated[int, Meta(ge=0, le=2**31 - 1)]
PartKind = Literal["text", "raw", "url", "data"]
PART_KINDS: tuple[PartKind, ...] = ("text", "raw", "url", "data")


class Given(Struct, rename="camel", frozen=True, kw_only=True, omit_defaults=True):
    """Base class of all parameters."""

    @classmethod
    def parse(cls, value: Any, *, is_text: bool = False) -> Self:
        """Parse parameters. `is_text`: the values are strings, as in a query.

        Raises InvalidParams with the path of the invalid field.
        """
        if not isinstance(value, dict):
            raise InvalidParams([("params", "must be an object with the parameters by name")])
        try:
            given = msgspec.convert(_without_nulls(value), cls, strict=not is_text)
        except msgspec.ValidationError as error:
            fault = fault_of(error)
            reason = "is required" if fault.missing is not None else fault.reason.replace("`", "'")
            raise InvalidParams([(fault.field or "params", reason)]) from None
        problems = list(given.problems())
        if problems:
            raise InvalidParams(problems)
        return given

    def problems(self) -> list[Problem]:
        """Problems between fields that are valid on their own."""
        return []

    def to_json(self) -> Json:
        found: Json = msgspec.to_builtins(self)
        return found


class Part(Given, frozen=True, kw_only=True):
    text: str | UnsetType = UNSET
    raw: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    data: Any = UNSET
    filename: str | UnsetType = UNSET
    media_type: str | UnsetType = UNSET
    metadata: Json | UnsetType = UNSET

    @property
    def kinds(self) -> list[PartKind]:
        return [kind for kind in PART_KINDS if getattr(self, kind) is not UNSET]


class Message(Given, frozen=True, kw_only=True):
    message_id: Id
    role: Literal["ROLE_USER", "ROLE_AGENT"]
    parts: Annotated[list[Part], Meta(min_length=1)]
    context_id: MaybeId = ""
    task_id: MaybeId = ""
    metadata: Json | UnsetType = UNSET
    extensions: list[str] | UnsetType = UNSET
    reference_task_ids: Annotated[list[Id], Meta(max_length=100)] | UnsetType = UNSET

    def problems(self) -> list[Problem]:
        return [
            (f"message.parts[{index}]", "must contain exactly one of text, raw, url and data")
            for index, part in enumerate(self.parts)
            if len(part.kinds) != 1
        ]


class Authentication(Given, frozen=True, kw_only=True):
    scheme: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
    credentials: Annotated[str, Meta(max_length=4096)] = ""


class PushConfig(Given, frozen=True, kw_only=True):
    """The push notification config in a message; it belongs to the Task of the message."""

    url: Annotated[str, Meta(min_length=1, max_length=4096)]
    id: MaybeId = ""
    task_id: MaybeId = ""
    token: Annotated[str, Meta(max_length=4096)] = ""
    authentication: Authentication | UnsetType = UNSET


class Configuration(Given, frozen=True, kw_only=True):
    accepted_output_modes: list[str] = []
    task_push_notification_config: PushConfig | UnsetType = UNSET
    history_length: HistoryLength | None = None
    return_immediately: bool = False


class SendMessage(Given, frozen=True, kw_only=True):
    message: Message
    configuration: Configuration = Configuration()
    metadata: Json = {}

    def problems(self) -> list[Problem]:
        return self.message.problems()


class OfTask(Given, frozen=True, kw_only=True):
    """CancelTask."""

    id: Id


class SubscribeToTask(OfTask, frozen=True, kw_only=True):
    """`after` is the sequence number of the last update that the client has (the extension of `resume`)."""

    after: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None


class GetTask(OfTask, frozen=True, kw_only=True):
    history_length: HistoryLength | None = None


class ListTasks(Given, frozen=True, kw_only=True):
    context_id: MaybeId = ""
    status: str = ""
    page_size: Annotated[int, Meta(ge=1, le=100)] = 50
    page_token: str = ""
    history_length: HistoryLength = 0
    status_timestamp_after: str = ""
    include_artifacts: bool = False


class CreatePushConfig(PushConfig, frozen=True, kw_only=True):
    task_id: Id


class OfPushConfig(Given, frozen=True, kw_only=True):
    task_id: Id
    id: Id


class ListPushConfigs(Given, frozen=True, kw_only=True):
    task_id: Id
    page_size: Annotated[int, Meta(ge=0, le=100)] = 0
    page_token: str = ""


class Nothing(Given, frozen=True, kw_only=True):
    """GetExtendedAgentCard."""


def _without_nulls(value: Json) -> Json:
    """Drop nulls, which mean "absent" in the JSON of Protocol Buffers, except in a data part."""
    return {name: _cleared(name, item) for name, item in value.items() if item is not None or name == "data"}


def _cleared(name: str, value: Any) -> Any:
    if name in ("data", "metadata"):
        return value
    if isinstance(value, dict):
        return _without_nulls(value)
    if isinstance(value, list):
        return [_cleared("", item) for item in value]
    return value


def token_of(moment: datetime, row_id: str) -> str:
    return urlsafe_b64encode(f"{moment.isoformat()} {row_id}".encode()).decode()


def place_of(token: str) -> tuple[datetime, str]:
    """Return the time and the id in a token. Raises InvalidParams if it is not a token of this server."""
    try:
        text, row_id = urlsafe_b64decode(token.encode()).decode().split(" ", 1)
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment, row_id = datetime.min, ""
    if moment.utcoffset() != timedelta(0) or "\0" in row_id:
        raise InvalidParams([("pageToken", "is not a token of this server: omit it to start at the first page")])
    return moment, row_id
