"""The rows of the timeline as HTML, without a template: templates are eight times slower, and a page may have 1,000 rows."""

from collections.abc import Mapping
from html import escape
from typing import Final

from django.utils.safestring import SafeString, mark_safe

from tasks.dashboard.graph import shown_executor
from tasks.dashboard.picture import DEEPEST, Line, Picture
from tasks.dashboard.words import duration, path_of, word

#: Rows of a part: browsers lay out only the parts that are in view. A table alone they lay out always
#: (`content-visibility` needs size containment, which tables cannot have), so each is in a block of its own.
ROWS: Final = 50
HEAD: Final = (
    '<colgroup><col class="name"><col class="num"><col></colgroup><thead class="visually-hidden"><tr><th scope="col">Task</th><th scope="col">Duration</th>'
    '<th scope="col">Timeline</th></tr></thead>'
)


def lines_of(picture: Picture, *, selected_id: str) -> SafeString:
    """Render tables with a row for each task. User-supplied text is escaped."""
    rows = []
    for number, line in enumerate(picture.lines, start=picture.first + 2):  # the heading is the first row
        place = f' aria-rowindex="{number}"' if picture.is_large else ""
        rows.append(_row(line, picture.span_ms, place, picture.arguments, is_selected=line.task.id == selected_id))
    tables = []
    of_all = f' aria-rowcount="{picture.total + 1}"' if picture.is_large else ""
    for start in range(0, len(rows), ROWS):
        part, first = rows[start : start + ROWS], picture.first + start
        caption = f"Tasks {first + 1:,} to {first + len(part):,}" + (f" of {picture.total:,}" if of_all else "")
        tables.append(
            f'<div class="part"><table{of_all}><caption class="visually-hidden">{caption}</caption>{HEAD}<tbody>\n'
            f"{''.join(part)}</tbody></table></div>\n"
        )
    return mark_safe("".join(tables))  # noqa: S308  (`_row` escapes)


def _row(line: Line, span_ms: int, place: str, arguments: Mapping[str, str], *, is_selected: bool) -> str:
    task = line.task
    chosen, current = (" selected", ' aria-current="true"') if is_selected else ("", "")
    whole = " whole" if task.is_root or (task.executor_id is None and line.box is None) else ""
    spent = '<span title="Result of an earlier run">reused</span>' if line.is_kept else duration(line.seconds)
    needs = f'<span class="because">needs {escape(line.needs)}</span>' if line.needs and not line.bars else ""
    bars = "".join(
        f'<rect class="{bar.kind}{" open" if bar.is_open else ""}" x="{bar.start}" width="{bar.width}" height="1"/>'
        for bar in line.bars
    )
    return (
        f'<tr class="{line.look}{whole} depth-{line.depth}{chosen}" data-n="{line.number}"{place}><td>{_toggle(line)}'
        f'<svg class="i status-icon" role="img" aria-label="{word(line.look)}"><use href="#i-{line.look}"></use></svg>'
        f'<a href="{escape(path_of(task.id))}{"?root" if task.is_root else ""}"{current}>{escape(task.name)}</a>{_marks(line, arguments)}</td>'
        f'<td class="num">{spent}</td><td class="bars">{needs}<svg viewBox="0 0 {span_ms} 1" preserveAspectRatio="none" '
        f'aria-hidden="true">{bars}</svg></td></tr>\n{_rest(line)}'
    )


def _marks(line: Line, arguments: Mapping[str, str]) -> str:
    """Return the text after the name: the state of a box, attempts, the executor."""
    task, box = line.task, line.box
    executor_id = shown_executor(task, arguments) if task.executor_id != task.name else None
    failed = f"{box.failed_count:,} failed" if box and box.failed_count else ""
    return "".join(
        [
            f'<span class="sum">{box.summary}</span><span class="sum bad">{failed}</span>' if box else "",
            '<span class="tag">template</span>' if line.is_template else "",
            f'<span class="by" title="{task.attempt} attempts">×{task.attempt}</span>' if task.attempt > 1 else "",
            f'<span class="by">{escape(executor_id)}</span>' if executor_id else "",
        ]
    )


def _toggle(line: Line) -> str:
    """Return a button that opens or closes the box, with scripts or without."""
    if line.box is None or not line.box.parts:
        return ""
    verb = "shut" if line.box.is_open else "open"
    name = escape(line.task.name)
    return (
        f'<button class="fold" form="folds" name="{verb}" value="{escape(line.task.id)}" data-fold="{escape(line.task.id)}" '
        f'aria-expanded="{"true" if line.box.is_open else "false"}" aria-label="Parts of {name}">'
        '<svg class="i" aria-hidden="true"><use href="#i-chevron"></use></svg></button>'
    )


def _rest(line: Line) -> str:
    """Return a row that says how many parts of an open box are not shown."""
    left_out = line.box.left_out if line.box else 0
    if not left_out or line.box is None:
        return ""
    depth = min(line.depth + 1, DEEPEST)
    return (
        f'<tr class="rest depth-{depth}"><td colspan="3">{len(line.box.shown):,} of {len(line.box.parts):,} are shown, '
        "failed and running ones first.</td></tr>\n"
    )
