"""The steps of the rule book's state machine: what it does to the server and to the model alike, and how the two are compared."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from django.db.models import F, Model
from django.db.models.functions import Now
from django_q.models import OrmQ
from hypothesis.stateful import RuleBasedStateMachine

from accounts.callers import LOCAL
from tasks import events
from tasks.models import CancelRequest, Question, Run, RunBudget, SentEvent, Task, TaskEvent, WorkerProcess
from tasks.queue import leases, suspension
from tasks.queue.leases import SUSPENDED
from tasks.rules.budgets import asked_in, budget_of
from tasks.rules.exceptions import CannotDelete, InvalidParams, StatusConflict
from tasks.services import trees
from tasks.services.runs import cancels
from tasks.services.trees import copies, editing, forks
from tasks.services.waits import questions, sent_events
from tasks.status import WaitKind
from tests.tasks import model
from tests.tasks.drawn import Shape, of_row, request_of
from tests.tasks.inner import Inner
from tests.tasks.lives import Life, Stage
from tests.tasks.model import (
    CANCELLED,
    COMPLETED,
    FAILED,
    GROUPS,
    IN_PROGRESS,
    LOOP,
    MAP,
    OVER,
    PENDING,
    SPAWN,
    STEPS,
    TREE,
    WAITS,
    Tree,
)

MESSAGE = "Never mind"
Seen = dict[str, Task]


class Play(RuleBasedStateMachine):
    """Trees, their model, and the workers that are alive."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        tables: list[type[Model]] = [
            Task,
            Run,
            TaskEvent,
            CancelRequest,
            Question,
            SentEvent,
            RunBudget,
            OrmQ,
            WorkerProcess,
        ]
        for table in tables:
            table._default_manager.all().delete()
        self._stage = stage
        self._trees: list[Tree] = []
        self._lives: list[Life] = []
        self._executed: Counter[tuple[str, str]] = Counter()
        self._told: dict[tuple[str, str], str] = {}
        self._over: dict[str, tuple[str, int]] = {}
        self._inner: list[Inner] = []
        self._child_runs: dict[str, str] = {}  # by the id of their wait
        self._is_sound = True
        self._bear()

    def teardown(self) -> None:
        """Whatever still hangs can be brought to its end."""
        try:
            while self._is_sound and (found := self._hanging(0)):
                self._tell(*found, "ok")
                self._settle()
            assert not self._is_sound or not Run.objects.unfinished().exists()
        finally:
            self._stage.clear()

    def _create(self, shape: Shape, *, execute: bool) -> None:
        request = request_of(shape)
        taken = set(Task.objects.values_list("id", flat=True))
        created = trees.create_tree(caller=LOCAL, tasks=request, execute=execute)
        assert all((created.ids[task["id"]] == task["id"]) is (task["id"] not in taken) for task in request)
        self._adopt(created.tasks)
        if created.run:
            self._trees[-1].execute(created.run.id, created.root.id)

    def _adopt(self, rows: list[Task]) -> Tree:
        self._trees.append(Tree(of_row(row) for row in rows))
        return self._trees[-1]

    def _at(self, tree_number: int, task_number: int) -> tuple[Tree, str]:
        """One of the youngest trees, and a task of it."""
        tree = self._trees[-1 - tree_number % len(self._trees)]
        return tree, list(tree.tasks)[task_number % len(tree.tasks)]

    def _hanging(self, number: int) -> tuple[Tree, str] | None:
        found = [
            (tree, task_id)
            for tree in self._trees
            if tree.run
            for task_id in tree.run.live
            if tree.tasks[task_id].status == IN_PROGRESS
        ]
        return found[-1 - number % len(found)] if found else None

    def _tell(self, tree: Tree, task_id: str, what: str) -> None:
        assert tree.run is not None
        match tree.tasks[task_id].script:
            case "event":
                self._send(tree, task_id, what)
            case "wait":
                self._let_expire(tree, task_id)
            case "tree":
                self._tell(*self._hanging_in(tree, task_id), what)
            case "question":
                questions.answer(caller=LOCAL, task_id=task_id, answer=what)
                tree.run.told[task_id] = what
            case _:
                self._told[tree.run.id, task_id] = tree.run.told[task_id] = what
                for life in self._lives:
                    life.tell(tree.run.id, task_id, what)

    def _send(self, tree: Tree, task_id: str, what: str) -> None:
        """Send the event that the task waits for, or will. The first one counts."""
        assert tree.run is not None
        payload = {"run": tree.run.id, "task": task_id, "what": what}
        asyncio.run(sent_events.send(caller=LOCAL, event="told", payload=payload))
        tree.run.told.setdefault(task_id, what)

    def _let_expire(self, tree: Tree, task_id: str) -> None:
        """The time of a wait is over."""
        assert tree.run is not None
        waits = Question.objects.filter(run_id=tree.run.id, task_id=task_id, closed_at=None)
        assert waits.update(expires_at=Now() - timedelta(seconds=1)) == 1
        if self._is_suspended(tree):
            suspension.resume_due()
        else:
            self._holder(tree.run.id).let_expire(tree.run.id, task_id)
        tree.run.told[task_id] = "ok" if tree.tasks[task_id].script == "wait" else "expired"

    def _hanging_in(self, tree: Tree, task_id: str) -> tuple[Tree, str]:
        """A hanging task of the inner tree."""
        inner = next(each.tree for each in self._inner if (each.outer, each.task_id) == (tree, task_id))
        assert inner.run is not None
        return inner, min(each for each in inner.run.live if inner.tasks[each].status == IN_PROGRESS)

    def _is_suspended(self, tree: Tree) -> bool:
        """Whether the run of the tree waits for nothing but answers and events."""
        assert tree.run is not None
        live = [each for each in tree.run.live if tree.tasks[each].status == IN_PROGRESS]
        return bool(live) and all(tree.tasks[each].script in WAITS for each in live)

    def _cancel(self, tree: Tree, task_id: str, *, force: bool = False) -> list[tuple[cancels.CancelTarget, str]]:
        """The request, and how it should be answered."""
        is_news = tree.cancel(task_id, MESSAGE)
        asked = cancels.ask(caller=LOCAL, task_ids=[task_id], force=force, message=MESSAGE)
        return [(one, CANCELLED if is_news else FAILED) for one in asked]

    def _end_what_was_left(self, tree: Tree, what: str) -> None:
        if run := tree.run:
            for task_id in [each for each in run.live & run.cancels.keys() if tree.tasks[each].script not in WAITS]:
                for life in self._lives:
                    life.tell(run.id, task_id, what)

    def _check_answers(self, asked: list[tuple[cancels.CancelTarget, str]]) -> None:
        for answer, (one, expected) in zip(cancels.answers(asked=[one for one, _ in asked]), asked, strict=True):
            assert answer["status"] == expected, (one, answer)

    def _copy(self, tree: Tree, task_id: str, mode: str, children: bool) -> None:
        if mode == "execution" and task_id in tree.templates():
            with pytest.raises(StatusConflict):
                trees.execute_task(caller=LOCAL, task_id=task_id, copy_execution=True, copy_children=children)
            return
        if mode == "execution":
            execution = trees.execute_task(caller=LOCAL, task_id=task_id, copy_execution=True, copy_children=children)
            ids = execution.ids
        elif mode == "fork":
            execution = forks.fork(caller=LOCAL, task_id=task_id, start=[], inputs={})
            ids = execution.ids
        else:
            try:
                copied = copies.copy_tree(
                    caller=LOCAL, task_id=task_id, children=children, copy_mode=mode, custom_task_ids=[task_id]
                )
            except InvalidParams as error:
                assert copies.NO_ROOT in str(error)
                assert any(tree.template(each) for each in tree.copied(task_id, mode, children=children)[0])
                return
            ids = copied.ids
        taken, fresh = tree.copied(task_id, "full" if mode == "fork" else mode, children=children)
        assert set(ids) == taken
        copy = self._adopt(list(Task.objects.tree(Task.objects.get(id=next(iter(ids.values()))).root_id)))
        templates = tree.templates()
        for original_id, copy_id in ids.items():
            original, task = tree.tasks[original_id], copy.tasks[copy_id]
            keeps = original_id not in fresh and original.status == COMPLETED
            expected = (COMPLETED, original.result) if keeps else (PENDING, None)
            if original_id in templates - fresh:
                expected = (original.status, None)
            assert (task.status, task.result, task.name) == (*expected, original.name)
        if mode in ("execution", "fork"):
            copy.execute(execution.run.id, copy.root_id)

    def _delete(self, tree: Tree, task_id: str, *, force: bool) -> None:
        doomed = tree.below(task_id)
        all_pending = all(tree.tasks[each].status == PENDING for each in doomed)
        is_whole = all(each in doomed for part in doomed for each in tree.owners(part))
        if tree.run is None and (force or all_pending) and tree.dependants(doomed) == doomed and is_whole:
            deleted = editing.delete_task(caller=LOCAL, task_id=task_id, force=force)
            assert deleted.deleted_count == len(doomed)
            for each in doomed:
                del tree.tasks[each]
            if task_id == tree.root_id:
                self._trees.remove(tree)
                if not self._trees:
                    self._create([("hang", 0, [], False)], execute=False)
                left = set(Run.objects.values_list("id", flat=True))
                self._over = {run_id: end for run_id, end in self._over.items() if run_id in left}
                assert not TaskEvent.objects.exclude(run_id__in=left).exists()
        else:
            with pytest.raises(CannotDelete):
                editing.delete_task(caller=LOCAL, task_id=task_id, force=force)

    # --- births and deaths ---

    def _bear(self) -> None:
        self._lives.append(self._stage.bear(self._told))

    def _held(self, life: Life) -> list[str]:
        return list(Run.objects.unfinished().filter(lease_owner=life.name).values_list("id", flat=True))

    def _holder(self, run_id: str) -> Life:
        owner = Run.objects.get(id=run_id).lease_owner
        return next(life for life in self._lives if life.name == owner)

    def _leave(self, life: Life, *, alone: bool = False) -> None:
        """The worker drains, with nothing to wait for."""
        life.fuse = None
        self._forget(set(self._held(life)))
        if life.leave():
            assert not self._held(life), "It left, and keeps its lease"
        self._bury(alone=alone)  # should its journal have died before

    def _bury(self, *, alone: bool = False) -> None:
        """Expire the leases of those who died, and sweep."""
        for life in [life for life in self._lives if life.journal_ended.is_set()]:
            life.kill()
            self._lives.remove(life)
            self._executed.update(life.executed)
            held = self._held(life)
            if not self._lives and not alone:
                self._bear()
            self._forget(set(held))
            Run.objects.filter(id__in=held).update(lease_expires_at=Now() - timedelta(seconds=1))
            self._sweep()

    def _expire(self, life: Life) -> None:
        held = self._held(life)
        self._forget(set(held))
        Run.objects.filter(id__in=held).update(lease_expires_at=Now() - timedelta(seconds=1))
        leases.sweep()

    def _come_back_from_the_dead(self, zombie: Life, what: str) -> None:
        """A worker that slept for too long goes on with what another one has by now."""
        self._lives.remove(zombie)
        zombie.freeze()
        self._executed.update(zombie.executed)
        self._bear()
        self._expire(zombie)
        self._settle()
        zombie.come_back(what)
        zombie.kill()

    def _sweep(self) -> None:
        """When enough time has passed for wake-ups to count as lost."""
        Run.objects.unfinished().update(created_at=F("created_at") - timedelta(minutes=1))
        leases.sweep()

    def _forget(self, run_ids: set[str]) -> None:
        """Runs lost their worker: what is committed is what there is."""
        rows = {task.id: task for task in Task.objects.all()}
        for tree, run in [(tree, tree.run) for tree in self._trees if tree.run and tree.run.id in run_ids]:
            run.is_smooth, run.status = False, None
            run.live.clear()
            tree.lose(tree.tasks.keys() - rows.keys())
            for task in [tree.tasks[task_id] for task_id in run.todo]:
                status = rows[task.id].status
                if status in OVER:
                    assert status == task.status, f"{task} was committed as {status}"
                    continue
                task.end(status)
                if status == IN_PROGRESS and task.is_fragile:
                    run.interrupted.add(task.id)

    # --- the comparison with the model ---

    def _settle(self) -> None:
        """Wait until everything is as the model says, whoever dies on the way."""
        self._is_sound = False
        while True:
            self._settle_trees()
            self._until_nothing(self._difference)
            if not any(life.journal_ended.is_set() for life in self._lives):
                break
            self._bury()
        self._check()
        self._is_sound = True

    def _settle_trees(self) -> None:
        """Of two trees of which one runs the other, each may change the other."""
        while True:
            for tree in self._trees:
                if tree.run and tree.run.status is None:
                    tree.settle()
            news = [inner for inner in self._inner if inner.pass_on()]
            if not news:
                return

    def _adopt_inner(self) -> None:
        """Find the trees that tasks have started meanwhile: one for each task that runs one."""
        for run in Run.objects.filter(wait_id__isnull=False).exclude(id__in=self._child_runs.values()):
            wait = Question.objects.get(id=run.wait_id)
            assert wait.id not in self._child_runs, f"{wait.task_id} has started its tree twice"
            self._child_runs[wait.id] = run.id
            outer = next(tree for tree in self._trees if tree.run and tree.run.id == wait.run_id)
            tree = self._adopt(list(Task.objects.tree(run.root_id)))
            for task in tree.tasks.values():
                task.end(PENDING)
            tree.execute(run.id, tree.root_id)
            self._inner.append(Inner(tree=tree, outer=outer, run_id=wait.run_id, task_id=wait.task_id))
            self._settle_trees()

    def _raise_budgets(self) -> None:
        """Allow two more tasks where the owner is asked."""
        for question in Question.objects.filter(kind=WaitKind.QUESTION, closed_at=None, answered_at=None):
            if about := asked_in(json.loads(question.memo)):
                with suppress(StatusConflict):  # the task was cancelled meanwhile
                    questions.answer(caller=LOCAL, task_id=question.task_id, answer=about[1] + 2)

    def _deliver(self) -> None:
        """What django-q2 does: give each wake-up to somebody, once."""
        for wake_up_id in list(OrmQ.objects.values_list("id", flat=True)):
            OrmQ.objects.filter(id=wake_up_id).delete()
            self._lives[wake_up_id % len(self._lives)].wake()

    def _until_nothing(self, look: Callable[[], object]) -> None:
        """Or until somebody is dead."""
        self._stage.until_nothing(lambda: not any(life.journal_ended.is_set() for life in self._lives) and look())

    def _difference(self) -> str | None:
        self._deliver()
        self._raise_budgets()
        self._adopt_inner()
        rows = {task.id: task for task in Task.objects.all()}
        expected = {task.id: task for tree in self._trees for task in tree.tasks.values()}
        if rows.keys() != expected.keys():
            return f"More or less than expected: {sorted(rows.keys() ^ expected.keys())}"
        for task in expected.values():
            row = rows[task.id]
            is_error = (row.error or "").startswith(task.error) if task.error else row.error is None
            if (row.status, row.result) != (task.status, task.result) or not is_error:
                return f"{task} is {row.status} with {row.result}, {row.error}"
        for tree, run in [(tree, tree.run) for tree in self._trees if tree.run]:
            found = Run.objects.get(id=run.id)
            is_at_work = any(life.name == found.lease_owner and life.is_at_work(run.id) for life in self._lives)
            is_as_expected = found.status == run.status if run.status else is_at_work
            if run.status is None and self._is_suspended(tree):
                is_as_expected = found.lease_owner == SUSPENDED
            if missing := self._without_inner(tree, run):
                return f"{missing} have not started their trees"
            if (found.finished_at is None) is not (run.status is None) or not is_as_expected:
                return f"{run} is {found.status}, held by {found.lease_owner}"
        return None

    def _without_inner(self, tree: Tree, run: model.Run) -> set[str]:
        """The tasks that have to run a tree, and do not."""
        running = {each.task_id for each in self._inner if each.run_id == run.id}
        live = {each for each in run.live if tree.tasks[each].status == IN_PROGRESS}
        return {each for each in live if tree.tasks[each].script == TREE} - running

    def _check(self) -> None:
        """What must hold in every state. Then what is over is over."""
        rows = {task.id: task for task in Task.objects.all()}
        found = {run.id: run for run in Run.objects.all()}
        for run_id, (status, last_seq) in self._over.items():
            assert (found[run_id].status, found[run_id].last_seq) == (status, last_seq), "A finished run changed"
        for tree, run in [(tree, tree.run) for tree in self._trees if tree.run]:
            self._check_log(tree, run, rows, found[run.id])
            self._check_steps(tree, rows)
            if run.is_smooth:
                self._check_starts(tree, run, rows)
            if run.status:
                assert (found[run.id].lease_owner, found[run.id].lease_expires_at) == (None, None)
                assert run.target_id != tree.root_id or all(task.status in OVER for task in tree.tasks.values())
                self._check_budget(tree, run)
                self._over[run.id] = (run.status, found[run.id].last_seq)
                tree.run = None
        self._inner = [each for each in self._inner if each.tree.run]

    def _check_log(self, tree: Tree, run: model.Run, rows: Seen, found: Run) -> None:
        log = events.read(run_id=run.id, limit=found.last_seq)  # whatever has been reported since
        assert [event["seq"] for event in log] == list(range(1, found.last_seq + 1))
        completed, over = tree.tasks.keys() - run.todo, set[str]()
        self._check_growth(tree, run, log)
        for event in log[:-1] if run.status else log:
            task = tree.tasks[event["task_id"]]
            if event["type"] == "task_spawned":
                continue
            assert task.id in run.todo - over, f"{event} of what is over"
            if event["type"] == "task_start":
                needs = {need for need, required in task.needs if required}
                assert needs - task.needless <= completed, f"{event} is too early"
                assert tree.before(task.id) <= completed | over, f"{event} is too early"
            if event["status"] in OVER:
                assert event["type"] == f"task_{event['status']}"
                row = rows[task.id]
                assert (event["status"], event["result"], event["error"]) == (row.status, row.result, row.error)
                over.add(task.id)
                completed |= {task.id} if event["status"] == COMPLETED else set()
        assert over == {task_id for task_id in run.todo if tree.tasks[task_id].status in OVER}
        assert all(rows[task_id].progress == 1.0 for task_id in completed & run.todo)
        if run.status:
            final, target = log[-1], rows[run.target_id]
            assert (final["type"], final["task_id"], final["status"]) == ("final", target.id, run.status)
            assert (final["result"], final["error"]) == (
                target.result if target.status == COMPLETED else None,
                target.error,
            )
            progress = [rows[task_id].progress for task_id in tree.tasks]
            assert final["tree_progress"] == pytest.approx(sum(progress) / len(progress), abs=1e-5)

    def _check_growth(self, tree: Tree, run: model.Run, log: list[model.Json]) -> None:
        """A task decides once what it adds, even if workers die; a loop decides once for each round."""
        found = Counter(event["task_id"] for event in log if event["type"] == "task_spawned")
        for task in tree.tasks.values():
            if task.script in (MAP, LOOP, SPAWN, STEPS) and task.id in run.todo:
                rounds = {
                    (part.step, part.id.rsplit("#", 1)[-1] if task.script == LOOP else "")
                    for part in tree.spawned(task.id)
                }
                most = len(rounds)
                assert found[task.id] <= most, f"{task} grew {found[task.id]} times"
                assert found[task.id] == most or not tree.has_grown_in(run, task.id)
        assert len(tree.tasks) == Task.objects.filter(root_id=tree.root_id).count()

    def _check_steps(self, tree: Tree, rows: Seen) -> None:
        """What a task decided in a step is what was done in it."""
        for part in [each for each in tree.tasks.values() if each.step]:
            assert part.spawned_by is not None
            if (result := rows[part.spawned_by].result) is not None:
                assert result["taken"][part.step - 1]["word"] == (rows[part.id].inputs or {})["word"]

    def _check_budget(self, tree: Tree, run: model.Run) -> None:
        """Each task that started is counted once, even if its worker died, and none beyond what was allowed."""
        limits = budget_of(Task.objects.get(id=tree.root_id).params)
        kept = RunBudget.objects.filter(run_id=run.id).first()
        if limits and kept:
            starts = TaskEvent.objects.filter(run_id=run.id, type="task_start").values_list("task_id", flat=True)
            started = {task_id for task_id in starts if tree.tasks[task_id].script not in GROUPS}
            allowed = (limits | kept.state.get("raised", {}))["tasks"]
            assert kept.state["tasks"] == len(started) <= allowed, (kept.state, limits, started)

    def _check_starts(self, tree: Tree, run: model.Run, rows: Seen) -> None:
        """Of a run that kept its worker we know how often each task was started."""
        started = Counter(TaskEvent.objects.filter(run_id=run.id, type="task_start").values_list("task_id", flat=True))
        executed = Counter(self._executed)
        for life in self._lives:
            executed.update(life.executed)
        for task in [tree.tasks[task_id] for task_id in run.todo]:
            row, attempts = rows[task.id], 0 if task.script in GROUPS else task.starts
            assert (started[task.id], row.started_at is not None) == (task.starts, task.starts > 0), task
            assert row.attempt == attempts, task
            times = executed[run.id, task.id]
            is_again = task.script == STEPS and times > attempts
            assert times == attempts or is_again or (times == 0 and task.status == IN_PROGRESS), (
                f"{task} was executed {times} times"
            )
