"""The server that a task calls: one of the configuration, or a URL of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Final

import httpx
from django.conf import settings

from aipartnerupflow.executors import ExecutorError, Json
from llmkeys.masker import Masker
from llmkeys.secret import Secret
from tasks.executors.http.rest import auth_headers, merged_headers
from tasks.executors.http.safe_http import Egress, checked_headers, egress_of_tasks, parse_url

LONG_ENOUGH: Final = 8
"""A shorter value of a header or a variable is not masked: it may be an ordinary word."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server: its `url`, or the `command` that starts it. `name` is what errors call it."""

    name: str
    is_configured: bool
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    user_headers: Sequence[str] = ()
    command: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def egress(self) -> Egress:
        """The addresses that requests may reach: any of a server of the operator, and others by the rules of tasks."""
        if not self.is_configured:
            return egress_of_tasks()
        url = httpx.URL(self.url)
        return Egress(
            allow_private=[url.raw_host.decode("ascii")],
            allowed_ports=[url.port or (443 if url.scheme == "https" else 80)],
            allow_private_by=f"correct executors.mcp.servers.{self.name}.url",
            allowed_ports_key=f"executors.mcp.servers.{self.name}.url",
        )

    @cached_property
    def secrets(self) -> Sequence[Secret]:
        """The credentials. While they are referenced, logs mask them."""
        return [Secret(text) for text in self._credentials]

    def masked(self, value: Any) -> Any:
        """Return a JSON value of the server without the operator's credentials, should the server repeat them."""
        return Masker(self._credentials).json(value) if self.is_configured else value

    @property
    def _credentials(self) -> Sequence[str]:
        """The values of headers and variables; of `Bearer …` also what follows."""
        values = [*self.headers.values(), *self.env.values()]
        return [text for value in values for text in {value, value.split(" ")[-1]} if len(text) >= LONG_ENOUGH]


def target_of(inputs: Json) -> Target:
    """Return the server of a task, with its headers as far as the operator allows them. Raises ExecutorError, permanent."""
    name = inputs["server"]
    headers = merged_headers({}, inputs.get("headers", {}), auth_headers(inputs.get("auth", {})))
    if is_url(name):
        url = parse_url(name)
        return Target(
            name=str(url.copy_with(query=None)), is_configured=False, url=name, headers=checked_headers(headers)
        )
    target = configured(name)
    allowed = [name.lower() for name in target.user_headers]
    if refused := [name for name in headers if name.lower() not in allowed]:
        raise ExecutorError(
            f"inputs.headers and inputs.auth may not set the header {refused[0]!r} for the server '{target.name}'. It gets the "
            f"credentials of the configuration; tasks may set {', '.join(target.user_headers) or 'no header'} "
            f"(executors.mcp.servers.{target.name}.user_headers).",
            permanent=True,
        )
    return replace(target, headers=merged_headers(target.headers, checked_headers(headers), {}))


def configured(name: str, *, place: str = "inputs.server") -> Target:
    """Return a server of the configuration. Raises ExecutorError, permanent."""
    servers = settings.APFLOW.executors.mcp.servers or {}
    if name not in servers:
        close = get_close_matches(name[:100], sorted(servers), n=2)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ExecutorError(
            f"{place}: there is no MCP server '{name[:100]}'.{hint} Servers are those of executors.mcp.servers "
            f"({', '.join(sorted(servers)) or 'none'}).",
            permanent=True,
        )
    server = servers[name]
    return Target(
        name=name,
        is_configured=True,
        url=server.url or "",
        headers=server.headers,
        user_headers=server.user_headers,
        command=server.command,
        env=server.env,
    )


def is_url(server: str) -> bool:
    return "://" in server
