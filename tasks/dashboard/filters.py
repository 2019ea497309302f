"""The filters of the list of trees, as the URL has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from tasks.rules.exceptions import InvalidParams
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
    given = {name: query.get(name, "").strip() for name in ("q", "status", "executor", "owner", "order", "cursor")}
    problems = []
    if given["status"] and given["status"] not in list(Status):
        problems.append(("status", f"must be one of {', '.join(Status)}"))
    if given["order"] and given["order"] not in ORDERS:
        problems.append(("order", f"must be one of {', '.join(ORDERS)}"))
    if problems:
        raise InvalidParams(problems)
    return Filters(
        text=given["q"],
        status=given["status"],
        executor=given["executor"],
        owner=given["owner"],
        order=given["order"] or "-created_at",
        cursor=given["cursor"],
    )
