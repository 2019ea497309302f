"""Which tasks a small terminal shows of a large tree."""

import pytest

from aipartnerupflow.cli.live import Row, most_interesting

STATUSES = ["in_progress", "completed", "pending", "failed", "in_progress", "cancelled", "pending", "completed"]
ROWS = [Row(name=str(place), guides="", status=status, progress=0) for place, status in enumerate(STATUSES)]


@pytest.mark.parametrize(
    ("limit", "shown"),
    [
        (-1, "0"),
        (1, "0"),
        (2, "04"),
        (3, "034"),
        (4, "0345"),
        (5, "02345"),
        (6, "023456"),
        (7, "0123456"),
        (8, "01234567"),
        (50, "01234567"),
    ],
)
def test_what_runs_and_what_failed_comes_first_in_the_order_of_the_tree(limit: int, shown: str) -> None:
    assert "".join(row.name for row in most_interesting(ROWS, limit)) == shown
