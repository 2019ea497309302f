"""The filters of the lists of trees and runs, as URLs have them, and forms that save them under a name."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse

from accounts.callers import Caller
from apflow_site.db import pools
from tasks.dashboard.pages import page, redirect_with_message
from tasks.rules.exceptions import InvalidParams
from tasks.services.history import run_search
from tasks.services.upkeep.home import moment_of
from tasks.status import Status

ORDERS: Final = {"-created_at": "Newest first", "created_at": "Oldest first"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The filters in the URL. An empty value does not filter."""

    text: str = ""
    status: str = ""
    executor: str = ""
    owner: str = ""
    order: str = "-created_at"
    cursor: str = ""

    @property
    def is_narrowed(self) -> bool:
        return bool(self.text or self.status or self.executor or self.owner)

    def query(self, **changes: str) -> str:
        """Return the URL query for these filters with `changes` applied."""
        values = {"q": self.text, "status": self.status, "executor": self.executor, "owner": self.owner}
        values |= {"order": "" if self.order == "-created_at" else self.order, "cursor": self.cursor} | changes
        return urlencode({name: value for name, value in values.items() if value})


def read_filters(query: Mapping[str, str]) -> Filters:
    """Read the filters. Raises InvalidParams for an unknown status or order."""
    given = _read(query, "q", "executor", "owner", "cursor", status=list(Status), order=ORDERS)
    return Filters(
        text=given["q"],
        status=given["status"],
        executor=given["executor"],
        owner=given["owner"],
        order=given["order"] or "-created_at",
        cursor=given["cursor"],
    )


def _read(query: Mapping[str, str], *names: str, **choices: Collection[str]) -> dict[str, str]:
    """Return the values in a query by their names. Raises InvalidParams for one that is none of its choices."""
    given = {name: query.get(name, "").strip() for name in (*names, *choices)}
    problems = [
        (name, f"must be one of {', '.join(known)}")
        for name, known in choices.items()
        if given[name] and given[name] not in known
    ]
    if problems:
        raise InvalidParams(problems)
    return given


SPANS: Final[Mapping[str, tuple[str, timedelta, timedelta]]] = {
    "1": ("24 hours", timedelta(days=1), timedelta(hours=1)),
    "7": ("7 days", timedelta(days=7), timedelta(hours=6)),
    "30": ("30 days", timedelta(days=30), timedelta(days=1)),
    "90": ("90 days", timedelta(days=90), timedelta(days=3)),
}
"""The choices of the page: what it says, how long that is, and how long one bar of the chart stands for."""
STATUSES: Final = ("completed", "failed", "cancelled", "in_progress", "pending")
"""The statuses from the bottom of a bar to its top."""


EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
LEAST: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilters:
    """The filters in the URL. An empty one does not filter. A time of its own, `since` or `until`, replaces the `span`."""

    span: str = "7"
    since: str = ""
    until: str = ""
    status: str = ""
    flow: str = ""
    task_id: str = ""
    tag: str = ""
    text: str = ""
    owner: str = ""
    cursor: str = ""

    def period(self, now: datetime) -> tuple[datetime, datetime]:
        """Return the times between which the runs were created. Raises InvalidParams."""
        found, problems = {"since": now - SPANS[self.span][1], "until": now}, []
        for name, text in (("since", self.since), ("until", self.until)):
            try:
                found[name] = moment_of(text) if text else found[name]
            except ValueError:
                problems.append((name, "must be a time such as 2026-11-30T18:00"))
        if self.until and not self.since:
            found["since"] = max(found["until"], EARLIEST) - SPANS[self.span][1]
        if not problems and (found["since"] < EARLIEST or found["until"] - found["since"] < LEAST):
            problems.append(("since", "must be after 2000-01-01, and at least a minute before the end of the time"))
        if problems:
            raise InvalidParams(problems)
        return found["since"], found["until"]

    def query(self, **changes: str) -> str:
        """Return the URL query for these filters with `changes` applied."""
        values = {"days": self.span, "status": self.status, "flow": self.flow, "task": self.task_id, "user": self.owner}
        values |= {"tag": self.tag, "q": self.text, "since": self.since, "until": self.until}
        return urlencode({name: value for name, value in (values | changes).items() if value})


def read_run_filters(query: Mapping[str, str]) -> RunFilters:
    """Read the filters. Raises InvalidParams for an invalid time or an unknown status."""
    names = ("flow", "task", "user", "tag", "q", "cursor", "since", "until")
    given = _read(query, *names, days=SPANS, status=STATUSES)
    found = RunFilters(
        span=given["days"] or "7",
        since=given["since"],
        until=given["until"],
        status=given["status"],
        flow=given["flow"],
        task_id=given["task"],
        owner=given["user"],
        tag=given["tag"],
        text=given["q"],
        cursor=given["cursor"],
    )
    found.period(datetime.now(UTC))
    return found


LONGEST_NAME: Final = 100
LONGEST_QUERY: Final = 4_096
QUERIES: Final[Mapping[str, Callable[[QueryDict], str]]] = {
    "trees": lambda given: replace(read_filters(given), cursor="").query(),
    "runs": lambda given: read_run_filters(given).query(),
}
"""List → a function that returns the part of its URL that is saved. Raises InvalidParams."""


@page("POST")
async def save_view(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Save the filters of a list under a name."""
    place, name, query = _given(request)
    if not 0 < len(name) <= LONGEST_NAME:
        raise InvalidParams([("name", f"must have 1 to {LONGEST_NAME} characters")])
    await pools.write(run_search.save_view, caller=caller, place=place, name=name, query=query)
    return redirect_with_message(request, _address(place, query), f"Saved the view {name}.")


@page("POST")
async def delete_view(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Delete a saved view. The list keeps its filters."""
    place, name, query = _given(request)
    deleted = await pools.write(run_search.delete_view, caller=caller, place=place, name=name)
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
    address = reverse(f"dashboard:{place}")
    return f"{address}?{query}" if query else address
