"""The rule book in the small: what the contract (section 1) says becomes of a tree. Slow, obvious, and free of our own code."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

Json = dict[str, Any]

PENDING, IN_PROGRESS, COMPLETED, FAILED, CANCELLED = "pending", "in_progress", "completed", "failed", "cancelled"
SKIPPED, NEVER = "skipped", "never"
OVER = (COMPLETED, FAILED, CANCELLED, SKIPPED)
GROUP, MAP, LOOP, SPAWN, TREE, STEPS = "group", "map", "loop", "spawn", "tree", "steps"
GROUPS = (GROUP, MAP, LOOP)
WAITS = ("event", "question", "wait", TREE)
#: Script → how it ends by itself, how its error begins, and how often it starts. A script that is missing here hangs until told.
ENDINGS: dict[str, tuple[str, str | None, int]] = {
    GROUP: (COMPLETED, None, 1),
    "ok": (COMPLETED, None, 1),
    "flaky": (COMPLETED, None, 2),
    "fail": (FAILED, "Told to fail", 1),
    "never": (FAILED, "Told to fail", 2),
    "raise": (FAILED, "Executor '", 1),
    "slow": (FAILED, "Timed out", 1),
    "expired": (FAILED, "Timed out while waiting", 1),
}


class Text(str):
    """How a text begins that is equal to every text that begins so."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and other.startswith(str(self))

    __hash__ = str.__hash__


class Anything:
    """What an executor makes up: it equals everything."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = object.__hash__


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
    label: str = ""
    """Its id in the request, by which a result of several names it."""
    spawned_by: str | None = None
    step: int = 0
    """In which step of a task that takes steps it was added."""
    status: str = PENDING
    result: Any = None
    error: str | None = None  # how it begins
    starts: int = 0

    @property
    def collects(self) -> bool:
        """Whether it is a map with failures of its parts in its result."""
        return self.script == MAP and bool(self.inputs.get("collects"))

    @property
    def script(self) -> str:
        return str(self.inputs["script"])

    def end(self, status: str, *, result: Any = None, error: str | None = None) -> None:
        self.status, self.result, self.error = status, result, error

    def copied(self, mark: str, ids: dict[str, str], spawner: str) -> "Task":
        """The task as part of a map or of a round of a loop. `ids` maps those of the template to those of the part."""

        def of(task_id: str) -> str:
            return ids.get(task_id, task_id)

        return replace(
            self,
            id=ids[self.id],
            name=f"{self.name} {mark}",
            parent_id=of(self.parent_id or "") if self.parent_id in ids else spawner,
            needs=[(of(need), required) for need, required in self.needs],
            names={of(need): self.names.get(need, need) for need, _ in self.needs},
            wants=of(self.wants) if self.wants else None,
            needless=frozenset(map(of, self.needless)),
            spawned_by=spawner,
            status=PENDING,
            result=None,
            error=None,
            starts=0,
        )


@dataclass(slots=True, kw_only=True)
class Run:
    id: str
    target_id: str
    scope: set[str]
    """What it runs. Templates are beside it, and only set aside: `todo` has those too."""
    todo: set[str]
    told: dict[str, str] = field(default_factory=dict)
    cancels: dict[str, str] = field(default_factory=dict)
    live: set[str] = field(default_factory=set)  # at work on a living worker
    interrupted: set[str] = field(default_factory=set)
    grown: set[str] = field(default_factory=set)  # what was added meanwhile
    is_smooth: bool = True  # no worker left it
    status: str | None = None


class Tree:
    def __init__(self, tasks: Iterable[Task]) -> None:
        self.tasks = {task.id: task for task in tasks}
        self.root_id = next(task.id for task in self.tasks.values() if task.parent_id is None)
        self.run: Run | None = None

    def children(self, task_id: str) -> list[str]:
        return [task.id for task in self.tasks.values() if task.parent_id == task_id]

    def spawned(self, task_id: str) -> list[Task]:
        """What the task has added, without templates among it."""
        templates = self.templates()
        return [task for task in self.tasks.values() if task.spawned_by == task_id and task.id not in templates]

    def template(self, task_id: str) -> list[str]:
        """The template of a map or a loop: what is below it, and not added by it."""
        if self.tasks[task_id].script not in (MAP, LOOP):
            return []
        below = self.closure(
            [each for each in self.children(task_id) if self.tasks[each].spawned_by != task_id], self.children
        )
        return [each for each in self.tasks if each in below]

    def templates(self) -> set[str]:
        """What never runs itself."""
        return {part for task_id in self.tasks for part in self.template(task_id)}

    def owners(self, task_id: str) -> list[str]:
        """Those that the task is a part of: what added it, and the maps and loops of whose template it is."""
        spawner = self.tasks[task_id].spawned_by
        return [each for each in self.tasks if each == spawner or task_id in self.template(each)]

    def before(self, task_id: str) -> set[str]:
        """What is over before the task starts."""
        own = {*self.template(task_id), *(each.id for each in self.tasks.values() if each.spawned_by == task_id)}
        return {*self.needed(task_id)} - own

    def has_grown_in(self, run: Run, task_id: str) -> bool:
        """Whether all that the task has added was added in this run."""
        return all(part.id in run.grown for part in self.spawned(task_id))

    def decided(self, by: Iterable[str]) -> set[str]:
        """What those of these tasks that take steps have taken up, or will take up as it is: it does not run again."""
        found = set[str]()
        for task in [self.tasks[each] for each in by if self.tasks[each].script == STEPS]:
            parts = self.spawned(task.id)
            latest = max((part.step for part in parts), default=0)
            is_over = task.status == COMPLETED
            found |= {part.id for part in parts if is_over or part.step < latest or part.status == FAILED}
        return self.closure(found, self.children)

    def lose(self, task_ids: Iterable[str]) -> None:
        """What a dead worker meant to add, and had not stored."""
        assert self.run is not None
        for task_id in list(task_ids):
            assert task_id in self.run.grown, f"{self.tasks[task_id]} is gone"
            del self.tasks[task_id]
        for kept in (self.run.scope, self.run.todo, self.run.grown):
            kept.intersection_update(self.tasks)

    def needed(self, task_id: str) -> list[str]:
        """Dependencies, and of a group the children."""
        task = self.tasks[task_id]
        return [needed for needed, _ in task.needs] + (self.children(task_id) if task.script in GROUPS else [])

    def awaited(self, task_id: str) -> list[str]:
        """And what it has added."""
        added = [task.id for task in self.tasks.values() if task.spawned_by == task_id]
        return list(dict.fromkeys(self.needed(task_id) + added))

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
        """A task, its descendants and the unfinished that these wait for, transitively. What is completed waits for nothing.

        A map waits for what its template needs. Templates are part of it.
        """
        scope, over = self.below(target_id), set[str]()
        done = {part for each in self.tasks if self.tasks[each].status == COMPLETED for part in self.template(each)}
        size = -1
        while size != (size := len(scope) + len(over)):
            over |= {each for each in scope if each != target_id and self.tasks[each].status == COMPLETED}
            for task_id in scope | over:
                needed = [each for each in self.awaited(task_id) if each not in done] if task_id not in done else []
                over |= {each for each in needed if self.tasks[each].status == COMPLETED}
                if task_id not in over:
                    scope |= {each for each in needed if self.tasks[each].status != COMPLETED}
                else:  # it needs nothing, but what it has added may not be over
                    scope |= {each for each in needed if self._is_open(each) and self.tasks[each].spawned_by == task_id}
        return scope

    def copied(self, task_id: str, mode: str, *, children: bool) -> tuple[set[str], set[str]]:
        """What a copy takes along, and what of it is to run; the rest keeps what it completed with."""
        taken, fresh = self._chosen(task_id, mode, children=children)
        parts = {part for each in fresh for part in self.template(each)}
        stepping = {each for each in taken if self.tasks[each].script == STEPS}
        added = {each for each in self.decided(stepping) if self.tasks[each].status != COMPLETED}
        again = fresh | {each for each in stepping if self.tasks[each].status != COMPLETED}
        while more := {
            each.id for each in self.tasks.values() if each.spawned_by in again | added and each.id not in added
        }:
            added |= more  # they will be added again
        return (taken | parts) - added, (fresh | parts) - added

    def _chosen(self, task_id: str, mode: str, *, children: bool) -> tuple[set[str], set[str]]:
        below = self.below(task_id)
        chosen = below if children else {task_id}
        if mode == "full":
            return set(self.tasks), self.waiting(below)
        if mode == "custom":
            taken = self.closure(chosen, self.needed)
            return taken, taken
        needs = self.closure({need for each in chosen for need, _ in self.tasks[each].needs}, self.needed)
        if mode == "execution":
            return chosen | needs, chosen
        taken = self.dependants(below) | (needs if children else set())
        return taken, taken

    def execute(self, run_id: str, target_id: str) -> None:
        covered, templates = self.scope(target_id), self.templates()
        todo = {task_id for task_id in covered - templates if self.tasks[task_id].status != COMPLETED} - self.decided(
            self.tasks
        )
        for task_id in todo:
            self.tasks[task_id].end(PENDING)
            self.tasks[task_id].starts = 0
        aside = {task_id for task_id in covered & templates if self.tasks[task_id].status == PENDING}
        self.run = Run(id=run_id, target_id=target_id, scope=covered - templates, todo=todo | aside)

    def cancel(self, task_id: str, message: str) -> bool:
        """What is in no run ends at once, with all that required it. Of a run, `settle` draws the consequences.

        Below a task that is over only the run is stopped. False: there was nothing to cancel.
        """
        scope = self.run.scope | self.run.todo if self.run else set()
        doomed = [self.tasks[each] for each in self.below(task_id) if self.tasks[each].status not in OVER]
        if self.tasks[task_id].status in OVER:
            doomed = [task for task in doomed if task.id in scope]
        if self.run is not None:
            doomed = [task for task in doomed if task.id not in self.templates() & self.run.todo]
        for task in doomed:
            is_at_work = self.run is not None and task.id in self.run.live
            task.end(
                CANCELLED, error=message, result={"partial": True} if is_at_work and task.script == "partial" else None
            )
        if self.run is not None:
            self.run.cancels |= {task.id: message for task in doomed if task.id in scope}
        if not scope.issuperset(task.id for task in doomed):
            later = {task.id for task in doomed if task.id in scope}  # these end with the run
            while any(
                self._block(self.tasks[each], later) for each in self.tasks.keys() - scope if self._is_open(each)
            ):
                pass
        return bool(doomed)

    def settle(self) -> None:
        """The run goes on until nothing changes by itself."""
        assert self.run is not None
        self._repeat(self._advance)
        for task_id in self.run.scope:
            if self.tasks[task_id].status in OVER or self.spawned(task_id):
                for part in self.template(task_id):
                    if self.tasks[part].status == PENDING:
                        self.tasks[part].end(SKIPPED, error="Template: ")
        statuses = {self.tasks[task_id].status for task_id in self.run.scope}
        if statuses.issubset(OVER):
            needed = self.run.scope & self.scope(self.run.target_id)
            counted = {self.tasks[each].status for each in needed if not self._is_spared(each)}
            self.run.status = next((status for status in (FAILED, CANCELLED) if status in counted), COMPLETED)

    def _is_spared(self, task_id: str) -> bool:
        """Whether it failed, and may: it says so, or a map above it collects failures."""
        above = self.closure([task_id], lambda each: [self.tasks[each].parent_id or task_id]) - {task_id}
        may_fail = self.tasks[task_id].may_fail or any(self.tasks[each].collects for each in above)
        return may_fail and self.tasks[task_id].status == FAILED

    def _is_open(self, task_id: str) -> bool:
        return self.tasks[task_id].status not in OVER

    def _repeat(self, change: Callable[[Task], bool]) -> None:
        """In the scope of the run, which grows."""
        assert self.run is not None
        while any(change(self.tasks[each]) for each in list(self.run.scope) if self._is_open(each)):
            pass

    def _block(self, task: Task, later: Collection[str] = ()) -> bool:
        over = [need for need, required in task.needs if required and need not in later]
        is_blocked = any(self.tasks[need].status in (FAILED, CANCELLED) for need in over)
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
        elif any(self._is_open(each) for each in self.awaited(task.id) if each not in self.templates()):
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
        if task.script in (MAP, LOOP, SPAWN):
            return self._grow(task, run)
        if task.script == STEPS:
            return self._step(task, run)
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

    def _grow(self, task: Task, run: Run) -> bool:
        """Add what comes next, or end with it. It is decided once: what is there is never added again."""
        added, template = self.spawned(task.id), self.template(task.id)
        most, rounds = task.inputs.get("parts", 1), len(added) // max(1, self._size(template))
        latest = [part for part in added if part.parent_id == task.id][-self._width(task, template) :]
        is_bad = any(part.status in (FAILED, CANCELLED) and not part.may_fail for part in latest)
        if added and (task.script != LOOP or is_bad or rounds == most):
            self._join(task, template)
            return True
        if not added:
            task.status, task.starts = IN_PROGRESS, 1
        marks = [f"#{rounds + 1}"] if task.script == LOOP else [f"[{number}]" for number in range(most)]
        new = (
            self._listed(task)
            if task.script == SPAWN
            else [part for mark in marks for part in self._copies(task, template, mark)]
        )
        self._add(new, run)
        if not task.inputs.get("join", True):
            task.end(COMPLETED, result="own")
        return True

    def _add(self, new: list[Task], run: Run) -> None:
        ids = {part.id for part in new}
        self.tasks |= {part.id: part for part in new}
        run.todo |= ids
        run.grown |= ids
        run.scope |= ids - self.templates()

    def _step(self, task: Task, run: Run) -> bool:
        """Take the next step, or end with all of them. What was decided in a step is never decided again."""
        parts = self.spawned(task.id)
        taken, task.starts = max((part.step for part in parts), default=0), 1
        if taken == task.inputs["steps"]:
            steps = [[part for part in parts if part.step == number] for number in range(1, taken + 1)]
            answers = [{part.label: self._end_of(part) for part in step} for step in steps]
            task.end(COMPLETED, result={"taken": [{"word": Anything(), "answer": answer} for answer in answers]})
            return True
        task.status = IN_PROGRESS
        self._add([self._part(task, taken + 1, *each) for each in task.inputs["tasks"].items()], run)
        return True

    def _part(self, task: Task, step: int, name: str, script: str) -> Task:
        return Task(
            id=f"{task.id}/{step}/{name}",
            name=name,
            parent_id=task.id,
            needs=[],
            inputs={"script": script, "word": Anything()},
            may_fail=True,
            label=name,
            spawned_by=task.id,
            step=step,
        )

    def _end_of(self, part: Task) -> Json:
        end = {"result": part.result} if part.status == COMPLETED else {"error": Text(part.error)}
        return {"status": part.status, **end}

    def _size(self, template: Iterable[str]) -> int:
        """How many tasks of a part run."""
        inside = {part for each in template for part in self.template(each)}
        return len(set(template) - inside)

    def _width(self, task: Task, template: Iterable[str]) -> int:
        """How many tasks of a part are right below their map or loop, or all below a task that adds a list."""
        if task.script == SPAWN:
            return len(task.inputs["tasks"])
        return len([each for each in template if self.tasks[each].parent_id == task.id])

    def _copies(self, task: Task, template: list[str], mark: str) -> list[Task]:
        ids = {each: f"{each}{mark}" for each in template}
        return [self.tasks[each].copied(mark, ids, task.id) for each in template]

    def _listed(self, task: Task) -> list[Task]:
        return [
            Task(
                id=f"{task.id}/{number}",
                name=given["name"],
                parent_id=task.id,
                needs=[],
                inputs=given["inputs"],
                label=str(number),
                spawned_by=task.id,
            )
            for number, given in enumerate(task.inputs["tasks"])
        ]

    def _join(self, task: Task, template: list[str]) -> None:
        below = [part for part in self.spawned(task.id) if part.parent_id == task.id]
        bad = [part for part in below if part.status in (FAILED, CANCELLED) and not part.may_fail]
        if bad and not task.collects:
            task.end(FAILED, error=f"{len(bad)} of {len(below)} tasks below this one did not complete")
            return
        results = [self._result(part) for part in below]
        if task.script == SPAWN:
            task.end(COMPLETED, result={part.label: result for part, result in zip(below, results, strict=True)})
            return
        names = [self.tasks[each].label for each in template if self.tasks[each].parent_id == task.id]
        parts = [results[start : start + len(names)] for start in range(0, len(results), len(names))]
        found = [part[0] if len(names) == 1 else dict(zip(names, part, strict=True)) for part in parts]
        task.end(COMPLETED, result=found if task.script == MAP else found[-1])

    def _result(self, part: Task) -> Any:
        if part.status == COMPLETED:
            return part.result
        return None if part.status == SKIPPED else {"error": Text(part.error)}

    def resolved_inputs(self, task: Task) -> Json:
        completed = [need for need, _ in task.needs if self.tasks[need].status == COMPLETED]
        results = {task.names.get(need, need): self.tasks[need].result for need in completed}
        objects = [result for result in results.values() if isinstance(result, dict)]
        hints = [result["hint"] for result in objects if "hint" in result] if task.fills else []
        return ({"hint": hints[0]} if hints and "hint" not in task.inputs else {}) | task.inputs | results
