"""Forms that save the filters of a list under a name, and delete such a name."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse

from accounts.callers import Caller
from apflow_site.db import pools
from tasks.dashboard import run_filters
from tasks.dashboard.filters import read_filters
from tasks.dashboard.pages import page, redirect_with_message
from tasks.rules.exceptions import InvalidParams
from tasks.services.history import saved_views

LONGEST_NAME: Final = 100
LONGEST_QUERY: Final = 4_096
QUERIES: Final[Mapping[str, Callable[[QueryDict], str]]] = {
    "trees": lambda given: replace(read_filters(given), cursor="").query(),
    "runs": lambda given: run_filters.read(given).query(),
}
"""List → a function that returns the part of its URL that is saved. Raises InvalidParams."""


@page("POST")
async def save(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Save the filters of a list under a name."""
    place, name, query = _given(request)
    if not 0 < len(name) <= LONGEST_NAME:
        raise InvalidParams([("name", f"must have 1 to {LONGEST_NAME} characters")])
    await pools.write(saved_views.save_view, caller=caller, place=place, name=name, query=query)
    return redirect_with_message(request, _address(place, query), f"Saved the view {name}.")


@page("POST")
async def delete(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Delete a saved view. The list keeps its filters."""
    place, name, query = _given(request)
    deleted = await pools.write(saved_views.delete_view, caller=caller, place=place, name=name)
    message = f"Deleted the view {name[:LONGEST_NAME]}." if deleted else f"There is no view {name[:LONGEST_NAME]}."
    return redirect_with_message(request, _address(place, query), message)


def _given(request: HttpRequest) -> tuple[str, str, str]:
    """Return the list, the name, and the filters in their normal form. Raises InvalidParams."""
    place, name, query = (request.POST.get(field, "").strip() for field in ("place", "name", "query"))
    if place not in QUERIES:
        raise InvalidParams([("place", f"must be one of {', '.join(QUERIES)}")])
    if len(query) > LONGEST_QUERY:
        raise InvalidParams([("query", f"must have at most {LONGEST_QUERY:,} characters")])
    return place, name, QUERIES[place](QueryDict(query))


def _address(place: str, query: str) -> str:
    address = reverse(f"dashboard:{place}") if place != "trees" else "/"
    return f"{address}?{query}" if query else address
