"""Filters and tags of the dashboard's templates: times, durations, JSON, the grid of a flow."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from django import template
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

from aipartnerupflow.costs import price
from tasks.dashboard.conversation import facts, who
from tasks.dashboard.json_text import MAX_CHARACTERS, beginning, on_one_line, pretty
from tasks.dashboard.lines import lines_of
from tasks.dashboard.picture import Picture
from tasks.dashboard.words import DAY, HOUR, MINUTE, brief_counts, counts, duration, path_of, word
from tasks.rules.exhibits import exhibits_of
from tasks.rules.schedules import and_last
from tasks.services.flows.flow_grid import Cell, Line

register = template.Library()
register.filter(and_last)
register.filter(counts)
register.filter(brief_counts)
register.filter(duration)
register.filter(path_of)
register.filter(pretty)
register.filter(word)
register.filter(who)
register.filter("call_facts", facts)
register.filter("exhibits", exhibits_of)

PANEL_LINE: Final = 46
UNITS: Final = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
EMPTY_CELL: Final = "<td></td>"


@register.filter
def milliseconds(number: int) -> str:
    """Format a duration in milliseconds."""
    return duration(number / 1000)


@register.filter
def thousands(number: int) -> str:
    """Format a number with commas."""
    return f"{number:,}"


@register.filter
def usd(cost: float | None) -> str:
    """Format a cost in US dollars; None is unknown."""
    return "unknown" if cost is None else price(cost)


@register.filter
def unlocalized(number: float) -> str:
    """Format a coordinate of a drawing."""
    return f"{number:.10f}".rstrip("0").rstrip(".")


@register.filter
def percent(fraction: float) -> str:
    """Format 0.25 as 25 %."""
    return f"{round(fraction * 100)} %"


@register.filter
def ago(moment: datetime | None) -> SafeString | str:
    """Format a relative time, with the exact time as a tooltip."""
    if moment is None:
        return ""
    moment = moment.astimezone(UTC)
    exact = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    return format_html('<time datetime="{}" title="{}">{}</time>', moment.isoformat(), exact, _ago(moment))


def _ago(moment: datetime) -> str:
    age = datetime.now(UTC) - moment
    if age < timedelta(seconds=5):
        return "just now"
    if age < timedelta(days=30):
        seconds = int(age.total_seconds())
        for size, unit in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (1, "s")):
            if seconds >= size:
                return f"{seconds // size} {unit} ago"
    return f"{moment:%-d %b %Y}"


@register.inclusion_tag("dashboard/value.html")
def value(value: Any, kind: str, task_id: str, label: str) -> dict[str, Any]:
    """Render a value of a task, with links to all of it. `kind` is one of `values.KINDS`."""
    text = beginning(value, PANEL_LINE)
    is_cut = len(text) > MAX_CHARACTERS
    return {
        "text": f"{text[:MAX_CHARACTERS]}…" if is_cut else text,
        "is_cut": is_cut,
        "is_whole": not is_cut and not isinstance(value, str),
        "src": f"/ui/value/{kind}/{quote(task_id, safe='')}",
        "label": label,
    }


@register.filter
def size(count: int) -> str:
    """Format a number of bytes, such as `1.2 MiB`."""
    unit = next((unit for unit in UNITS if count >= unit[0]), None)
    if unit is None:
        return f"{count:,} byte{'' if count == 1 else 's'}"
    return f"{count / unit[0]:,.1f}".removesuffix(".0") + f" {unit[1]}"


@register.filter
def by_label(text: str) -> str:
    """Format `Run.flow_label`: the label, and the one whose share of its callers the run is in."""
    label, _, taker = text.partition("/")
    return f"{label}, in the share of {taker}" if taker else label


@register.filter
def compact(value: Any) -> str:
    """Format JSON on one line."""
    return on_one_line(value)


@register.filter
def ticks(text: str) -> SafeString:
    """Render `names` in backticks as code."""
    parts = re.split("`([^`]+)`", text)
    pairs = [("<code>{}</code>" if number % 2 else "{}", part) for number, part in enumerate(parts)]
    return mark_safe("".join(format_html(pattern, part) for pattern, part in pairs))  # noqa: S308  (each part is escaped)


@register.filter
def schema_type(schema: Any) -> str:
    """Summarize the type of a JSON Schema."""
    if not isinstance(schema, dict):
        return "any"
    if "enum" in schema:
        return " | ".join(map(compact, schema["enum"]))
    kinds = schema.get("type", "any")
    if kinds == "array" and isinstance(schema.get("items"), dict):
        return f"list of {schema_type(schema['items'])}"
    return " or ".join(kinds) if isinstance(kinds, list) else str(kinds)


@register.simple_tag
def lines(picture: Picture, selected_id: str) -> SafeString:
    """Render the rows of the timeline."""
    return lines_of(picture, selected_id=selected_id)


@register.inclusion_tag("dashboard/status.html")
def status(value: str, *, only_icon: bool = False) -> dict[str, Any]:
    """Render a status as an icon and a word."""
    return {"status": value, "only_icon": only_icon}


@register.filter
def cells_of(line: Line) -> SafeString:
    """Return the cells of a row of a flow's grid, as HTML: a template takes ten times as long for six thousand of them.

    Each is a link to the task in a run that has it.
    """
    label = escape(line.label)
    return mark_safe("".join(_cell(cell, label) if cell else EMPTY_CELL for cell in line.cells))  # noqa: S308  (each part is escaped)


def _cell(cell: Cell, label: str) -> str:
    status, seconds = word(cell.status), duration(cell.seconds)
    said = f"{status} in {seconds}" if seconds else status
    return (
        f'<td><a class="square {escape(cell.status)}" href="{escape(path_of(cell.task_id))}" title="{label}: {said}">'
        f'<span class="visually-hidden">{said}</span></a></td>'
    )
