"""Headers that apply to a call: of an HTTP request or WebSocket handshake, or gRPC metadata."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from django.http import HttpRequest

from a2a.core.headers import VERSION_HEADER, requested_extensions
from a2a.core.http import public_url
from llmkeys import header as llm_keys
from llmkeys.header import MalformedKey, SentKey, parse_header
from llmkeys.secret import Secret
from tasks.rules.exceptions import InvalidParams
from tasks.services import idempotency


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """The headers of a request.

    `url` is the base URL of the server; `is_single`: not part of a batch.
    """

    last_event_id: str | None = None
    idempotency_key: str | None = None
    llm_key: Secret | None = None
    a2a_version: str = ""
    a2a_extensions: tuple[str, ...] = ()
    url: str = ""
    is_single: bool = True

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self:
        """Read the headers of a request or handshake.

        The names in `headers` must be case-insensitive.
        """
        llm_key = headers.get(llm_keys.HEADER)
        return cls(
            last_event_id=headers.get("Last-Event-ID"),
            idempotency_key=headers.get(idempotency.HEADER),
            llm_key=None if llm_key is None else Secret(llm_key),
            a2a_version=headers.get(VERSION_HEADER, ""),
            a2a_extensions=tuple(requested_extensions(headers)),
        )

    def sent_key(self) -> SentKey | None:
        """The parsed LLM key, or None. Raises InvalidParams, whose message never contains the key."""
        try:
            return None if self.llm_key is None else parse_header(self.llm_key)
        except MalformedKey as error:
            raise InvalidParams([(llm_keys.HEADER, error.message)]) from None


def headers_of(request: HttpRequest) -> Headers:
    """The headers of an HTTP request. The A2A version may also be a query parameter."""
    version = request.headers.get(VERSION_HEADER) or request.GET.get(VERSION_HEADER, "")
    return replace(Headers.of(request.headers), url=public_url(request), a2a_version=version)
