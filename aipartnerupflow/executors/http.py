"""The types of `Context.fetch`: a guarded HTTP request, and its response."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    import httpx

MAX_BODY_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """An HTTP response, read to its end."""

    url: str
    """The URL that was requested, with its query."""
    status_code: int
    headers: Mapping[str, str]
    """Names are case-insensitive, except in a mapping that a test passes."""
    body: bytes
    """The decompressed body."""
    elapsed_ms: float
    """The time from the call to the end of the body, in milliseconds."""

    @property
    def retry_after_seconds(self) -> float | None:
        """The wait that the header `retry-after` asks for, in seconds; None without a valid one.

        Pass it to `ExecutorError(retry_after_seconds=…)`.
        """
        return wanted_wait_seconds(str(self.headers.get("retry-after", "")))


class Fetch(Protocol):
    """The signature of `Context.fetch`, for the annotation of a function that takes or replaces it."""

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        timeout_seconds: float = 30.0,
        max_body_bytes: int | None = MAX_BODY_BYTES,
        verify: bool = True,
        called: str | None = None,
    ) -> HttpResponse:
        """Send one request and return the response, with any status.

        `method` is an HTTP method in capitals; `url` is `http(s)://host[:port]/path?query`.
        `params` are added to the query, `content` is the body. `timeout_seconds` bounds the whole
        exchange. With `max_body_bytes` None the body is not read. Without `verify` the certificate
        is not checked, which the operator must allow for the host. `called` names the request in
        errors, instead of its method and URL.

        Redirects are not followed. Raises ExecutorError when the address, port, URL or a header is
        refused, the connection fails, the time is over, or the body is longer than
        `max_body_bytes`. Its text has no header and no query.
        """
        ...


class HttpOf(Protocol):
    """The signature of `Context.http`, for the annotation of a function that takes or replaces it."""

    def __call__(self, *, timeout_seconds: float = 30.0) -> "httpx.AsyncClient":
        """Return a new HTTP client for an SDK: `async with context.http() as client:`.

        It reaches the same addresses as `Context.fetch`. It follows no redirects, uses no proxy, and reads at most 64 MiB of a
        response. `timeout_seconds` limits each wait for the other side. A refused address raises ExecutorError, which an SDK may
        replace by an error of its own. Close the client on the event loop on which it was used.
        """
        ...


def wanted_wait_seconds(retry_after: str) -> float | None:
    """Return the wait that a Retry-After header asks for (RFC 9110, section 10.2.3), in seconds.

    The header is a number of seconds or a date; None when it is neither.
    """
    text = retry_after.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
