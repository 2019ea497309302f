"""How costs are shown."""

import pytest

from aipartnerupflow.costs import price


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        (0.0, "$0"),
        (0.000000123, "$0.00000012"),
        (0.000012, "$0.000012"),
        (0.00456, "$0.0046"),
        (0.0123456, "$0.0123"),
        (1234.5, "$1,234.5000"),
    ],
)
def test_a_small_cost_is_not_nothing(usd: float, shown: str) -> None:
    assert price(usd) == shown
