"""Every order in which two workers, the clock, the sweeper and somebody who cancels can come one after another to one run.

Each of them is the database verb of the real thing, one transaction each; what they have in hand in between may be out of date.
All orders that begin in the same way share that beginning: it is rolled back, not repeated.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import pytest
from django.db import transaction
from django.db.models.functions import Now

from accounts.callers import LOCAL
from tasks import events
from tasks.models import Run, Task
from tasks.queue import leases
from tasks.queue.leases import Claim
from tasks.rules.exceptions import LeaseLost
from tasks.services import trees
from tasks.services.runs import cancels
from tasks.status import TERMINAL, Status
from tasks.storage.bulk import db_time
from tasks.worker.changes import Change, RunClosed, TaskFinished, TaskStarted
from tasks.worker.commit import commit

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(3600)]
Hands = Mapping[str, Claim]
"""Which worker thinks that it has the run, and since which epoch."""
Step = Callable[[Hands], Hands]
Actors = tuple[tuple[Step, ...], ...]


def claim(owner: str, hands: Hands) -> Hands:
    return {**hands, **dict(zip([owner], leases.claim(owner=owner, limit=1), strict=False))}


def start(owner: str, hands: Hands) -> Hands:
    now = db_time(datetime.now(UTC))
    change = _change(hands, owner, "task_start", partial(TaskStarted, task_id="a", attempt=1, at=now))
    return _written(owner, hands, change)


def finish(owner: str, hands: Hands) -> Hands:
    """The task ends, unless it is to be cancelled: then it is, by whoever holds the run, who runs no task again that has ended."""
    if owner in hands and _holds(hands[owner]) and Task.objects.get(id="a").status in TERMINAL:
        return hands
    now = db_time(datetime.now(UTC))
    status = Status.CANCELLED if cancels.pending_cancels() else Status.COMPLETED
    change = _change(hands, owner, f"task_{status}", partial(TaskFinished, task_id="a", status=status, at=now))
    return _written(owner, hands, change)


def close(owner: str, hands: Hands) -> Hands:
    """The run ends as its task did, if that has ended."""
    status = Task.objects.get(id="a").status
    if status not in ("completed", "cancelled") or owner not in hands:
        return hands
    now = db_time(datetime.now(UTC))
    return _written(owner, hands, _change(hands, owner, "final", partial(RunClosed, status=status, at=now)))


def _change(hands: Hands, owner: str, type_: str, make: Callable[..., Change]) -> Change | None:
    if owner not in hands:
        return None
    return make(
        run_id=hands[owner].run_id,
        epoch=hands[owner].epoch,
        token=hands[owner].token,
        event={"type": type_, "task_id": "a"},
    )


def _holds(given: Claim | Change) -> bool:
    """Return whether the run is still that of this claim."""
    return Run.objects.filter(id=given.run_id, epoch=given.epoch, claim_token=given.token, finished_at=None).exists()


def _written(owner: str, hands: Hands, change: Change | None) -> Hands:
    """A worker drops the run when its write is refused, and only then; and it is refused just when another one has claimed."""
    if change is None:
        return hands
    is_current = _holds(change)
    (error,) = commit([change])
    assert isinstance(error, LeaseLost) is not is_current
    return {name: held for name, held in hands.items() if name != owner or is_current}


def expire(hands: Hands) -> Hands:
    Run.objects.unfinished().exclude(lease_owner=None).update(lease_expires_at=Now() - timedelta(seconds=1))
    return hands


def sweep(hands: Hands) -> Hands:
    leases.sweep()
    return hands


def ask(hands: Hands) -> Hands:
    """Whoever is answered while the task is open is obeyed."""
    cancels.ask(caller=LOCAL, task_ids=["a"], force=False, message="Never mind")
    return hands


def worker(owner: str, *steps: Callable[[str, Hands], Hands]) -> tuple[Step, ...]:
    return tuple(partial(step, owner) for step in steps)


AT_NIGHT: Final = (pytest.mark.nightly, pytest.mark.both_engines)
LONGEST: Final = "a cancellation arrives, and both work to the end"
"""It has the steps of the others."""
SWEPT: Final = "a lease ends and is swept"
"""The sweep is in every order, too: at its end."""
ENDED: Final = "a lease ends"
MARKS: Final = {LONGEST: AT_NIGHT, SWEPT: AT_NIGHT, ENDED: (pytest.mark.both_engines_nightly,)}
ORDERS: dict[str, tuple[Actors, int]] = {
    "two workers race": ((worker("A", claim, start, finish, close), worker("B", claim, start, finish, close)), 70),
    ENDED: ((worker("A", claim, start, finish, close), worker("B", claim, finish, close), (expire,)), 280),
    SWEPT: (
        (worker("A", claim, finish, close), worker("B", claim, finish, close), (expire, sweep)),
        560,
    ),
    "a cancellation arrives": ((worker("A", claim, start, finish), worker("B", claim), (expire,), (ask,)), 120),
    LONGEST: (
        (worker("A", claim, start, finish, close), worker("B", claim, finish), (expire,), (ask,)),
        840,
    ),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=MARKS.get(name, (pytest.mark.both_engines,))) for name in ORDERS],
)
def test_in_every_order_the_run_ends_once_and_as_it_was_asked(name: str) -> None:
    trees.execute_tree(caller=LOCAL, tasks={"id": "a", "name": "echo_executor"})
    actors, orders = ORDERS[name]
    assert _explore({}, actors, was_open=True, is_asked=False) == orders


def _explore(hands: Hands, actors: Actors, *, was_open: bool, is_asked: bool) -> int:
    """Returns how many orders there are from here on."""
    if not any(actors):
        _end(hands, is_asked=is_asked)
        return 1
    orders = 0
    for number, steps in enumerate(actors):
        if steps:
            with _undone():
                asked_in_time = is_asked or (steps[0] is ask and was_open)
                now = steps[0](hands)
                _check(was_open=was_open)
                is_open = Task.objects.get(id="a").status in ("pending", "in_progress")
                left = (*actors[:number], steps[1:], *actors[number + 1 :])
                orders += _explore(now, left, was_open=is_open, is_asked=asked_in_time)
    return orders


@contextmanager
def _undone() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def _check(*, was_open: bool) -> None:
    run = Run.objects.get()
    log = events.read(run_id=run.id)
    assert [event["seq"] for event in log] == list(range(1, run.last_seq + 1))
    told = Counter(event["type"] for event in log)
    status = Task.objects.get(id="a").status
    is_open = status in ("pending", "in_progress")
    assert was_open or not is_open
    assert told["task_completed"] + told["task_cancelled"] == (0 if is_open else 1)
    assert is_open or told[f"task_{status}"] == 1
    assert told["final"] == (run.finished_at is not None)


def _end(hands: Hands, *, is_asked: bool) -> None:
    """Time goes by, and somebody who is well does what is left."""
    with _undone():
        sweep(expire(hands))
        now = claim("C", hands)
        for step in (finish, close):
            if Task.objects.get(id="a").status in ("pending", "in_progress") or step is close:
                now = step("C", now)
        _check(was_open=False)
        run = Run.objects.get()
        assert run.finished_at is not None
        assert (run.lease_owner, run.lease_expires_at) == (None, None)
        assert run.status == Task.objects.get(id="a").status == ("cancelled" if is_asked else "completed")
