"""`rest_executor`, and HTTP requests that cannot reach the operator's own network."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aipartnerupflow.executors import HttpResponse

if TYPE_CHECKING:
    import httpx


def host_of(url: str) -> str:
    """Return the host of a URL in lower case and in its xn-- form. Raises ExecutorError for a URL that is refused."""
    host: str = import_module("tasks.executors.http.safe_http").parse_url(url).raw_host.decode("ascii")
    return host


async def fetch(method: str, url: str, **options: Any) -> HttpResponse:
    """Call `safe_http.fetch`, which is imported at the first call: httpx takes 0.1 s that many workers never need."""
    response: HttpResponse = await import_module("tasks.executors.http.safe_http").fetch(method, url, **options)
    return response


def client(*, timeout_seconds: float = 30.0) -> "httpx.AsyncClient":
    """Call `safe_http.client_for_sdk`, which is imported at the first call."""
    made: httpx.AsyncClient = import_module("tasks.executors.http.safe_http").client_for_sdk(
        timeout_seconds=timeout_seconds
    )
    return made
