"""The display of costs."""

from decimal import Decimal
from typing import Final

CENT: Final = 0.01


def price(usd: float) -> str:
    """Return a cost in US dollars with four decimals; of less than a cent, its first two digits; of what is free, `$0`."""
    if usd < CENT:
        return f"${Decimal(f'{usd:.2g}'):f}"
    return f"${usd:,.4f}"
