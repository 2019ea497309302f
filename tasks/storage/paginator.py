"""Pages of lists that may have millions of rows."""

from typing import Any, Final

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.utils.functional import cached_property

MAX_ROWS: Final = 10_000
"""Nobody turns pages beyond it, and the database would count and skip all rows before them: filters and the search lead there."""


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # of Django itself it takes no parameter
    """A paginator that counts no further than `MAX_ROWS`."""

    object_list: QuerySet[Any]
    template_name = "admin/pagination_bounded.html"

    @cached_property
    def count(self) -> int:
        return self.object_list.order_by()[:MAX_ROWS].count()

    @property
    def is_cut(self) -> bool:
        """There may be more rows than can be paged to."""
        return self.count >= MAX_ROWS
