"""The display of costs."""

from decimal import Decimal
from typing import Final

CENT: Final = 0.01


def price(usd: float) -> str:
    """Return a cost in US dollars with four decimals; of less than a cent, its first two digits."""
    return f"${Decimal(f'{usd:.2g}'):f}" if 0 < usd < CENT else f"${usd:,.4f}"
