"""The types of settings: the values that each allows, and how text of the environment or of a flag becomes a value."""

import ipaddress
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainValidator, StringConstraints
from pydantic_settings import SettingsConfigDict

from apflow_site.databases import DATABASE_URLS, database_settings
from tasks.rules.limits import read_limits

HOST_NAME: Final = r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?"


class Section(BaseModel):
    """A part of the configuration."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True
    )

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Without values: some are secret, and a repr ends up in logs."""
        return []


@dataclass(frozen=True, slots=True)
class Allowed:
    """The allowed values in words, as the end of the sentence "Give …". Errors never show a secret."""

    text: str
    is_secret: bool = False


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def absolute(path: str) -> str:
    """Return the path from the root; `~` is the home folder. Raises ValueError when there is no such home folder."""
    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError as error:
        raise ValueError("the home folder is not known") from error


def _no_switch(raw: Any) -> Any:
    """Python counts true as 1; a setting does not."""
    if isinstance(raw, bool):
        raise ValueError
    return raw


def _split(raw: Any) -> Any:
    return [part.strip() for part in raw.split(",") if part.strip()] if isinstance(raw, str) else raw


def _split_pairs(raw: Any) -> Any:
    if not isinstance(raw, str):
        return raw
    pairs: dict[str, str] = {}
    for name, _, value in (part.partition("=") for part in _split(raw)):
        if name.strip() in pairs:
            raise ValueError(f"{name.strip()!r} appears twice")
        pairs[name.strip()] = value.strip()
    return pairs


def _json_text(raw: Any) -> Any:
    return json.loads(raw) if isinstance(raw, str) else raw


def _limits(value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Raise ValueError, which names the fault."""
    read_limits(value)
    return value


def _host(value: str) -> str:
    """Raise ValueError unless it is a host name or an IP address, without port or brackets."""
    if re.fullmatch(HOST_NAME, value):
        return value
    try:
        ipaddress.ip_address(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is neither a name nor an address") from error
    return value


def _host_or_network(value: str) -> str:
    if "/" not in value:
        return _host(value)
    ipaddress.ip_network(value)
    return value


def _network(value: str) -> str:
    """Raise ValueError unless it is an IP address or a network."""
    ipaddress.ip_network(value)
    return value


def _database_url(value: str) -> str:
    database_settings(value)
    return value


def _own_network(value: str) -> str:
    """Raise ValueError for the network of the host, which would make all that listens on the machine reachable."""
    if value == "host":
        raise ValueError("a container may not use the network of the host")
    return value


def _any_text(check: Callable[[str], str]) -> PlainValidator:
    """Text that `check` returns. Not a string of pydantic's, which refuses names of files that are not UTF-8."""

    def validate(raw: Any) -> str:
        if not isinstance(raw, str) or not raw:
            raise ValueError
        return check(raw)

    return PlainValidator(validate)


def _path(value: str) -> str:
    if "\0" in value:
        raise ValueError
    return value


def _folder(value: str) -> str:
    return absolute(_path(value))


def normal_path(value: str) -> str:
    """Raise ValueError unless it is absolute and written the shortest way, so that it can be compared as text."""
    if "\0" in value or not Path(value).is_absolute() or os.path.normpath(value) != value:
        raise ValueError(f"{value!r} is not absolute, or not written the shortest way")
    return value


Split: Final = BeforeValidator(_split)
SplitPairs: Final = BeforeValidator(_split_pairs)

Whole = Annotated[int, BeforeValidator(_no_switch)]
Number = Annotated[float, BeforeValidator(_no_switch)]
Ports = Annotated[
    tuple[Annotated[Whole, Field(ge=1, le=65535)], ...], Split, Allowed("a list of ports from 1 to 65535")
]

Word = Annotated[str, StringConstraints(pattern=r"^\S+$")]
Host = Annotated[
    str,
    StringConstraints(min_length=1),
    AfterValidator(_host),
    Allowed("a host name or an IP address, without a port"),
]
HostPattern = Annotated[str, StringConstraints(pattern=rf"^(\*|\.?{HOST_NAME}|\[[0-9A-Fa-f:.]+\])$")]
HostPatterns = Annotated[
    tuple[HostPattern, ...], Split, Allowed("a list of host names (example.com, .example.com or *)")
]
Origin = Annotated[
    str, StringConstraints(pattern=rf"^(\*|https?://({HOST_NAME}|\[[0-9A-Fa-f:.]+\])(:([0-9]{{1,5}}|\*))?)$")
]
Origins = Annotated[
    tuple[Origin, ...], Split, Allowed("a list of origins (https://app.example.com, http://localhost:* or *)")
]
Mailbox = Annotated[str, StringConstraints(pattern=r"^[^\s@]+@[^\s@]+$"), Allowed("an address such as ops@example.com")]
MailboxPatterns = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=r"^(\*|[^\s@]+@[^\s@]+)$")], ...],
    Split,
    Allowed("a list of addresses (ops@example.com, *@example.com or *)"),
]
Proxies = Annotated[
    tuple[Annotated[str, AfterValidator(_network)], ...],
    Split,
    Allowed("a list of IP addresses or networks such as 10.0.0.0/8"),
]
Target = Annotated[str, AfterValidator(_host_or_network)]
Targets = Annotated[
    tuple[Target, ...], Split, Allowed("a list of host names, IP addresses or networks such as 10.0.0.0/8")
]
WebAddress = Annotated[
    str, StringConstraints(pattern=r"^https?://[^\s/?#]+[^\s?#]*$"), Allowed("an http:// or https:// address")
]
Bucket = Annotated[
    str,
    StringConstraints(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*/?$"),
    Allowed("s3:// with the name of a bucket and a prefix, such as s3://bucket/prefix"),
]
WebAddresses = Annotated[
    dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$")], WebAddress],
    SplitPairs,
    Allowed(
        "a mapping of providers and http:// or https:// addresses (in the environment: name=value, separated by commas)"
    ),
]
Issuers = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#]+[^\s?#]*$")], ...],
    Split,
    Allowed("a list of http:// or https:// addresses"),
]
Uris = Annotated[tuple[str, ...], Split, Allowed("a list of URIs of extensions")]

Folder = Annotated[str, _any_text(_folder), Allowed("the path of a folder")]
PemFile = Annotated[str, _any_text(_path), Allowed("the path of a file in PEM")]
File = Annotated[str, _any_text(_path), Allowed("the path of a file")]
Files = Annotated[tuple[str, ...], Split, Allowed("a list of paths of files")]
SshHosts = Annotated[
    dict[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")],
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.-]*@[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,5})?$")],
    ],
    SplitPairs,
    Allowed("a mapping of names and user@host or user@host:port (in the environment: name=value, separated by commas)"),
]
Images = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9][A-Za-z0-9._/:@-]*$")], ...],
    Split,
    Allowed("a list of images such as python:3.13-slim"),
]
DaemonAddress = Annotated[
    str,
    StringConstraints(pattern=rf"^(unix:///\S+|tcp://({HOST_NAME}|\[[0-9A-Fa-f:.]+\]):[0-9]{{1,5}})$"),
    Allowed("unix:// and the path of a socket, or tcp://host:port"),
]
NetworkName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"),
    AfterValidator(_own_network),
    Allowed("none, or the name of a Docker network other than host"),
]
UserOfContainers = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_][\w.-]*(:[A-Za-z0-9_][\w.-]*)?$"), Allowed("uid:gid, or their names")
]
NormalPath = Annotated[str, _any_text(normal_path)]
Programs = Annotated[tuple[NormalPath, ...], Split, Allowed("a list of absolute paths of programs")]
Folders = Annotated[tuple[NormalPath, ...], Split, Allowed("a list of absolute paths of folders")]

ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]
ModuleNames = Annotated[tuple[ModuleName, ...], Split, Allowed("a list of dotted module names")]
FunctionName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"), Allowed("the dotted path of a function")
]
Tools = Annotated[
    dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")], ModuleName],
    SplitPairs,
    Allowed(
        "a mapping of names and the dotted paths of CrewAI tools (in the environment: name=value, separated by commas)"
    ),
]
Crews = Annotated[
    dict[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")],
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*)?$")],
    ],
    SplitPairs,
    Allowed(
        "a mapping of names and module:Name, or packages with agents.yaml and tasks.yaml (in the environment: name=value, separated by commas)"
    ),
]
Graphs = Annotated[
    dict[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")],
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")],
    ],
    SplitPairs,
    Allowed(
        "a mapping of names and package.module:graph (in the environment: name=package.module:graph, separated by commas)"
    ),
]
Percentages = Annotated[
    dict[
        Annotated[str, StringConstraints(pattern=r"^\S(.*\S)?$")],
        Annotated[Whole, Field(ge=1, le=100)],
    ],
    SplitPairs,
    Allowed(
        "a mapping of names of users, in quotes if they are numbers, and whole numbers from 1 to 100 (in the environment: name=value, separated by commas)"
    ),
]
Model = Annotated[Word, Allowed("a model such as openai/gpt-4o-mini")]
ExecutorId = Annotated[Word, Allowed("the id of an executor")]
FlowName = Annotated[Word, Allowed("the name of a flow")]
ExecutorConfigs = Annotated[
    dict[ExecutorId, dict[str, Any]],
    BeforeValidator(_json_text),
    Allowed("a mapping of ids of executors and objects (in the environment: a JSON object)", is_secret=True),
]
SharedLimits = Annotated[
    dict[str, dict[str, Any]],
    BeforeValidator(_json_text),
    AfterValidator(_limits),
    Allowed(
        "a mapping of names and limits, each with requests_per_second, requests_per_minute, tokens_per_minute or at_once, and with match and per (in the environment: a JSON object)"
    ),
]
ExecutorIds = Annotated[tuple[Word, ...], Split, Allowed("a list of ids of executors")]

DatabaseUrl = Annotated[str, _any_text(_database_url), Allowed(DATABASE_URLS, is_secret=True)]
RedisUrl = Annotated[
    str,
    StringConstraints(pattern=r"^(rediss?://[^\s/]|unix://\S*/)\S*$"),
    Allowed("a redis://, rediss:// or unix:// URL", is_secret=True),
]
Secret = Annotated[str, StringConstraints(pattern=r"\S"), Allowed("a text that is hard to guess", is_secret=True)]
Secrets = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=r"\S")], ...],
    Split,
    Allowed("a list of texts that are hard to guess", is_secret=True),
]
EncryptionKeys = Annotated[
    tuple[Annotated[str, StringConstraints(min_length=32)], ...],
    Split,
    Allowed("a list of texts of at least 32 characters, the newest first", is_secret=True),
]
