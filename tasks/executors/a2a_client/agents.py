"""Other A2A agents: fetch their cards, and choose the address, version and binding to use."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import httpx
import msgspec
from msgspec import Struct, field

from aipartnerupflow.executors import ExecutorError, HttpResponse
from tasks.executors.http.safe_http import fetch, parse_url

JSON_RPC: Final = "JSONRPC"
HTTP_JSON: Final = "HTTP+JSON"
BINDINGS: Final = (JSON_RPC, HTTP_JSON)
VERSIONS: Final = {"1.0": "1.0", "0.3": "0.3", "0.2": "0.3"}
"""The supported versions, by the version in the card; agents that claim 0.2 have the methods of
0.3.
"""
CARDS: Final = ("/.well-known/agent-card.json", "/.well-known/agent.json")
KEPT_SECONDS: Final = 60.0
MOST_KEPT: Final = 1_000
CARD_SECONDS: Final = 15.0
CARD_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """The address of an agent. `version` is 1.0 or 0.3, `binding` one of BINDINGS."""

    name: str
    url: str
    binding: str
    version: str
    streams: bool = False
    tenant: str = ""


class Interface(Struct, frozen=True, rename="camel"):
    """An address in a card: in `supportedInterfaces` of 1.0, or `additionalInterfaces` of 0.3.

    The latter have `transport`.
    """

    url: str
    protocol_binding: str = ""
    protocol_version: str = ""
    transport: str = ""
    tenant: str = ""


class Capabilities(Struct, frozen=True):
    streaming: bool | None = None


class Card(Struct, frozen=True, rename="camel"):
    """The fields that we use of a card of either version, or of a card for both."""

    name: str
    capabilities: Capabilities = field(default_factory=Capabilities)
    supported_interfaces: Sequence[Interface] = ()
    url: str | None = None
    preferred_transport: str | None = None
    additional_interfaces: Sequence[Interface] | None = None
    protocol_version: str | None = None


class Agents:
    """Caches the agents of the last minute.

    Cards that are only served with credentials are not cached.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Agent]] = {}

    async def find(self, agent_url: str, *, credentials: Mapping[str, str]) -> Agent:
        """Return the agent whose card is at the address, or below it. Raises ExecutorError."""
        now = asyncio.get_running_loop().time()
        until, agent = self._known.get(agent_url, (0.0, None))
        if agent is None or until <= now:
            agent, is_public = await _discover(agent_url, credentials)
            if is_public:
                self._known = {url: known for url, known in self._known.items() if known[0] > now}
                if len(self._known) < MOST_KEPT:
                    self._known[agent_url] = now + KEPT_SECONDS, agent
        if credentials:
            given, named = parse_url(agent_url), parse_url(agent.url)
            if given.host != named.host or (given.scheme == "https" and named.scheme != "https"):
                raise ExecutorError(
                    f"The card at {_shown(agent_url)} points to {_shown(agent.url)}, which is another host or not encrypted: "
                    "credentials are not sent there. If that host is correct, use its address as `agent_url`.",
                    permanent=True,
                )
        return agent


async def _discover(agent_url: str, credentials: Mapping[str, str]) -> tuple[Agent, bool]:
    """Fetch the agent's card. Returns the agent, and whether its card is public."""
    reply = await _card(agent_url, {})
    is_public = reply.status_code not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    if not is_public and credentials:
        reply = await _card(agent_url, credentials)
    if reply.status_code != HTTPStatus.OK:
        raise ExecutorError(
            f"There is no agent card at {_shown(reply.url)}: it answered {reply.status_code}. Check `agent_url`.",
            permanent=reply.status_code < 500,
            retry_after_seconds=reply.retry_after_seconds,
        )
    try:
        card = msgspec.json.decode(reply.body, type=Card)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ExecutorError(
            f"The document at {_shown(reply.url)} is not an agent card: {error}.", permanent=True
        ) from None
    return agent_of(card, where=reply.url), is_public


async def _card(agent_url: str, headers: Mapping[str, str]) -> HttpResponse:
    """Return the first response other than 404."""
    base = parse_url(agent_url).copy_with(query=None)
    path = base.path.rstrip("/")
    paths = [path] if path.endswith(".json") else [path + card for card in CARDS]
    for each in paths:
        reply = await fetch(
            "GET",
            str(base.copy_with(path=each)),
            headers={"Accept": "application/json", **headers},
            timeout_seconds=CARD_SECONDS,
            max_body_bytes=CARD_BYTES,
        )
        if reply.status_code != HTTPStatus.NOT_FOUND:
            break
    return reply


def agent_of(card: Card, *, where: str) -> Agent:
    """Choose the first usable address, preferring 1.0 to 0.3.

    Raises ExecutorError if there is none.
    """
    addresses = [
        _Address(
            url=each.url,
            binding=each.protocol_binding,
            version=_version(each.protocol_version or "1.0"),
            tenant=each.tenant,
        )
        for each in card.supported_interfaces
    ]
    if card.url is not None:
        version = _version(card.protocol_version or "0.3")
        addresses.append(_Address(url=card.url, binding=card.preferred_transport or JSON_RPC, version=version))
        others = card.additional_interfaces or ()
        addresses += [_Address(url=each.url, binding=each.transport, version=version) for each in others]
    usable = [each for each in addresses if each.binding in BINDINGS and each.version in VERSIONS.values()]
    if not usable:
        spoken = ", ".join(f"{each.binding} of {each.version}" for each in addresses) or "nothing"
        raise ExecutorError(
            f"The agent at {_shown(where)} speaks {spoken}. JSONRPC or HTTP+JSON of A2A 1.0 or 0.3 is required.",
            permanent=True,
        )
    chosen = min(usable, key=lambda each: each.version != "1.0")
    return Agent(
        name=card.name[:255],
        url=str(httpx.URL(where).join(chosen.url)).rstrip("/"),
        binding=chosen.binding,
        version=chosen.version,
        streams=bool(card.capabilities.streaming),
        tenant=chosen.tenant,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Address:
    url: str
    binding: str
    version: str
    tenant: str = ""


def _version(said: str) -> str:
    """Return major and minor version; the patch number is ignored (A2A 1.0, section 3.6)."""
    major_minor = ".".join(said.split(".")[:2])
    return VERSIONS.get(major_minor, major_minor)


def _shown(url: str) -> str:
    return str(httpx.URL(url).copy_with(query=None))
