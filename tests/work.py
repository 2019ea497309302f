"""How much work something is, in figures that do not depend on how busy the machine is."""

import gc
import sys
import time
from collections.abc import Callable
from itertools import count
from typing import Any, Final

TRIES: Final = 5


def calls_of(action: Callable[[], Any]) -> int:
    """How many functions the action calls, in Python and in C."""
    numbers = count()
    before = sys.getprofile()
    gc.disable()  # others are called at each collection
    sys.setprofile(lambda _frame, event, _argument: next(numbers) if "call" in event else None)
    try:
        action()
    finally:
        sys.setprofile(before)
        gc.enable()
    return next(numbers)


def cpu_seconds_of(action: Callable[[], Any]) -> float:
    """The time on a processor that the quickest of a few tries takes: for comparing a size with a multiple of it."""
    found = []
    for _ in range(TRIES):
        started = time.thread_time()
        action()
        found.append(time.thread_time() - started)
    return min(found)
