"""The form of a schedule: from a stored one, and back to the fields that the service takes."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from tasks.dashboard.json_text import written
from tasks.dashboard.schema_form import read_json
from tasks.models import Schedule
from tasks.rules.firings import CatchUp, Overlap
from tasks.rules.tags import tags_in

Texts = Mapping[str, str]

CHOICES: Final[dict[str, dict[str, str]]] = {
    "subject": {"tasks": "A tree that is written here", "task_id": "Copies of a stored tree", "flow": "A flow"},
    "kind": {"cron": "By a cron expression", "every_seconds": "Every so many seconds", "at": "Once"},
    "overlap": {
        "skip": "Skip this time",
        "queue": "Run it afterwards",
        "cancel_previous": "Cancel the earlier run",
        "allow": "Run both",
    },
    "catch_up": {"none": "Skip them", "last": "Run the last one", "all": "Run all, the oldest first"},
}
#: Field → the least and the greatest number, and whether it may be empty.
NUMBERS: Final = {
    "flow_version": (1, 2**31 - 1, True),
    "every_seconds": (1, 2**31 - 1, False),
    "max_runs": (1, 2**31 - 1, True),
    "catch_up_window_seconds": (0, 366 * 86_400, False),
    "jitter_seconds": (0, 86_400, False),
    "pause_after_failures": (1, 2**31 - 1, True),
}
MOMENTS: Final = ("at", "starts_at", "ends_at")
LENGTHS: Final = {"name": 255, "cron": 255, "timezone": 64, "task_id": 255, "flow": 100}
EXAMPLE: Final = [{"id": "hello", "name": "echo_executor", "inputs": {"text": "Good morning"}}]
EMPTY: Final[dict[str, str]] = {
    "name": "",
    "subject": "tasks",
    "tasks": written(EXAMPLE),
    "task_id": "",
    "flow": "",
    "flow_version": "",
    "inputs": "",
    "tags": "",
    "kind": "cron",
    "cron": "0 6 * * 1-5",
    "every_seconds": "3600",
    "at": "",
    "timezone": "UTC",
    "starts_at": "",
    "ends_at": "",
    "max_runs": "",
    "overlap": Overlap.SKIP.value,
    "catch_up": CatchUp.NONE.value,
    "catch_up_window_seconds": "3600",
    "jitter_seconds": "0",
    "pause_after_failures": "",
}


def filled(schedule: Schedule) -> dict[str, str]:
    """Return the texts of the form for a stored schedule."""
    subject = next(name for name in CHOICES["subject"] if getattr(schedule, name) is not None)
    kind = next(name for name in CHOICES["kind"] if getattr(schedule, name) is not None)
    zone = ZoneInfo(schedule.timezone)
    form = {name: _text(getattr(schedule, name), zone) for name in EMPTY.keys() - {"subject", "kind", "tags"}}
    return form | {"subject": subject, "kind": kind, "tags": " ".join(schedule.tags or ())}


def read(texts: Texts, *, only_timing: bool = False) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the fields of the schedule in the form, and the problems by field."""
    fields: dict[str, Any] = {}
    problems: dict[str, str] = {}
    kind = _choice("kind", texts)
    names = [kind, "timezone", "starts_at", "ends_at"]
    if not only_timing:
        subject = _choice("subject", texts)
        names += ["name", subject, "inputs", "tags", "overlap", "catch_up", "max_runs", "pause_after_failures"]
        names += ["catch_up_window_seconds", "jitter_seconds", *(["flow_version"] if subject == "flow" else [])]
    for name in names:
        try:
            value = _value(name, texts.get(name, "").strip())
        except ValueError as error:
            problems[name] = str(error)
        else:
            if value is not None or name not in ("name", "timezone"):
                fields[name] = value
    if kind == "every_seconds" and not fields.get("starts_at"):
        fields.pop("starts_at", None)  # that of the schedule: intervals count from it
    return fields, problems


def _choice(name: str, texts: Texts) -> str:
    given = texts.get(name, "")
    return given if given in CHOICES[name] else next(iter(CHOICES[name]))


def _value(name: str, text: str) -> Any:
    """Raise ValueError."""
    if name in NUMBERS:
        return _number(text, *NUMBERS[name])
    if name in CHOICES:
        return text if text in CHOICES[name] else next(iter(CHOICES[name]))
    if name in ("tasks", "inputs"):
        if not text and name == "inputs":
            return None
        value = read_json(text)
        if name == "inputs" and not isinstance(value, dict):
            raise ValueError("must be a JSON object")
        return value
    if name == "tags":
        return tags_in(text)
    if len(text) > LENGTHS.get(name, 64):
        raise ValueError(f"has more than {LENGTHS.get(name, 64)} characters")
    if not text and name in ("cron", "at", "task_id", "flow"):
        raise ValueError("required")
    return text or None


def _number(text: str, least: int, most: int, may_be_empty: bool) -> int | None:
    if not text and may_be_empty:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and least <= int(text) <= most):
        raise ValueError(f"must be a whole number from {least:,} to {most:,}")
    return int(text)


def _text(value: Any, zone: ZoneInfo) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S").removesuffix(":00")
    return value if isinstance(value, str) else written(value) if isinstance(value, list | dict) else str(value)
