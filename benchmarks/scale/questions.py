"""What the benchmark asks a large database: the services behind tasks.list, tasks.count and the dashboard."""

import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, Final

from django.db import connection

from accounts.callers import LOCAL, Caller, Role
from apflow_site.db.connections import IS_SQLITE
from benchmarks.scale.rows import LARGE_OWNER, LARGE_TREES, NEEDLE, large_tree, root_id
from tasks.dashboard.filters import Filters
from tasks.dashboard.listing import list_trees
from tasks.dashboard.picture import picture_of
from tasks.events import pruning
from tasks.models import Run, Task
from tasks.services.trees import create_tree, queries
from tasks.services.upkeep import housekeeping
from tasks.status import Status

LARGE: Final = Caller(user_id=LARGE_OWNER, role=Role.OPERATOR)
SMALL: Final = Caller(user_id="owner7", role=Role.OPERATOR)
Question = Callable[[], Any]


def questions(roots: int) -> Mapping[str, Question]:
    """Each question by the name of its row in the table."""
    needle_id = root_id(roots // 100)
    return {
        **{
            f"tasks.list, {name}": partial(_list, caller)
            for name, caller in (("administrator", LOCAL), ("large owner", LARGE), ("small owner", SMALL))
        },
        "tasks.list, owner": lambda: _list(LOCAL, user_id="owner7"),
        "tasks.list, status failed": lambda: _list(LARGE, statuses=["failed"]),
        "tasks.list, status in_progress": lambda: _list(LARGE, statuses=["in_progress"]),
        "tasks.list, status in_progress, administrator": lambda: _list(LOCAL, statuses=["in_progress"]),
        "tasks.list, status pending or in_progress": lambda: _list(LARGE, statuses=["pending", "in_progress"]),
        "tasks.list, status completed or failed": lambda: _list(LARGE, statuses=["completed", "failed"]),
        "tasks.list, frequent name": lambda: _list(LARGE, name="Daily report 7"),
        "tasks.list, rare name": lambda: _list(LARGE, name=NEEDLE),
        "tasks.list, unknown name": lambda: _list(LOCAL, name="No such name"),
        "tasks.list, oldest first": lambda: _list(LARGE, order="created_at"),
        "tasks.list, page in the middle": lambda: _list(LARGE, cursor=_middle(roots)),
        "tasks.list, all levels": lambda: _list(LARGE, root_only=False),
        "tasks.list, all levels, administrator": lambda: _list(LOCAL, root_only=False),
        "tasks.list, all levels, small owner": lambda: _list(SMALL, root_only=False),
        "tasks.count, administrator": lambda: queries.count(caller=LOCAL),
        "tasks.count, large owner": lambda: queries.count(caller=LARGE),
        "tasks.count, small owner": lambda: queries.count(caller=SMALL),
        "tasks.count, roots of the large owner": lambda: queries.count(caller=LARGE, root_only=True),
        "dashboard": lambda: _page(LOCAL),
        "dashboard, large owner": lambda: _page(LARGE),
        "dashboard, search by ID": lambda: _page(LOCAL, text=needle_id),
        "dashboard, search by part of an ID": lambda: _page(LARGE, text=needle_id[:13]),
        "dashboard, search by name": lambda: _page(LARGE, text=NEEDLE),
        "dashboard, search by a frequent word": lambda: _page(LARGE, text="report"),
        "dashboard, search by part of a rare name": lambda: _page(LARGE, text="haystack"),
        "dashboard, status failed": lambda: _page(LOCAL, status="failed"),
        "dashboard, status in_progress": lambda: _page(LOCAL, status="in_progress"),
        "dashboard, executor": lambda: _page(LOCAL, executor="rest_executor"),
        "dashboard, executor without tasks": lambda: _page(LOCAL, executor="llm_executor"),
    }


def trees() -> Mapping[str, Question]:
    """What is asked about one large tree."""
    found = dict[str, Question]()
    for number in LARGE_TREES:
        root = large_tree(number)
        found[f"tasks.tree, {number:,} tasks"] = partial(queries.get_tree, caller=LOCAL, task_id=root, with_texts=True)
        found[f"dashboard, tree of {number:,} tasks"] = partial(picture_of, caller=LOCAL, task_id=root)
    return found


def prunings() -> dict[str, float]:
    """How long pruning takes, and how long a writer waits at most that creates a tree every 5 ms meanwhile."""
    waits, is_over = list[float](), threading.Event()

    def write() -> None:
        while not is_over.wait(0.005):
            begun = perf_counter()
            create_tree(caller=Caller(user_id="writer"), tasks=[{"name": "echo_executor"}])
            waits.append((perf_counter() - begun) * 1_000)
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    oldest = Run.objects.filter(number=1).order_by("finished_at")[:1].get()
    before = (oldest.finished_at or oldest.created_at) + timedelta(days=1)
    milliseconds = dict[str, float]()
    for name, prune in (
        ("pruning, of each tree", partial(housekeeping.prune, Status.COMPLETED, before=before)),
        ("pruning, of each 1,000 events", lambda: pruning.remove_batch(before, since=pruning.BEGINNING)[0] / 1_000),
    ):
        begun = perf_counter()
        removed = prune()
        milliseconds[name] = (perf_counter() - begun) * 1_000 / removed
    is_over.set()
    writer.join()
    return milliseconds | {"a writer meanwhile, at most": max(waits)}


def milliseconds(question: Question, *, times: int = 7, most_seconds: float = 3.0) -> float:
    """The median time of an answer, the first one left out; of fewer answers if they take long."""
    figures = list[float]()
    begun = perf_counter()
    while len(figures) <= times and perf_counter() - begun < most_seconds:
        start = perf_counter()
        question()
        figures.append((perf_counter() - start) * 1_000)
    return median(figures[1:] or figures)


def _list(caller: Caller, **filters: Any) -> Any:
    return queries.list_tasks(caller=caller, limit=20, **filters)


def _page(caller: Caller, **filters: Any) -> Any:
    return list_trees(caller=caller, filters=Filters(**filters))


def _middle(roots: int) -> str:
    return queries.cursor_of(Task.objects.get(id=root_id(roots // 2)))


def plans_of(question: Question) -> list[str]:
    """The database's plans for the queries of a question."""
    plans = list[str]()
    how = "EXPLAIN QUERY PLAN" if IS_SQLITE else "EXPLAIN"

    def explain(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith(("SELECT", "WITH")):
            execute(f"{how} {sql}", params, many, context)
            plans.append("\n".join(str(row[-1]) for row in context["cursor"].fetchall()))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        question()
    return plans
