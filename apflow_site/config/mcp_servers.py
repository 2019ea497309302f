"""The MCP servers that tasks may call by name: how each is reached, and the credentials that it gets."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Final

import orjson
from pydantic import PlainValidator

from apflow_site.config.values import Allowed, normal_path

NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
URL: Final = re.compile(r"https?://[^\s/?#]+[^\s#]*")
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """Either the `url` of a server and the `headers` of each request, or the `command` that starts one, with `env` besides PATH.

    `user_headers` are the names of headers that a task may set, for credentials of its user.
    """

    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: NOTHING, repr=False)
    user_headers: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=lambda: NOTHING, repr=False)


def _servers(raw: Any) -> dict[str, McpServer]:
    """Raise ValueError, whose text has names of keys and servers, but no value."""
    if isinstance(raw, str):
        raw = _parsed(raw)
    if not isinstance(raw, dict):
        raise ValueError("it is not a mapping")
    return {_name(name): _server(name, each) for name, each in raw.items()}


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ValueError("it is not JSON") from None


def _name(name: Any) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a server, which has letters, digits, '_' and '-'")
    return name


def _server(name: str, raw: Any) -> McpServer:
    if not isinstance(raw, dict) or ("url" in raw) == ("command" in raw):
        raise ValueError(f"'{name}' needs either url or command")
    allowed = ("url", "headers", "user_headers") if "url" in raw else ("command", "env")
    if unknown := [str(key) for key in raw if key not in allowed]:
        raise ValueError(
            f"'{name}' has the key '{unknown[0]}'; with {allowed[0]} it may have {' and '.join(allowed[1:])}"
        )
    for key, value in raw.items():
        if not CHECKS[key](value):
            raise ValueError(f"{key} of '{name}' must be {MUST_BE[key]}")
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
    return McpServer(**given)


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and URL.fullmatch(value) is not None


def _is_command(value: Any) -> bool:
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(part, str) and "\0" not in part for part in value)
    ):
        return False
    try:
        normal_path(value[0])
    except ValueError:
        return False
    return True


def _are_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)


CHECKS: Final[Mapping[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        "url": _is_url,
        "headers": _are_texts,
        "user_headers": _are_names,
        "command": _is_command,
        "env": _are_texts,
    }
)
MUST_BE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "url": "an http:// or https:// address",
        "headers": "a mapping of names and texts",
        "user_headers": "a list of names",
        "command": "a list: the absolute path of a program, and its arguments",
        "env": "a mapping of names and texts",
    }
)
McpServers = Annotated[
    dict[str, McpServer],
    PlainValidator(_servers),
    Allowed(
        "a mapping of names and servers, each with url and headers, or with command and env (in the environment: as JSON)",
        is_secret=True,
    ),
]
