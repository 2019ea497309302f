"""The rule book, by property: whatever is asked of the server, and whenever its workers die, trees become what the model says.

`RULES_EXAMPLES` and `RULES_STEPS` try more; `RULES_SEED` tries the same examples every time, and looks for no shorter one.
"""

import os

import pytest
from django.db import transaction
from django_q.models import OrmQ
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from accounts.callers import LOCAL
from tasks.models import CancelRequest, Run, Task
from tasks.queue import leases
from tasks.rules.exceptions import StatusConflict
from tasks.services import trees
from tasks.services.runs import cancels
from tasks.services.trees import editing
from tests.tasks.drawn import EDITABLE, NUMBER, SHAPE, Shape
from tests.tasks.lives import Fuse, Stage
from tests.tasks.model import CANCELLED, COMPLETED, FAILED, IN_PROGRESS, OVER, PENDING, WAITS
from tests.tasks.play import MESSAGE, Play

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
MODES = ["minimal", "full", "custom", "execution", "fork"]
"""Of copies: those of `tasks.copy`, and those that are executed."""
TREE = st.integers(0, 3)
YES = st.booleans()
TOLD = st.sampled_from(["ok", "ok", "fail", "raise"])


class Rules(Play):
    """Every rule is given numbers and finds its subject by them, so that what is drawn never depends on what the workers did."""

    @initialize(stored=SHAPE, executed=SHAPE)
    def begin(self, stored: Shape, executed: Shape) -> None:
        self._create(stored, execute=False)
        self._create(executed, execute=True)
        self._settle()

    # --- what is asked of the server ---

    @rule(shape=SHAPE, execute=YES)
    def create(self, shape: Shape, execute: bool) -> None:
        self._create(shape, execute=execute)
        self._settle()

    @rule(tree=TREE, task=NUMBER)
    def execute(self, tree: int, task: int) -> None:
        of, task_id = self._at(tree, task)
        if of.run is None and task_id in of.templates():
            with pytest.raises(StatusConflict):
                trees.execute_task(caller=LOCAL, task_id=task_id)
            return
        execution = trees.execute_task(caller=LOCAL, task_id=task_id)
        assert execution.started is (of.run is None)
        if of.run is None:
            of.execute(execution.run.id, task_id)
        assert of.run is not None
        assert execution.run.id == of.run.id
        self._settle()

    @rule(number=NUMBER, what=TOLD)
    def tell(self, number: int, what: str) -> None:
        if found := self._hanging(number):
            self._tell(*found, what)
        self._settle()

    @rule(tree=TREE)
    def finish(self, tree: int) -> None:
        """All that hangs in a tree is told to end well, one after the other."""
        of, _ = self._at(tree, 0)
        while of.run and (live := [each for each in of.run.live if of.tasks[each].status == IN_PROGRESS]):
            self._tell(of, min(live), "ok")
            self._settle()

    @rule(tree=TREE, number=NUMBER, what=TOLD)
    def send_an_event(self, tree: int, number: int, what: str) -> None:
        """To what waits for it, to what will, or to what has long taken another one."""
        of, _ = self._at(tree, 0)
        if of.run and (found := [each for each in sorted(of.run.todo) if of.tasks[each].script == "event"]):
            task_id = found[number % len(found)]
            self._send(of, task_id, what)
            self._send(of, task_id, "raise")
            self._settle()

    @rule(number=NUMBER)
    def let_a_wait_expire(self, number: int) -> None:
        found = self._hanging(number)
        if found and found[0].tasks[found[1]].script in ("event", "wait"):
            self._let_expire(*found)
            self._settle()

    @rule(number=NUMBER, above=st.integers(0, 2), force=YES, what=TOLD)
    def cancel_what_hangs(self, number: int, above: int, force: bool, what: str) -> None:
        """Or what is one or two levels above it. What does not stop then ends when it likes, and nobody listens."""
        if found := self._hanging(number):
            of, task_id = found
            for _ in range(above):
                task_id = of.tasks[task_id].parent_id or task_id
            asked = self._cancel(of, task_id, force=force)
            self._settle()
            self._check_answers(asked)
            self._end_what_was_left(of, what)
            self._settle()

    @rule(tree=TREE, task=NUMBER, force=YES)
    def cancel(self, tree: int, task: int, force: bool) -> None:
        asked = self._cancel(*self._at(tree, task), force=force)
        self._settle()
        self._check_answers(asked)

    @rule(number=NUMBER, what=TOLD)
    def cancel_while_it_ends(self, number: int, what: str) -> None:
        """Who comes first decides, and nobody decides half of it."""
        of, task_id = self._hanging(number) or self._at(number, 0)
        is_live = of.run is not None and task_id in of.run.live and of.tasks[task_id].script not in WAITS
        if of.run is None or not is_live or of.waiting([task_id]) | of.below(task_id) != {task_id}:
            return
        holder = self._holder(of.run.id)
        holder.tell(of.run.id, task_id, what)
        cancels.ask(caller=LOCAL, task_ids=[task_id], force=False, message=MESSAGE)
        self._stage.until_nothing(
            lambda: (
                not holder.journal_ended.is_set() and Task.objects.get(id=task_id).status not in OVER and "it goes on"
            )
        )
        if Task.objects.get(id=task_id).status in (COMPLETED, FAILED):
            self._tell(of, task_id, what)
        elif Task.objects.get(id=task_id).status == CANCELLED:
            of.cancel(task_id, MESSAGE)
        else:  # the request survives its worker
            self._bury()
            of.cancel(task_id, MESSAGE)
        self._settle()

    @rule(tree=TREE, task=NUMBER, mode=st.sampled_from(MODES), children=YES)
    def copy(self, tree: int, task: int, mode: str, children: bool) -> None:
        with transaction.atomic():  # nobody runs the copy before we have seen it
            self._copy(*self._at(tree, task), mode, children)
        self._settle()

    @rule(tree=TREE, task=NUMBER, script=st.sampled_from(["ok", "raise", "hang"]))
    def update(self, tree: int, task: int, script: str) -> None:
        of, task_id = self._at(tree, task)
        subject = of.tasks[task_id]
        inputs = {**subject.inputs, "script": script, "word": len(self._over)}
        if subject.status != PENDING or of.run is not None:
            with pytest.raises(StatusConflict):
                editing.update_task(caller=LOCAL, task_id=task_id, changes={"inputs": inputs})
        elif subject.script in EDITABLE:
            editing.update_task(caller=LOCAL, task_id=task_id, changes={"inputs": inputs})
            subject.inputs = inputs
        self._settle()

    @rule(tree=TREE, task=NUMBER, force=YES)
    def delete(self, tree: int, task: int, force: bool) -> None:
        self._delete(*self._at(tree, task), force=force)
        self._settle()

    # --- what happens to workers ---

    @rule(life=NUMBER, items=st.integers(0, 6), after=YES)
    def let_the_journal_die_soon(self, life: int, items: int, after: bool) -> None:
        self._lives[life % len(self._lives)].fuse = Fuse(items=items, after=after)

    @rule(life=NUMBER, how=st.sampled_from(["killed", "drained", "late", "undead"]), what=TOLD)
    def lose_a_worker(self, life: int, how: str, what: str) -> None:
        lost = self._lives[life % len(self._lives)]
        if how == "drained":
            self._leave(lost)
        elif how == "late":  # it slept for too long, and may be the first to notice
            self._expire(lost)
        elif how == "undead":
            self._come_back_from_the_dead(lost, what)
        else:
            lost.kill()
            self._bury()
        self._settle()

    @rule(wake_ups=NUMBER, join=YES)
    def wake_in_vain(self, wake_ups: int, join: bool) -> None:
        """Wake-ups that are not needed, and the rounds that every process makes now and then."""
        if join and len(self._lives) < 2:
            self._bear()
        leases.sweep()
        cancels.forget_finished()
        assert not CancelRequest.objects.exclude(run_id__in=Run.objects.unfinished().values("id")).exists()
        for tree in self._trees[:wake_ups]:
            leases.enqueue(tree.run.id if tree.run else "a run that is no more")
        self._settle()

    @rule(shape=SHAPE, cancelled=NUMBER, is_lost=YES)
    def execute_while_nobody_works(self, shape: Shape, cancelled: int, is_lost: bool) -> None:
        """And perhaps cancel some of it, and perhaps lose the wake-up."""
        while self._lives:
            self._leave(self._lives[0], alone=True)
            if self._lives:
                self._settle()  # the other one takes over, or one that replaces it
        self._create(shape, execute=True)
        asked = self._cancel(*self._at(0, cancelled)) if cancelled % 2 else []
        if is_lost:
            OrmQ.objects.all().delete()
            self._sweep()
        self._bear()
        self._settle()
        self._check_answers(asked)


@pytest.mark.timeout(0)
def test_trees_become_what_the_rules_say(stage: Stage) -> None:
    has_seed = "RULES_SEED" in os.environ
    test = settings(
        max_examples=int(os.environ.get("RULES_EXAMPLES", "8")),
        stateful_step_count=int(os.environ.get("RULES_STEPS", "30")),
        phases=[Phase.generate] if has_seed else [Phase.generate, Phase.shrink],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )

    @seed(int(os.environ["RULES_SEED"]) if has_seed else None)
    def machine() -> Rules:
        return Rules(stage)

    run_state_machine_as_test(machine, settings=test)  # type: ignore[arg-type]  # any factory will do


def test_a_task_is_not_deleted_for_being_pending_alone(stage: Stage) -> None:
    """A case that is drawn once in thousands: something below a pending task has run by itself."""
    rules = Rules(stage)
    rules._create([("group", 0, [], False), ("group", 0, [], False), ("ok", 1, [], False)], execute=False)
    rules.execute(tree=0, task=2)
    tree, task_id = rules._at(0, 1)
    assert [tree.tasks[each].status for each in (task_id, list(tree.tasks)[2])] == [PENDING, COMPLETED]
    for force in (False, True):
        rules.delete(tree=0, task=1, force=force)
    rules.teardown()
