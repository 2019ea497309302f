"""What must be true of a server's rows after anything that may have happened to it."""

from collections import Counter
from collections.abc import Collection
from typing import Any, Final, Protocol

from tests.acceptance.effects import Effects
from tests.servers import Server, until

REST_SECONDS = 240.0
WRONGLY_COUNTED: Final = """
    SELECT user_id, is_root, status, sum(number) FROM (
        SELECT user_id, parent_id IS NULL AS is_root, status, count(*) AS number FROM tasks_task GROUP BY 1, 2, 3
        UNION ALL
        SELECT user_id, is_root, status, -tasks FROM tasks_counted
    ) AS numbers GROUP BY 1, 2, 3 HAVING sum(number) <> 0
"""
"""One statement, so that it sees tasks and counts at the same moment."""


class Queried(Protocol):
    """A server, or several of them, whose database can be read."""

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]: ...


def restless(server: Queried) -> list[tuple[str, ...]]:
    """The runs that neither are over nor wait for an answer."""
    return server.query(
        "SELECT id, root_id, status, lease_owner FROM tasks_run WHERE finished_at IS NULL AND NOT EXISTS "
        "(SELECT 1 FROM tasks_question q WHERE q.run_id = tasks_run.id AND q.closed_at IS NULL AND q.answered_at IS NULL)"
    )


def await_rest(server: Queried) -> None:
    until(lambda: not restless(server), seconds=REST_SECONDS, what="the end of every run that waits for nobody")


def assert_sound(server: Queried) -> None:
    """Each run that is over ended once, with no gap in its events and no task of it left at work; the numbers add up."""
    finals = server.query("SELECT count(*) FROM tasks_taskevent WHERE type = 'final' GROUP BY run_id")
    assert set(finals) <= {(1,)}
    assert server.query("SELECT run_id FROM tasks_taskevent GROUP BY run_id HAVING max(seq) <> count(*)") == []
    at_work = server.query(
        "SELECT id FROM tasks_task WHERE status = 'in_progress' AND NOT EXISTS "
        "(SELECT 1 FROM tasks_run r WHERE r.root_id = tasks_task.root_id AND r.finished_at IS NULL)"
    )
    assert at_work == []
    assert server.query(WRONGLY_COUNTED) == []


def assert_nothing_broke(server: Server) -> None:
    """As far as the log tells."""
    log = server.log.read_text()
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]


def ends(server: Queried) -> Counter[int]:
    """How many tasks completed so many times. All runs have to be first ones."""
    rows = server.query("SELECT count(*) FROM tasks_taskevent WHERE type = 'task_completed' GROUP BY task_id")
    return Counter(count for (count,) in rows)


def lost(server: Queried, accepted: Collection[str]) -> int:
    """How many of these trees did not complete."""
    completed = {root for (root,) in server.query("SELECT root_id FROM tasks_run WHERE status = 'completed'")}
    return len(set(accepted) - completed)


def completed_twice(server: Queried) -> int:
    """How many tasks completed more than once. All runs have to be first ones."""
    return sum(count for times, count in ends(server).items() if times > 1)


def begun_again(effects: Effects) -> int:
    """How many more times steps were begun than there are steps."""
    return sum(count - 1 for count in effects.counts("start").values())


def counted(server: Queried, column: str) -> dict[str, int]:
    """How many runs have which value there."""
    return dict(server.query(f"SELECT {column}, count(*) FROM tasks_run GROUP BY {column}"))


def tell(text: str) -> None:
    """What was measured: `make nightly` shows it."""
    print(text)  # noqa: T201
