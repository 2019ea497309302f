"""The rule book in the small: what the contract (section 1) says becomes of a tree. Slow, obvious, and free of our own code."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

PENDING, IN_PROGRESS, COMPLETED, FAILED, CANCELLED = "pending", "in_progress", "completed", "failed", "cancelled"
SKIPPED, NEVER = "skipped", "never"
OVER = (COMPLETED, FAILED, CANCELLED, SKIPPED)
GROUP = "group"
#: Script → how it ends by itself, how its error begins, and how often it starts. A script that is missing here hangs until told.
ENDINGS: dict[str, tuple[str, str | None, int]] = {
    GROUP: (COMPLETED, None, 1),
    "ok": (COMPLETED, None, 1),
    "flaky": (COMPLETED, None, 2),
    "fail": (FAILED, "Told to fail", 1),
    "never": (FAILED, "Told to fail", 2),
    "raise": (FAILED, "Executor '", 1),
    "slow": (FAILED, "Timed out", 1),
}


@dataclass(slots=True, kw_only=True)
class Task:
    id: str
    name: str
    parent_id: str | None
    needs: list[tuple[str, bool]]
    inputs: Json
    names: dict[str, str] = field(default_factory=dict)
    """By which names it knows the results of its dependencies: their ids are the default."""
    fills: bool = False
    may_fail: bool = False
    wants: str | None = None
    """The dependency that has to complete, else it is skipped; NEVER: it is skipped in any case."""
    needless: frozenset[str] = frozenset()
    """The required dependencies that may be skipped."""
    is_fragile: bool = False
    status: str = PENDING
    result: Any = None
    error: str | None = None  # how it begins
    starts: int = 0

    @property
    def is_spared(self) -> bool:
        """Whether it failed, and may."""
        return self.may_fail and self.status == FAILED

    @property
    def script(self) -> str:
        return str(self.inputs["script"])

    def end(self, status: str, *, result: Any = None, error: str | None = None) -> None:
        self.status, self.result, self.error = status, result, error


@dataclass(slots=True, kw_only=True)
class Run:
    id: str
    target_id: str
    scope: set[str]
    todo: set[str]
    told: dict[str, str] = field(default_factory=dict)
    cancels: dict[str, str] = field(default_factory=dict)
    live: set[str] = field(default_factory=set)  # at work on a living worker
    interrupted: set[str] = field(default_factory=set)
    is_smooth: bool = True  # no worker left it
    status: str | None = None


class Tree:
    def __init__(self, tasks: Iterable[Task]) -> None:
        self.tasks = {task.id: task for task in tasks}
        self.root_id = next(task.id for task in self.tasks.values() if task.parent_id is None)
        self.run: Run | None = None

    def children(self, task_id: str) -> list[str]:
        return [task.id for task in self.tasks.values() if task.parent_id == task_id]

    def awaited(self, task_id: str) -> list[str]:
        """Dependencies, and of a group the children."""
        task = self.tasks[task_id]
        return [needed for needed, _ in task.needs] + (self.children(task_id) if task.script == GROUP else [])

    def closure(self, ids: Iterable[str], step: Callable[[str], Iterable[str]]) -> set[str]:
        found = set(ids)
        while more := {there for here in found for there in step(here)} - found:
            found |= more
        return found

    def below(self, task_id: str) -> set[str]:
        """The task and everything below it."""
        return self.closure([task_id], self.children)

    def dependants(self, ids: Iterable[str]) -> set[str]:
        return self.closure(
            ids, lambda id_: [t.id for t in self.tasks.values() if id_ in [need for need, _ in t.needs]]
        )

    def waiting(self, ids: Iterable[str]) -> set[str]:
        return self.closure(ids, lambda id_: [other for other in self.tasks if id_ in self.awaited(other)])

    def scope(self, target_id: str) -> set[str]:
        """A task, its descendants and the unfinished that these wait for, transitively. What is completed waits for nothing."""
        below = self.below(target_id)

        def unfinished(task_id: str) -> list[str]:
            if task_id != target_id and self.tasks[task_id].status == COMPLETED:
                return []
            return [needed for needed in self.awaited(task_id) if self.tasks[needed].status != COMPLETED]

        return self.closure(below, unfinished)

    def copied(self, task_id: str, mode: str, *, children: bool) -> tuple[set[str], set[str]]:
        """What a copy takes along, and what of it is to run; the rest keeps what it completed with."""
        below = self.below(task_id)
        chosen = below if children else {task_id}
        if mode == "full":
            return set(self.tasks), self.waiting(below)
        if mode == "custom":
            taken = self.closure(chosen, self.awaited)
            return taken, taken
        needs = self.closure({need for each in chosen for need, _ in self.tasks[each].needs}, self.awaited)
        if mode == "execution":
            return chosen | needs, chosen
        taken = self.dependants(below) | (needs if children else set())
        return taken, taken

    def execute(self, run_id: str, target_id: str) -> None:
        scope = self.scope(target_id)
        todo = {task_id for task_id in scope if self.tasks[task_id].status != COMPLETED}
        for task_id in todo:
            self.tasks[task_id].end(PENDING)
            self.tasks[task_id].starts = 0
        self.run = Run(id=run_id, target_id=target_id, scope=scope, todo=todo)

    def cancel(self, task_id: str, message: str) -> bool:
        """What is in no run ends at once, with all that required it. Of a run, `settle` draws the consequences.

        Below a task that is over only the run is stopped. False: there was nothing to cancel.
        """
        scope = self.run.scope if self.run else set()
        doomed = [self.tasks[each] for each in self.below(task_id) if self.tasks[each].status not in OVER]
        if self.tasks[task_id].status in OVER:
            doomed = [task for task in doomed if task.id in scope]
        for task in doomed:
            is_at_work = self.run is not None and task.id in self.run.live
            task.end(
                CANCELLED, error=message, result={"partial": True} if is_at_work and task.script == "partial" else None
            )
        if self.run is not None:
            self.run.cancels |= {task.id: message for task in doomed if task.id in scope}
        if not scope.issuperset(task.id for task in doomed):
            self._repeat(self._block, self.tasks.keys() - scope)
        return bool(doomed)

    def settle(self) -> None:
        """The run goes on until nothing changes by itself."""
        assert self.run is not None
        self._repeat(self._advance, self.run.scope)
        statuses = {self.tasks[task_id].status for task_id in self.run.scope}
        if statuses.issubset(OVER):
            counted = {task.status for task in map(self.tasks.__getitem__, self.run.scope) if not task.is_spared}
            self.run.status = next((status for status in (FAILED, CANCELLED) if status in counted), COMPLETED)

    def _repeat(self, change: Callable[[Task], bool], ids: Iterable[str]) -> None:
        while any(change(self.tasks[each]) for each in ids if self.tasks[each].status not in OVER):
            pass

    def _block(self, task: Task) -> bool:
        is_blocked = any(required and self.tasks[need].status in (FAILED, CANCELLED) for need, required in task.needs)
        if is_blocked:
            task.end(FAILED, error="Not run: required dependency '")
        return is_blocked

    def _advance(self, task: Task) -> bool:
        """Whether something changed."""
        assert self.run is not None
        if task.id in self.run.cancels:
            task.end(CANCELLED, error=self.run.cancels[task.id])
        elif self._block(task):
            return True
        elif any(self.tasks[each].status not in OVER for each in self.awaited(task.id)):
            return False
        elif any(
            need not in task.needless and self.tasks[need].status == SKIPPED
            for need, required in task.needs
            if required
        ):
            task.end(SKIPPED, error="Skipped: required dependency '")
        elif task.wants == NEVER or (task.wants is not None and self.tasks[task.wants].status != COMPLETED):
            task.end(SKIPPED, error="Skipped, because this condition is false: ")
        elif task.id in self.run.interrupted:
            task.end(FAILED, error="Interrupted: ")
        else:
            return self._work(task, self.run)
        return True

    def _work(self, task: Task, run: Run) -> bool:
        script = run.told.get(task.id, task.script)
        if script not in ENDINGS:
            is_news = task.id not in run.live
            run.live.add(task.id)
            task.status, task.starts = IN_PROGRESS, 1
            return is_news
        status, error, task.starts = ENDINGS[script]
        inputs = self.resolved_inputs(task)
        result = inputs if task.script == GROUP else {"got": inputs, "hint": task.name}
        task.end(status, result=result if status == COMPLETED else None, error=error)
        return True

    def resolved_inputs(self, task: Task) -> Json:
        completed = [need for need, _ in task.needs if self.tasks[need].status == COMPLETED]
        results = {task.names.get(need, need): self.tasks[need].result for need in completed}
        hints = [result["hint"] for result in results.values() if "hint" in result] if task.fills else []
        return ({"hint": hints[0]} if hints and "hint" not in task.inputs else {}) | task.inputs | results
