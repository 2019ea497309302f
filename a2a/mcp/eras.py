"""The two eras of MCP: with a handshake (up to 2025-11-25), and with the facts of the client in each request.

`exchange_of` reads them from a request, and checks the headers that repeat its body.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from a2a.core.http import Headers
from a2a.core.jsonrpc import Call, Id
from a2a.mcp.messages import HEADER_MISMATCH, UNSUPPORTED_VERSION, McpError
from a2a.mcp.sessions import session_in
from accounts.callers import Caller
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json

EVENT_STREAM: Final = "text/event-stream"
MODERN: Final = ("2026-07-28",)
LEGACY: Final = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
FIRST_OVER_HTTP: Final = "2025-03-26"
"""The version of a client that names none."""
PREFIX: Final = "io.modelcontextprotocol/"
VERSION_FIELD: Final = f"{PREFIX}protocolVersion"
CAPABILITIES_FIELD: Final = f"{PREFIX}clientCapabilities"
LOG_LEVEL_FIELD: Final = f"{PREFIX}logLevel"
INITIALIZE: Final = "initialize"
VERSION_HEADER: Final = "MCP-Protocol-Version"
METHOD_HEADER: Final = "Mcp-Method"
NAME_HEADER: Final = "Mcp-Name"
PARAM_PREFIX: Final = "mcp-param-"
NAMED: Final = MappingProxyType(
    {
        "tools/call": "name",
        "prompts/get": "name",
        "resources/read": "uri",
        "tasks/get": "taskId",
        "tasks/update": "taskId",
        "tasks/cancel": "taskId",
    }
)
"""Method → the parameter that the header `Mcp-Name` repeats."""
ENCODED: Final = re.compile(r"=\?base64\?(.*)\?=")
LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request: who sends it, and what the client can do.

    `is_modern`: of 2026-07-28, so each result has a `resultType`. `progress_token` is set if the client wants
    notifications of progress, and `log_level` if it wants those of logs. A request that continues an earlier one has the
    `request_state` of that, and the `input_responses` of the client's user. `takes_streams`: its reply may be a stream.
    `param_headers` are the headers that repeat arguments. `session` is the id of the session, which only clients of earlier eras have.
    `url` is the base URL of the server, as the client has reached it.
    """

    caller: Caller
    headers: Headers
    is_modern: bool
    version: str
    call_id: Id = None
    session: str | None = None
    takes_streams: bool = False
    capabilities: Json = field(default_factory=dict)
    progress_token: str | int | float | None = None
    log_level: str | None = None
    request_state: Any = None
    input_responses: Any = None
    param_headers: Mapping[str, str] = field(default_factory=dict)
    url: str = ""

    def has_extension(self, name: str) -> bool:
        """Return whether the client has declared an extension."""
        extensions = self.capabilities.get("extensions")
        return isinstance(extensions, dict) and isinstance(extensions.get(name), dict)

    def can_elicit(self, mode: str) -> bool:
        """Return whether the client asks its user on our behalf: with a `form`, or by a `url`. Without modes, it means forms."""
        elicitation = self.capabilities.get("elicitation")
        if not isinstance(elicitation, dict):
            return False
        return mode in elicitation or (mode == "form" and not elicitation)

    def wants_log(self, level: str) -> bool:
        """Return whether a notification of this level is sent. Older clients get those from `info` on."""
        lowest = self.log_level if self.is_modern else self.log_level or "info"
        return lowest in LEVELS and LEVELS.index(level) >= LEVELS.index(lowest)


def is_modern(body: Json, sent: Mapping[str, str]) -> bool:
    """Return whether a message is of the newer era: by its header or, if that is missing, by its fields."""
    return sent.get(VERSION_HEADER) in MODERN or VERSION_FIELD in _meta(body)


def exchange_of(
    call: Call, body: Json, *, sent: Mapping[str, str], caller: Caller, headers: Headers, url: str
) -> Exchange:
    """Read the facts of a request. `sent` are its HTTP headers. Raises McpError or InvalidParams."""
    meta = _meta(body)
    token = meta.get("progressToken")
    common: Json = {
        "caller": caller,
        "headers": headers,
        "url": url,
        "call_id": call.id,
        "takes_streams": EVENT_STREAM in sent.get("Accept", ""),
        "progress_token": token if isinstance(token, str | int | float) and not isinstance(token, bool) else None,
    }
    if not is_modern(body, sent):
        version = sent.get(VERSION_HEADER, FIRST_OVER_HTTP)
        if call.method != INITIALIZE and version not in LEGACY:  # at `initialize` it is in the body
            raise unsupported_version(version)
        session = None if call.method == INITIALIZE else session_in(sent, caller)
        known: Json = {} if session is None else {"session": session.id, "capabilities": session.capabilities}
        return Exchange(is_modern=False, version=version, **known, **common)
    kinds: dict[str, tuple[type, str]] = {VERSION_FIELD: (str, "a string"), CAPABILITIES_FIELD: (dict, "an object")}
    problems = [
        (f"_meta.{name}", f"required in each request of {MODERN[0]}" if name not in meta else f"must be {what}")
        for name, (kind, what) in kinds.items()
        if not isinstance(meta.get(name), kind)
    ]
    if problems:
        raise InvalidParams(problems)
    _check_headers(call, meta[VERSION_FIELD], sent)
    if meta[VERSION_FIELD] not in MODERN:
        raise unsupported_version(meta[VERSION_FIELD])
    level = meta.get(LOG_LEVEL_FIELD)
    if level is not None and level not in LEVELS:
        raise InvalidParams([(f"_meta.{LOG_LEVEL_FIELD}", f"must be one of {', '.join(LEVELS)}")])
    return Exchange(
        is_modern=True,
        version=meta[VERSION_FIELD],
        capabilities=meta[CAPABILITIES_FIELD],
        log_level=level,
        request_state=body["params"].get("requestState"),
        input_responses=body["params"].get("inputResponses"),
        param_headers={name.lower(): value for name, value in sent.items() if name.lower().startswith(PARAM_PREFIX)},
        **common,
    )


def unsupported_version(requested: str) -> McpError:
    """No version of this name is spoken here."""
    supported = [*MODERN, *LEGACY]
    data = {"supported": list(MODERN), "requested": requested[:100]}
    return McpError(
        UNSUPPORTED_VERSION, f"Unsupported protocol version. This server speaks {', '.join(supported)}.", data=data
    )


def _meta(body: Json) -> Json:
    params = body.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    return meta if isinstance(meta, dict) else {}


def _check_headers(call: Call, version: str, sent: Mapping[str, str]) -> None:
    """Raise McpError unless the headers for intermediaries agree with the body."""
    expected = {VERSION_HEADER: version, METHOD_HEADER: call.method}
    name = call.params.get(NAMED[call.method]) if call.method in NAMED and isinstance(call.params, dict) else None
    if isinstance(name, str):
        expected[NAME_HEADER] = name
    for header, value in expected.items():
        if _decoded(sent.get(header)) != value:
            problem = "is missing" if header not in sent else "differs from the body of the request"
            raise McpError(HEADER_MISMATCH, f"The header {header} {problem}.", data={"header": header})


def check_params(exchange: Exchange, schema: Json, arguments: Json) -> None:
    """Check the headers of arguments whose schemas have `x-mcp-header`. Raises McpError unless they agree with the body."""
    properties = schema.get("properties") if exchange.is_modern else None
    for name, rule in (properties if isinstance(properties, dict) else {}).items():
        header = rule.get("x-mcp-header") if isinstance(rule, dict) else None
        value = arguments.get(name)
        if isinstance(header, str) and isinstance(value, str | int | float):
            expected = value if isinstance(value, str) else str(value).lower()
            sent = exchange.param_headers.get(f"{PARAM_PREFIX}{header.lower()}")
            if _decoded(sent) != expected:
                problem = "is missing" if sent is None else "differs from the argument in the body"
                named = f"Mcp-Param-{header}"
                raise McpError(HEADER_MISMATCH, f"The header {named} {problem}.", data={"header": named})


def _decoded(value: str | None) -> str | None:
    """Return the text of a header; None for base64 that is malformed."""
    found = ENCODED.fullmatch(value.strip()) if value is not None else None
    if found is None:
        return value and value.strip()
    try:
        decoded = base64.b64decode(found[1], validate=True)
        return decoded.decode() if base64.b64encode(decoded).decode() == found[1] else None
    except (binascii.Error, UnicodeDecodeError):
        return None
