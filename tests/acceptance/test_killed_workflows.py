"""Workers are killed while workflows run. What happened is counted where it happened."""

import random
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.rules.interrupts import INTERRUPTED
from tests.acceptance.test_killed_calls import kill_workers
from tests.effect_functions import SINK
from tests.faults.judge import completed_twice
from tests.kill_workflows import expected
from tests.servers import Server, running_server, until

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.timeout(600)]


@contextmanager
def server_with(sink: Path, database: str) -> Iterator[Server]:
    env = {"AIPARTNERUPFLOW_EXECUTORS_MODULES": "tests.kill_workflows", SINK: str(sink)}
    with running_server(database, env=env) as server:
        yield server


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How often what must not happen happened; `interrupted` are payments of which it is not known whether they were made."""

    twice: int
    lost: int
    other_results: int
    interrupted: int
    steps: int


def start(server: Server, name: str) -> None:
    task = {"id": name, "name": name, "schemas": {"method": "workflow:pipeline"}, "inputs": {"name": name}}
    server.rpc("tasks.execute", {"tasks": task})


def attend(server: Server) -> None:
    """Answer what is asked, and send the events that are waited for."""
    waits = server.query(
        "SELECT q.task_id, q.kind, r.root_id FROM tasks_question q JOIN tasks_run r ON r.id = q.run_id "
        "WHERE q.closed_at IS NULL AND q.answered_at IS NULL"
    )
    for task_id, kind, name in waits:
        if kind == "question":
            server.rpc("tasks.answer", {"task_id": task_id, "answer": "yes"})
        elif kind == "event":
            server.rpc("events.send", {"event": "paid", "payload": {"name": name}, "id": name})


def run_with_kills(server: Server, sink: Path, *, kills: int, workflows: int) -> Verdict:
    """Start so many workflows before each kill, which comes when some of their steps have acted."""
    draw = random.Random(1)
    names = list[str]()
    for number in range(kills):
        wanted = len(_lines(sink)) + draw.randrange(2, 16 * workflows)
        names += [f"{number}-{each}" for each in range(workflows)]
        for name in names[-workflows:]:
            start(server, name)
        _attended(server, lambda: len(_lines(sink)) >= wanted, what="effects")  # noqa: B023
        kill_workers(server)
    _attended(server, lambda: False, what="the end of every run")
    return judged(server, sink, names)


def _lines(sink: Path) -> list[str]:
    return sink.read_text().splitlines() if sink.exists() else []


def _attended(server: Server, is_enough: Callable[[], bool], *, what: str) -> None:
    """Do what people do until it is enough, or all runs are over."""

    def look() -> bool:
        attend(server)
        return is_enough() or not server.query("SELECT id FROM tasks_run WHERE finished_at IS NULL")

    until(look, seconds=240, what=what, pause_seconds=0.05)


def judged(server: Server, sink: Path, names: Collection[str]) -> Verdict:
    """Judge all runs, which are over."""
    lines = _lines(sink)
    steps = server.query("SELECT id, name, status, error FROM tasks_task WHERE executor_id = 'step_executor'")
    unsafe = {task_id for task_id, name, *_ in steps if name == "pay"}
    interrupted = {task_id for task_id, _, _, error in steps if INTERRUPTED in (error or "")}
    acted = {task_id for task_id, name, status, _ in steps if name != "hang" and task_id not in interrupted}
    ends = {"look_up": "completed", "refuse": "failed", "hang": "cancelled", "pay": "completed"}
    wrong = [step for step in steps if step[0] not in interrupted and step[2] != ends[step[1]]]
    assert (wrong, interrupted - unsafe) == ([], set())
    results = {name: server.rpc("tasks.get", {"task_id": name})["result"] for name in names}
    return Verdict(
        twice=completed_twice(server) + sum(lines.count(task_id) > 1 for task_id in unsafe),
        lost=len(acted - set(lines)),
        other_results=sum(result != expected(name) for name, result in results.items()),
        interrupted=len(interrupted),
        steps=len(steps),
    )


def test_no_step_that_has_ended_runs_again_and_none_is_lost(database: str, tmp_path: Path) -> None:
    sink = tmp_path / "sink"
    with server_with(sink, database) as server:
        verdict = run_with_kills(server, sink, kills=3, workflows=2)
    assert (verdict.twice, verdict.lost, verdict.other_results) == (0, 0, 0), verdict
