"""Methods for inbound hooks: addresses at which other services start flows, send events and answer questions."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, to_builtins

from a2a.core.parsing import NotWith, Params, Problem, Text
from a2a.methods.method import OPERATOR, VIEWER, Response, Rest, Tool, has_one_of, method
from a2a.methods.params import FlowName, FlowReference, Nothing
from a2a.methods.results import DataResult
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.executors.http.safe_http import HEADER_NAME
from tasks.rules import exceptions as errors
from tasks.rules.signatures import HMAC, SLACK
from tasks.rules.strict_json import Json
from tasks.services import hooks
from tasks.services.hooks import Target, receiving

HeaderName = Annotated[str, Meta(max_length=100, extra_json_schema={"pattern": f"^{HEADER_NAME.pattern}$"})]
Verifier = Literal["github", "stripe", "slack", "standard", "hmac"]
Outcome = Literal["started", "sent", "answered", "filtered", "failed"]
ANSWERS: Final[Json] = {
    "required": ["answers"],
    "properties": {"answers": {"const": True}, "verifier": {"const": SLACK}},
}
NEVER_READ: Final = frozenset({"authorization", "cookie", "proxy-authorization"})


class HmacScheme(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The way in which a sender signs that is none of the known ones: an HMAC of the body in the `header`, behind a `prefix`.

    With a `timestamp_header`, of seconds since 1970, `TIMESTAMP.BODY` is signed. The id of a delivery is in the header
    `id_header`, or in the body at the JSON Pointer `id_path`; without either, the signed bytes are the id. `headers` are those that the filter and
    the mapping may read.
    """

    header: HeaderName
    algorithm: Literal["sha1", "sha256", "sha384", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: Annotated[str, Meta(max_length=100)] = ""
    timestamp_header: HeaderName | None = None
    id_header: HeaderName | None = None
    id_path: Annotated[str, Meta(max_length=255, pattern="^/")] | None = None
    headers: Annotated[list[HeaderName], Meta(max_length=10)] = []

    @property
    def problems(self) -> list[Problem]:
        signed = [self.header, self.timestamp_header, self.id_header]
        names = {
            f"hmac.{field}": name
            for field, name in zip(("header", "timestamp_header", "id_header"), signed, strict=True)
        }
        names |= {f"hmac.headers[{index}]": name for index, name in enumerate(self.headers)}
        given = {field: name for field, name in names.items() if name is not None}
        found = [
            (field, "is not a valid header name") for field, name in given.items() if not HEADER_NAME.fullmatch(name)
        ]
        secret = NEVER_READ | {self.header.lower()}
        found += [
            (field, "may hold a secret or the signature, and is never stored")
            for field, name in given.items()
            if field.startswith("hmac.headers") and name.lower() in secret
        ]
        if self.id_header is not None and self.id_path is not None:
            found.append(("hmac.id_path", "cannot be combined with id_header"))
        return found

    @property
    def stored(self) -> Json:
        """The scheme with the names of headers in lower case, as requests are read."""
        lower = {
            name: value.lower()
            for name in ("header", "timestamp_header", "id_header")
            if (value := getattr(self, name)) is not None
        }
        kept: Json = to_builtins(self)
        return kept | lower | {"headers": [name.lower() for name in self.headers]}


class SetHook(Params, frozen=True, kw_only=True):
    """hooks.set. A delivery starts a `flow`, sends an `event`, or, with `answers`, answers the question whose button was pressed in Slack."""

    CONDITIONS = (
        NotWith("event", "flow", "choose one of flow, event and answers"),
        NotWith("payload", "flow", "is of an event; a flow has inputs"),
        NotWith("inputs", "event", "are of a flow; an event has a payload"),
    )
    name: FlowName
    verifier: Verifier
    secrets: Annotated[list[Text], Meta(min_length=1, max_length=2, extra_json_schema={"uniqueItems": True})]
    """The names of one or two of your secrets (`secrets.set`): a signature by either is valid, so that one can replace the other."""
    hmac: HmacScheme | None = None
    """The scheme of the sender, with the verifier `hmac`."""
    tolerance_seconds: Annotated[int, Meta(ge=1, le=3600)] = 300
    """The seconds by which the time of a signature may differ from now. GitHub signs no time."""
    filter: dict[str, Any] | None = None
    """A condition as in `params.when`, without `task`, such as `{"path": "/body/action", "op": "eq", "value": "opened"}`. Default: every delivery passes."""
    flow: FlowReference | None = None
    inputs: dict[str, Any] | None = None
    """The inputs of its run, with places such as `{{body.issue.title}}` and `{{headers.x-github-event}}`. Default: `body` and `headers`, if the flow takes them."""
    event: Text | None = None
    """The name of an event for tasks that wait, which may have places."""
    payload: dict[str, Any] | None = None
    """Its payload, with places. Default: the body."""
    answers: bool = False
    """Whether a button of a question answers it, with the verifier `slack`."""

    def contradictions(self) -> list[Problem]:
        found = [*super().contradictions(), *(self.hmac.problems if self.hmac else ())]
        targets = sum((self.flow is not None, self.event is not None, self.answers))
        if targets == 0:
            found.append(("flow", "required, or event, or answers"))
        elif targets > 1 and self.answers:
            found.append(("answers", "choose one of flow, event and answers"))
        if (self.hmac is not None) != (self.verifier == HMAC):
            found.append(("hmac", "is required with the verifier 'hmac', and only known there"))
        if self.answers and self.verifier != SLACK:
            found.append(("answers", "is only known with the verifier 'slack'"))
        if self.answers and (self.inputs is not None or self.payload is not None):
            found.append(("answers", "has neither inputs nor a payload"))
        if self.inputs is not None and self.flow is None and not self.answers:
            found.append(("inputs", "are of a flow"))
        if len(set(self.secrets)) < len(self.secrets):
            found.append(("secrets", "names the same one twice"))
        return found


class HookNamed(Params, frozen=True, kw_only=True):
    """hooks.get and hooks.delete"""

    name: FlowName


class ListDeliveries(HookNamed, frozen=True, kw_only=True):
    """hooks.deliveries"""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    before: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None
    """The `delivery` of the last one of the page before."""
    with_body: bool = False
    """Whether each has its `headers` and `body`."""


class ReplayDelivery(HookNamed, frozen=True, kw_only=True):
    """hooks.replay"""

    delivery: Annotated[int, Meta(ge=1, le=2**63 - 1)]


class InboundHook(Response, frozen=True, kw_only=True):
    """An inbound hook. `url` is for the sender; `secrets` are names, and no interface shows their values."""

    name: str
    url: str
    verifier: Verifier
    secrets: list[str]
    hmac: HmacScheme | None
    tolerance_seconds: int
    filter: Json | None
    flow: str | None
    inputs: Json | None
    event: str | None
    payload: Json | None
    answers: bool
    created_at: str
    updated_at: str


class InboundHooks(Response, frozen=True, kw_only=True):
    """The inbound hooks of the caller, by name."""

    hooks: list[InboundHook]


class HookDeleted(Response, frozen=True, kw_only=True):
    """Whether there was an inbound hook with that name."""

    name: str
    deleted: bool


class HookDelivery(Response, frozen=True, kw_only=True):
    """A delivery whose signature was valid. `delivery` is its number here, and `delivery_id` the id by which the sender knows it.

    `started`: `run_id` is the run, and `task_id` its root. `sent`: `event_id` is the event. `answered`: `task_id` asked. `filtered`
    and `failed`: `reason` says why. `replay_of` is the delivery that the owner has replayed.
    """

    delivery: int
    delivery_id: str
    outcome: Outcome
    reason: str | None
    run_id: str | None
    task_id: str | None
    event_id: str | None
    replay_of: int | None
    received_at: str
    headers: Json | UnsetType = UNSET
    body: Any = UNSET


class HookDeliveries(Response, frozen=True, kw_only=True):
    """A page of deliveries, the newest first. `next_before` is null on the last page."""

    deliveries: list[HookDelivery]
    next_before: int | None


@method(
    "hooks.set",
    role=OPERATOR,
    answer=InboundHook,
    rest=[
        Rest(
            "setInboundHook",
            "PUT hooks/<name>/",
            errors=(errors.FlowNotFound, errors.LimitReached),
            rules={"anyOf": [*has_one_of("flow", "event"), ANSWERS], "required": ["verifier", "secrets"]},
        )
    ],
    tool=Tool(
        "set_inbound_hook",
        "Set an inbound hook",
        "Let signed requests of GitHub, Stripe, Slack or another service start one of your flows or send an event. The reply has "
        "the address for the sender. Secrets are named: people store them.",
        is_idempotent=True,
    ),
)
async def set_hook(caller: Caller, given: SetHook, url: Callable[[], str]) -> DataResult:
    """Let signed requests of another service start a flow, send an event or answer questions, or replace the inbound hook with this name."""
    target = Target(
        flow=given.flow, inputs=given.inputs, event=given.event, payload=given.payload, answers=given.answers
    )
    stored = await pools.write(
        partial(
            hooks.set_hook,
            caller=caller,
            name=given.name,
            verifier=given.verifier,
            secrets=given.secrets,
            target=target,
            scheme=None if given.hmac is None else given.hmac.stored,
            tolerance_seconds=given.tolerance_seconds,
            filter=given.filter,
        )
    )
    return DataResult(native=hooks.native_of(stored, base=url()))


@method(
    "hooks.get",
    role=VIEWER,
    answer=InboundHook,
    rest=[Rest("getInboundHook", "GET hooks/<name>/", errors=(errors.HookNotFound,))],
)
def get_hook(caller: Caller, given: HookNamed, url: Callable[[], str]) -> DataResult:
    """Return an inbound hook of the caller, with its address."""
    return DataResult(native=hooks.native_of(hooks.get_hook(caller=caller, name=given.name), base=url()))


@method(
    "hooks.list",
    role=VIEWER,
    answer=InboundHooks,
    rest=[Rest("listInboundHooks", "GET hooks/")],
    tool=Tool(
        "list_inbound_hooks",
        "List inbound hooks",
        "List the addresses at which other services start your flows, send events and answer questions.",
    ),
)
def list_hooks(caller: Caller, given: Nothing, url: Callable[[], str]) -> DataResult:
    """List the inbound hooks of the caller, by name."""
    found = hooks.list_hooks(caller=caller)
    return DataResult(native={"hooks": [hooks.native_of(each, base=url()) for each in found]})


@method(
    "hooks.delete",
    role=OPERATOR,
    answer=HookDeleted,
    rest=[Rest("deleteInboundHook", "DELETE hooks/<name>/")],
)
async def delete_hook(caller: Caller, given: HookNamed) -> DataResult:
    """Delete an inbound hook with its deliveries. The runs that they started stay, and its address is unknown from now on."""
    deleted = await pools.write(hooks.delete_hook, caller=caller, name=given.name)
    return DataResult(native={"name": given.name, "deleted": deleted})


@method(
    "hooks.deliveries",
    role=VIEWER,
    answer=HookDeliveries,
    rest=[Rest("listHookDeliveries", "GET hooks/<name>/deliveries/", errors=(errors.HookNotFound,))],
    tool=Tool(
        "list_hook_deliveries",
        "List deliveries to a hook",
        "List what was delivered to an inbound hook, and what each delivery led to, the newest first.",
    ),
)
def list_deliveries(caller: Caller, given: ListDeliveries) -> DataResult:
    """List what was delivered to an inbound hook, the newest first."""
    found = hooks.deliveries_of(
        caller=caller, name=given.name, before=given.before, limit=given.limit + 1, with_body=given.with_body
    )
    page = found[: given.limit]
    native = [hooks.native_delivery(each, with_body=given.with_body) for each in page]
    return DataResult(native={"deliveries": native, "next_before": page[-1].pk if len(found) > len(page) else None})


@method(
    "hooks.replay",
    role=OPERATOR,
    answer=HookDelivery,
    rest=[
        Rest(
            "replayHookDelivery",
            "POST hooks/<name>/replay/",
            errors=(errors.HookNotFound, errors.DeliveryNotFound),
            rules={"required": ["delivery"]},
        )
    ],
    tool=Tool(
        "replay_hook_delivery",
        "Replay a delivery",
        "Do again what a delivery to an inbound hook did, with the hook as it is now: it starts another run.",
    ),
)
async def replay(caller: Caller, given: ReplayDelivery) -> DataResult:
    """Do again what a delivery did, with the hook as it is now. The reply is the new delivery."""
    received = await pools.write(receiving.replay, caller=caller, name=given.name, delivery=given.delivery)
    await receiving.follow_up(received)
    return DataResult(native=hooks.native_delivery(received.row))
