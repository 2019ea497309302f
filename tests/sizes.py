"""How much a test does: on a push as much as shows the behaviour, at night (`TEST_SIZES=full`) as much as users may do."""

import os
from typing import Final

VARIABLE: Final = "TEST_SIZES"


def size(on_push: int, *, full: int) -> int:
    """Of a test with the marker `sized`."""
    return full if os.environ.get(VARIABLE) == "full" else on_push
