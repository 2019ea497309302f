"""Parameters that several methods have, among them `fields`, which chooses the fields of the items of a list."""

from collections.abc import Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from msgspec.structs import asdict, fields

from a2a.core.parsing import (
    MOST_SHOWN,
    Params,
    Problem,
    Text,
    Texts,
    texts,
    unknown_reason,
)
from tasks.executors.http.safe_http import HEADER_NAME
from tasks.models import Webhook
from tasks.rules.flows import NAME, REFERENCE
from tasks.rules.strict_json import Json
from tasks.rules.tags import MOST as MOST_TAGS
from tasks.rules.tags import TAG
from tasks.services.messages import webhooks

MOST_NAMED = 1_000
NEW_TASK = {"$ref": "#/components/schemas/NewTask"}
NEW_TASKS = {"type": "array", "items": NEW_TASK, "minItems": 1}
TASK_TO_STORE = {"$ref": "#/components/schemas/TaskToStore"}
TASKS_TO_STORE = {"type": "array", "items": TASK_TO_STORE, "minItems": 1}
NewTasks = Annotated[Any, Meta(extra_json_schema={"anyOf": [NEW_TASK, NEW_TASKS]})]
"""Tasks in a request. The rules for tasks validate them; this is their published schema."""
Tag = Annotated[str, Meta(extra_json_schema={"pattern": f"^{TAG.pattern}$"})]
Tags = Annotated[list[Tag], Meta(extra_json_schema={"maxItems": MOST_TAGS})]


class Get(Params, frozen=True, kw_only=True):
    """A task."""

    ALIASES = MappingProxyType({"id": "task_id"})
    task_id: Text


class GetOne(Get, frozen=True, kw_only=True):
    """tasks.get"""

    expand: bool = True
    """Whether a large result, which is stored as a file, is returned whole, up to `limits.value_bytes` and `limits.response_bytes`. Otherwise the reference to the file is."""


class Named(Params, frozen=True, kw_only=True):
    """Base class for methods on many tasks, named by ids or by the contexts of their runs."""

    ALIASES = MappingProxyType({"id": "task_id"})
    task_ids: Texts | None = None
    task_id: Text | None = None
    context_ids: Texts | None = None

    @property
    def ids(self) -> list[str]:
        one = [] if self.task_id is None else [self.task_id]
        return list(dict.fromkeys([*texts(self.task_ids), *one]))

    def contradictions(self) -> list[Problem]:
        if self.task_ids is None and self.task_id is None and self.context_ids is None:
            return [("task_ids", "required, or task_id, or context_ids")]
        if len(self.ids) + len(texts(self.context_ids)) > MOST_NAMED:
            return [("task_ids", f"at most {MOST_NAMED:,} at once")]
        return []


class Nothing(Params, frozen=True, kw_only=True):
    """Methods without parameters."""


HeaderText = Annotated[
    str,
    Meta(extra_json_schema={"pattern": "^[\\t -~]+$", "minLength": 1, "maxLength": webhooks.MAX_SECRET_CHARACTERS}),
]
HEADERS = {"maxProperties": webhooks.MAX_HEADERS, "propertyNames": {"pattern": f"^{HEADER_NAME.pattern}$"}}
HookUrl = Annotated[str, Meta(extra_json_schema={"pattern": r"^https?://[^\s/?#@\\]+([/?][^\s\\#]*)?$"})]


class WebhookConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The webhook for the events of the run.

    `token` signs them; by default it is generated and returned.
    """

    url: HookUrl
    method: Literal["POST", "PUT", "PATCH"] | None = None
    headers: Annotated[dict[str, HeaderText], Meta(extra_json_schema=HEADERS)] | None = None
    token: HeaderText | None = None

    @property
    def problems(self) -> list[Problem]:
        found = webhooks.problems(url=self.url, token=self.token, headers=self.headers)
        return [(f"webhook_config.{field}", reason) for field, reason in found]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `webhooks.add_webhook`."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def facts_of(self, webhook: Webhook) -> Json:
        """Return what a reply has about the webhook: its id, and the key that signs its requests if the server generated it."""
        return {"id": webhook.id} | (
            {} if self.token is not None else {"signing_key": webhooks.secrets_of(webhook).token}
        )


Moment = Annotated[str, Meta(min_length=1, max_length=64, extra_json_schema={"format": "date-time"})]
"""A time in ISO 8601, with an offset or in UTC, or a day, which stands for its first moment in UTC."""
NO_TIME = "must be a time such as 2026-11-01T08:00:00Z, or a day such as 2026-11-01"


def moment(text: str) -> datetime:
    """Return the time that the text names. Raises ValueError."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


def period_problems(since: str | None, until: str | None) -> list[Problem]:
    """Return the problems of `since` and `until`, which name the first moment and the one after the last."""
    given = {"since": since, "until": until}
    if problems := [(name, NO_TIME) for name, text in given.items() if not _is_moment(text)]:
        return problems
    is_reversed = since and until and moment(since) > moment(until)
    return [("since", "must not be after 'until'")] if is_reversed else []


def _is_moment(text: str | None) -> bool:
    try:
        return text is None or bool(moment(text))
    except (ValueError, OverflowError):
        return False


FlowName = Annotated[str, Meta(pattern=f"^{NAME.pattern}$")]
FlowReference = Annotated[str, Meta(pattern=f"^{REFERENCE.pattern}$")]
"""NAME, or NAME@LABEL for the version that has the label."""
Version = Annotated[int, Meta(ge=1, le=2**31 - 1)]


def names_of(kind: type[Struct]) -> list[str]:
    """Return the names of the fields of an item."""
    return [each.encode_name for each in fields(kind)]


def one_of(kind: type[Struct]) -> Json:
    """Return the JSON Schema of the name of a field."""
    return {"enum": names_of(kind)}


def several_of(kind: type[Struct]) -> Json:
    """Return the JSON Schema of names with commas between them."""
    name = f"({'|'.join(names_of(kind))})"
    return {"pattern": f"^{name}(,{name})*$"}


def chosen_fields(given: Texts | None) -> list[str] | None:
    """Return the names, each once. None: all fields."""
    return None if given is None else list(dict.fromkeys(texts(given)))


def problems_of_fields(given: Texts | None, kind: type[Struct]) -> list[Problem]:
    """Return a problem for each unknown name, or for a list without any."""
    names = chosen_fields(given)
    if names is None:
        return []
    if not names:
        return [("fields", "names no field: omit it to get all")]
    known = names_of(kind)
    unknown = [name[:MOST_SHOWN] for name in names if name not in known][:MOST_SHOWN]
    reasons = {name: unknown_reason(name, known).replace("unknown parameter", "unknown field", 1) for name in unknown}
    return [("fields", f"'{name}': {reasons[name]}") for name in unknown]


def picked(item: Json, names: Sequence[str] | None) -> Json:
    """Return the item with these fields only; without those that it does not have."""
    return item if names is None else {name: item[name] for name in names if name in item}
