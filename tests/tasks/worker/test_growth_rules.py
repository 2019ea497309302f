"""Maps, loops, spawned tasks and trees that run trees, by property: a tree becomes what a slow and obvious evaluation says, even if workers die.

`GROWTH_EXAMPLES` tries more.
"""

import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Model
from django.db.models.functions import Now
from django_q.models import OrmQ
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.callers import LOCAL
from tasks.models import Question, Run, Task, TaskEvent
from tasks.queue import leases
from tasks.services import trees
from tests.sizes import size
from tests.tasks.lives import Fuse, Stage
from tests.workers import Json, result_of

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True), pytest.mark.timeout(0)]
Drawn = tuple[Any, ...]
COMPLETED, FAILED, SKIPPED = "completed", "failed", "skipped"

LEAF = st.tuples(st.just("leaf"), st.sampled_from(["ok"] * 5 + ["fail", "flaky"]))
SPAWN = st.tuples(st.just("spawn"), st.lists(st.sampled_from(["ok"] * 5 + ["fail"]), max_size=3), st.booleans())
INNER = st.tuples(st.just("tree"), st.sampled_from(["ok", "ok", "fail"]))
ROUNDS = st.integers(1, 3)


def _larger(part: st.SearchStrategy[Drawn]) -> st.SearchStrategy[Drawn]:
    parts = st.lists(part, min_size=1, max_size=2)
    return st.one_of(
        st.tuples(st.just("map"), parts, st.integers(0, 3), st.booleans(), st.integers(1, 3)),
        st.tuples(st.just("loop"), parts, ROUNDS),
    )


PART = st.recursive(st.one_of(LEAF, SPAWN, INNER, st.tuples(st.just("poll"), ROUNDS)), _larger, max_leaves=4)
TREE = st.lists(PART, min_size=1, max_size=3)
DEATHS = st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.sampled_from(["killed", "drained"])), max_size=3)


@dataclass
class Said:
    """A drawn tree as a request, and how it ends: the status and the result of each task by its id."""

    beside: bool
    """Whether the parts of a list run beside each other; else each depends on the one before."""
    request: list[Json] = field(default_factory=list)
    status: dict[str, str] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    spawners: list[str] = field(default_factory=list)
    inner_trees: int = 0

    def write(self, parts: list[Drawn], parent: str, prefix: str) -> list[str]:
        ids = list[str]()
        for number, part in enumerate(parts):
            task_id = f"{prefix}{number}"
            needs = [] if self.beside else ids[-1:]
            self.request.append(
                {"id": task_id, "name": task_id, "parent_id": parent, "dependencies": needs, **_fields(part)}
            )
            if part[0] in ("map", "loop"):
                self.write(part[1], task_id, f"{task_id}-")
            ids.append(task_id)
        return ids

    def run(self, parts: list[Drawn], prefix: str, mark: str, *, spared: bool = False) -> list[str]:
        """Evaluate the parts of a list, as the copy with that mark."""
        ids = list[str]()
        for number, part in enumerate(parts):
            task_id = f"{prefix}{number}{mark}"
            if ids and not self.beside and self.status[ids[-1]] != COMPLETED:
                self._end(task_id, FAILED)
                self._set_aside(part, f"{prefix}{number}", mark)
            else:
                self._run_one(part, f"{prefix}{number}", mark, spared=spared)
            ids.append(task_id)
        return ids

    def _run_one(self, part: Drawn, name: str, mark: str, *, spared: bool) -> None:
        task_id = f"{name}{mark}"
        match part:
            case "leaf", script:
                self._end(task_id, FAILED if script == "fail" else COMPLETED, {"hint": f"{name}{_words(mark)}"})
            case "tree", script:
                self.inner_trees += 1
                self._end(task_id, FAILED if script == "fail" else COMPLETED, {"hint": "inner"})
            case "spawn", scripts, joins:
                self._spawn(task_id, scripts, joins)
            case "poll", most:
                for number in range(1, most + 1):
                    self._grow(task_id)
                    self._end(f"{task_id}#{number}", COMPLETED, {"n": number})
                self._end(task_id, COMPLETED, {"n": most})
            case "map", parts, size, collects, _:
                self._map(task_id, name, mark, parts, size, collects=collects)
            case "loop", parts, most:
                self._loop(task_id, name, mark, parts, most, spared=spared)

    def _spawn(self, task_id: str, scripts: list[str], joins: bool) -> None:
        if scripts:
            self._grow(task_id)
        for number, script in enumerate(scripts):
            self._end(f"{task_id}/{number}", FAILED if script == "fail" else COMPLETED, {"hint": f"s{number}"})
        if joins and scripts:
            results = {str(number): {"hint": f"s{number}"} for number in range(len(scripts))}
            self._end(task_id, FAILED if "fail" in scripts else COMPLETED, results)
        else:
            self._end(task_id, COMPLETED, {} if joins else "own")

    def _map(self, task_id: str, name: str, mark: str, parts: list[Drawn], size: int, *, collects: bool) -> None:
        self._set_aside(("map", parts), name, mark)
        found, is_failed = list[Any](), False
        if size:
            self._grow(task_id)
        for index in range(size):
            ids = self.run(parts, f"{name}-", f"{mark}[{index}]", spared=collects)
            is_failed = is_failed or any(self.status[each] == FAILED for each in ids)
            results = [self.result[each] if self.status[each] == COMPLETED else "error" for each in ids]
            found.append(results[0] if len(parts) == 1 else {f"{name}-{n}": each for n, each in enumerate(results)})
        self._end(task_id, FAILED if is_failed and not collects else COMPLETED, found)

    def _loop(self, task_id: str, name: str, mark: str, parts: list[Drawn], most: int, *, spared: bool) -> None:
        self._set_aside(("loop", parts), name, mark)
        for number in range(1, most + 1):
            self._grow(task_id)
            ids = self.run(parts, f"{name}-", f"{mark}#{number}", spared=spared)
            if any(self.status[each] == FAILED for each in ids):
                self._end(task_id, FAILED)
                return
        results = [self.result[each] for each in ids]
        self._end(
            task_id,
            COMPLETED,
            results[0] if len(parts) == 1 else {f"{name}-{n}": each for n, each in enumerate(results)},
        )

    def _set_aside(self, part: Drawn, name: str, mark: str) -> None:
        if part[0] in ("map", "loop"):
            for number, below in enumerate(part[1]):
                self._end(f"{name}-{number}{mark}", SKIPPED)
                self._set_aside(below, f"{name}-{number}", mark)

    def _grow(self, task_id: str) -> None:
        self.spawners.append(task_id)

    def _end(self, task_id: str, status: str, result: Any = None) -> None:
        self.status[task_id] = status
        self.result[task_id] = result if status == COMPLETED else None


def _words(mark: str) -> str:
    """How a mark such as `[0]#1` is written in names."""
    return mark.replace("[", " [").replace("#", " #")


def _fields(part: Drawn) -> Json:
    method = {"schemas": {"method": "script_executor"}}
    match part:
        case "leaf", script:
            retry = {"params": {"retry": {"max_attempts": 2, "backoff_seconds": 0.001}}} if script == "flaky" else {}
            return method | {"inputs": {"script": script}} | retry
        case "tree", script:
            inner = method | {"name": "inner", "inputs": {"script": script}}
            return {"schemas": {"method": "run_tree_executor"}, "inputs": {"tasks": [inner]}}
        case "spawn", scripts, joins:
            tasks = [{"name": f"s{n}", "inputs": {"script": script}} | method for n, script in enumerate(scripts)]
            return method | {"inputs": {"script": "spawn", "tasks": tasks, "join": joins}}
        case "poll", most:
            until = {"path": "/n", "op": "eq", "value": most}
            return {
                "schemas": {"method": "echo_executor"},
                "inputs": {"n": "{{round}}"},
                "params": {"repeat": {"until": until}},
            }
        case "map", _, size, collects, parallel:
            settings_ = {
                "items": list(range(size)),
                "on_failure": "collect" if collects else "fail",
                "max_parallel": parallel,
            }
            return {"params": {"for_each": settings_}}
        case _, _, most:
            return {"params": {"repeat": {"until": {"any": []}, "max": most, "on_max": "complete"}}}
    raise AssertionError(part)


def _shown(result: Any) -> Any:
    """A result without what only repeats the inputs, and without texts of errors."""
    match result:
        case {"got": _, "hint": hint}:
            return {"hint": hint}
        case {"n": number}:
            return {"n": number}
        case {"error": _}:
            return "error"
        case dict():
            return {name: _shown(each) for name, each in result.items()}
        case list():
            return [_shown(each) for each in result]
    return result


def play(stage: Stage, drawn: list[Drawn], deaths: list[tuple[int, bool, str]], *, beside: bool) -> tuple[Said, Any]:
    tables: list[type[Model]] = [Task, Run, TaskEvent, OrmQ, Question]
    for table in tables:
        table._default_manager.all().delete()
    said = Said(beside=beside, request=[{"id": "root", "name": "root"}])
    said.write(drawn, "root", "n")
    said.run(drawn, "n", "")
    run = trees.execute_tree(caller=LOCAL, tasks=said.request).run
    for items, after, how in deaths:
        life = stage.bear()
        life.fuse = Fuse(items=items, after=after)
        stage.until_nothing(lambda life=life: not life.journal_ended.is_set() and life.woken_for_open_runs())  # type: ignore[misc]
        if how == "killed" or life.journal_ended.is_set():
            life.kill()
        else:
            life.leave()
        Run.objects.filter(finished_at=None).update(lease_expires_at=Now() - timedelta(seconds=1))
        leases.sweep()
    last = stage.bear()
    stage.until_nothing(last.woken_for_open_runs)
    stage.until_nothing(lambda: last.worker._running)
    last.kill()
    return said, result_of(run)


@pytest.mark.sized
def test_trees_grow_into_what_they_say(stage: Stage) -> None:
    @settings(
        max_examples=int(os.environ.get("GROWTH_EXAMPLES", size(12, full=300))),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn=TREE, deaths=DEATHS, beside=st.booleans())
    def check(drawn: list[Drawn], deaths: list[tuple[int, bool, str]], beside: bool) -> None:
        said, ran = play(stage, drawn, deaths, beside=beside)
        statuses = {name: task.status for name, task in ran.tasks.items() if name != "root"}
        assert statuses == said.status
        results = {name: _shown(task.result) for name, task in ran.tasks.items() if name != "root"}
        assert {name: said.result[name] for name in results} == results
        types = [(event["type"], event["task_id"]) for event in ran.events]
        assert sorted(task_id for type_, task_id in types if type_ == "task_spawned") == sorted(said.spawners)
        ends = [task_id for type_, task_id in types if type_ in ("task_completed", "task_failed", "task_skipped")]
        assert sorted(ends) == sorted([*said.status, "root"])
        assert [task.position for task in ran.tasks.values()] == list(range(len(ran.tasks)))
        assert Run.objects.filter(wait_id__isnull=False).count() == said.inner_trees
        assert [event["seq"] for event in ran.events] == list(range(1, len(ran.events) + 1))
        assert ran.events[-1]["tree_progress"] == pytest.approx(
            sum(task.progress for task in ran.tasks.values()) / len(ran.tasks), abs=1e-5
        )

    check()
