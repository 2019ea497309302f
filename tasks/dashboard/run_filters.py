"""The filters of the list of runs, as the URL has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from urllib.parse import urlencode

from tasks.rules.exceptions import InvalidParams

SPANS: Final[Mapping[str, tuple[str, timedelta, timedelta]]] = {
    "1": ("24 hours", timedelta(days=1), timedelta(hours=1)),
    "7": ("7 days", timedelta(days=7), timedelta(hours=6)),
    "30": ("30 days", timedelta(days=30), timedelta(days=1)),
    "90": ("90 days", timedelta(days=90), timedelta(days=3)),
}
"""The choices of the page: what it says, how long that is, and how long one bar of the chart stands for."""
NAMES: Final = ("days", "status", "flow", "task", "user", "tag", "q", "cursor")
STATUSES: Final = ("completed", "failed", "cancelled", "in_progress", "pending")
"""The statuses from the bottom of a bar to its top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The filters in the URL. An empty one does not filter."""

    span: str = "7"
    status: str = ""
    flow: str = ""
    task_id: str = ""
    tag: str = ""
    text: str = ""
    owner: str = ""
    cursor: str = ""

    def query(self, **changes: str) -> str:
        """Return the URL query for these filters with `changes` applied."""
        values = {"days": self.span, "status": self.status, "flow": self.flow, "task": self.task_id, "user": self.owner}
        values |= {"tag": self.tag, "q": self.text}
        return urlencode({name: value for name, value in (values | changes).items() if value})


def read(query: Mapping[str, str]) -> Filters:
    """Read the filters. Raises InvalidParams for an unknown time or status."""
    given = {name: query.get(name, "").strip() for name in NAMES}
    problems = []
    if given["days"] and given["days"] not in SPANS:
        problems.append(("days", f"must be one of {', '.join(SPANS)}"))
    if given["status"] and given["status"] not in STATUSES:
        problems.append(("status", f"must be one of {', '.join(STATUSES)}"))
    if problems:
        raise InvalidParams(problems)
    return Filters(
        span=given["days"] or "7",
        status=given["status"],
        flow=given["flow"],
        task_id=given["task"],
        owner=given["user"],
        tag=given["tag"],
        text=given["q"],
        cursor=given["cursor"],
    )
