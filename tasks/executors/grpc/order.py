"""The definition of a call and its server: without gRPC's library, so that a server without it can describe the executor."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from aipartnerupflow.executors import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server, by addresses that were checked: `ipv4:192.0.2.1:443`. `host` is its name for TLS."""

    addresses: str
    host: str
    authority: str
    tls: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A call. A response may have `most_bytes`, and all of them together."""

    service: str
    method: str
    request: Json
    metadata: Mapping[str, str] = field(repr=False)
    seconds: float
    most_messages: int
    most_bytes: int
