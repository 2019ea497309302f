"""The headers in which providers say what is left of their limits: those of OpenAI, which many use, and those of Anthropic."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from tasks.rules.limits import REQUESTS, TOKENS, Report

PREFIXES: Final = ("x-ratelimit-", "anthropic-ratelimit-")
MEASURES: Final = (("requests", REQUESTS), ("tokens", TOKENS))
DURATION: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
UNITS: Final = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)


def rate_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return those of the headers that say what is left."""
    return {name.lower(): value for name, value in headers.items() if name.lower().startswith(PREFIXES)}


def reports_in(headers: Mapping[str, str], *, now: datetime | None = None) -> Sequence[Report]:
    """Return what is left by measure. A provider refills steadily: without any, there is one more after the part of `reset` that one takes."""
    reports = []
    for name, measure in MEASURES:
        openai = (f"x-ratelimit-{part}-{name}" for part in ("limit", "remaining", "reset"))
        anthropic = (f"anthropic-ratelimit-{name}-{part}" for part in ("limit", "remaining", "reset"))
        for limit, remaining, reset in (map(headers.get, openai), map(headers.get, anthropic)):
            left, most, seconds = _number(remaining), _number(limit), _seconds(reset, now or datetime.now(UTC))
            if left is not None:
                reports.append(Report(measure, left, (seconds or 0.0) / max(1, (most or 0) - left)))
    return reports


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) <= 12 else None


def _seconds(text: str | None, now: datetime) -> float | None:
    """Return the seconds of `6m0s`, `120ms`, `1.5`, or until a time of RFC 3339; None if it is neither."""
    if text is None or len(text) > 64:
        return None
    if (found := DURATION.fullmatch(text)) and text:
        return sum(float(part) * unit for part, unit in zip(found.groups(), UNITS, strict=True) if part)
    try:
        return (
            float(text)
            if text.replace(".", "", 1).isdecimal()
            else (datetime.fromisoformat(text) - now).total_seconds()
        )
    except (ValueError, TypeError):
        return None
