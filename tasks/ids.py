"""Identifiers that sort by the time they were made, and how messages name what has one."""

import os
import re
import time
from typing import Final

STARTS_LIKE_OURS: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""A UUID, and the ids of the parts of a task that has one."""


def new_id() -> str:
    """Return a UUID of version 7 (RFC 9562, section 5.7) as text: 48 bits of milliseconds, then random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def named(task_id: str, name: str) -> str:
    """Return a task in a message, in quotes: its id or, where this is a UUID, its name."""
    return f"'{name}'" if STARTS_LIKE_OURS.match(task_id) else f"'{task_id}'"
