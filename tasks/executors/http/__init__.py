"""`rest_executor`, and HTTP requests that cannot reach the operator's own network."""

from importlib import import_module
from typing import Any

from aipartnerupflow.executors import HttpResponse


async def fetch(method: str, url: str, **options: Any) -> HttpResponse:
    """Call `safe_http.fetch`, which is imported at the first call: httpx takes 0.1 s that many workers never need."""
    response: HttpResponse = await import_module("tasks.executors.http.safe_http").fetch(method, url, **options)
    return response
