"""The data of a tree's page for its scripts, in compact form: tasks refer to each other by index."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final

from tasks.dashboard.boxes import LOOP, SPAWNER, Box, Boxes, Folds
from tasks.dashboard.looks import Shown
from tasks.executors.workflows import STEP
from tasks.models import Run
from tasks.rules.strict_json import Json
from tasks.status import Status

NO_TASK: Final = -1


def graph_of(
    tasks: Sequence[Shown],
    boxes: Boxes,
    folds: Folds,
    run: Run | None,
    now: datetime,
    *,
    part: tuple[Sequence[Shown], Sequence[Shown]] | None = None,
    looks: Mapping[str, str],
    arguments: Mapping[str, str],
) -> Json:
    """Return the tasks that are drawn, and behind them those that a closed box stands for, or that are not drawn.

    `needs`: required dependencies, `likes`: optional ones, `after`: other tasks before it, in boxes. Empty lists are
    left out, as is the progress of tasks that do not run.
    A task that is not drawn has its box, or -1, as `at`. An added one has the task that added it as `of`, and its part as `part`.

    For a large tree, `part` are the tasks near the selected one, which are drawn, and the others that the timeline lists. The
    scripts know no more of it, so these also have their looks as `shown` if that is not their status, and boxes their `sum`.
    """
    drawn, others = part or in_order(tasks, boxes)
    number = {task.id: n for n, task in enumerate([*drawn, *others])}
    drawn_number = {task.id: n for n, task in enumerate(drawn)}
    needs, likes, after = _edges([task for task in tasks if boxes.place[task.id] in drawn_number], boxes)
    rows = []
    for task in drawn:
        row = _basics(task) | {
            "executor": shown_executor(task, arguments),
            "parent": drawn_number.get(task.parent_id or ""),
        }
        for name, edges in (("needs", needs), ("likes", likes), ("after", after)):
            if found := [number[each] for each in edges.get(task.id, ()) if each in drawn_number]:
                row[name] = found
        row |= _of_large(task, boxes, looks) if part else _membership(task, boxes, number) | _box(task, boxes)
        rows.append(row)
    for task in others:
        if part:
            rows.append(
                _basics(task)
                | {"executor": shown_executor(task, arguments), "parent": 0}
                | _of_large(task, boxes, looks)
            )
            continue
        place = boxes.place[task.id]
        at = NO_TASK if place is None else number[place]
        rows.append(
            _basics(task) | {"executor": shown_executor(task, arguments), "at": at} | _membership(task, boxes, number)
        )
    return {
        "run_status": run.status if run else None,
        "is_running": run is not None and run.finished_at is None,
        "created_ms": round(run.created_at.timestamp() * 1000) if run else None,
        "now_ms": round(now.timestamp() * 1000),
        "seq": run.last_seq if run else 0,
        "opened": sorted(folds.opened),
        "closed": sorted(folds.closed),
        "drawn": len(drawn),
        "tasks": rows,
    }


def in_order(tasks: Sequence[Shown], boxes: Boxes) -> tuple[list[Shown], list[Shown]]:
    """Return the tasks that are drawn, and the others."""
    drawn = [task for task in tasks if boxes.place[task.id] == task.id]
    return drawn, [task for task in tasks if boxes.place[task.id] != task.id]


def shown_executor(task: Shown, arguments: Mapping[str, str]) -> str | None:
    """Return the executor of a task as drawings name it; of the step of a workflow, its arguments."""
    return arguments.get(task.id) or "step" if task.executor_id == STEP else task.executor_id


def _basics(task: Shown) -> Json:
    found: Json = {"id": task.id, "name": task.name, "status": task.shown_status}
    if "may_fail" in vars(task):
        found["may_fail"] = True
    return found | {"progress": task.progress} if task.status == Status.IN_PROGRESS else found


def _membership(task: Shown, boxes: Boxes, number: dict[str, int]) -> Json:
    found: Json = {"is_template": True} if task.id in boxes.templates else {}
    if task.id in boxes.part_of:
        box, part = boxes.part_of[task.id]
        found |= {"of": number[box.task.id], "part": part}
    return found


def _box(task: Shown, boxes: Boxes) -> Json:
    box = boxes.by_id.get(task.id)
    if box is None:
        return {}
    return {"box": {"kind": box.kind, "most": box.most, "count": len(box.parts), "is_open": box.is_open}}


def _of_large(task: Shown, boxes: Boxes, looks: Mapping[str, str]) -> Json:
    found: Json = {"is_template": True} if task.id in boxes.templates else {}
    if looks[task.id] != task.shown_status:
        found["shown"] = looks[task.id]
    if box := boxes.by_id.get(task.id):
        counts = Counter(box.statuses)
        shown = {"text": box.summary, "failed": box.failed_count, "counts": counts, "count": counts.total()}
        found["box"] = _box(task, boxes)["box"] | {"sum": shown}
    return found


Edges = defaultdict[str, dict[str, None]]
"""Task id → ids, in order and without repetition."""


def _edges(tasks: Sequence[Shown], boxes: Boxes) -> tuple[Edges, Edges, Edges]:
    """Return the edges between places: a closed box has those of all its parts."""
    needs, likes, after = Edges(dict), Edges(dict), Edges(dict)
    for task in tasks:
        here = boxes.place[task.id]
        for item in task.dependencies if here else ():
            _join(needs if item["required"] else likes, boxes, here, item["id"])
    for box in boxes.by_id.values():
        if box.is_open and boxes.place[box.task.id] == box.task.id:
            for task, earlier_id in _sequence(box):
                _join(after, boxes, task.id, earlier_id)
    return needs, likes, after


def _join(edges: Edges, boxes: Boxes, here: str | None, other: str) -> None:
    there = boxes.place[other]
    if here is not None and there is not None and there != here:
        edges[here][there] = None


def _sequence(box: Box) -> Iterator[tuple[Shown, str]]:
    """Yield what an open box adds to the order: its parts come after what it needs, or one after the other.

    The tasks of a spawner come after it.
    """
    parts = [box.parts[number] for number in sorted(box.shown)]
    needed = [box.task.id] if box.kind == SPAWNER else [item["id"] for item in box.task.dependencies]
    for part in parts[:1] if box.kind == LOOP else parts:
        yield from ((first, other) for first in _firsts(part) for other in needed)
    for earlier, later in pairwise(parts) if box.kind == LOOP else ():
        ids = {task.id for task in earlier}
        needed = [item["id"] for task in earlier for item in task.dependencies]
        lasts = [task for task in earlier if task.id not in needed and task.parent_id not in ids]
        yield from ((first, last.id) for first in _firsts(later) for last in lasts)


def _firsts(part: Sequence[Shown]) -> list[Shown]:
    """Return the tasks of a round that no other one of it comes before."""
    ids = {task.id for task in part}
    parents = {task.parent_id for task in part}
    return [
        task for task in part if task.id not in parents and not any(item["id"] in ids for item in task.dependencies)
    ]
