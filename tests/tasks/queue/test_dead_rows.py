"""Queries that dead rows make slow: how often they are made, and what is found meanwhile."""

from itertools import count

import pytest

from accounts.callers import LOCAL
from tasks.models import Run
from tasks.queue import leases
from tasks.queue.dead_rows import REST, SLACK, Beginning, Rest
from tasks.services import trees


class Clock:
    """A clock that moves by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_slow_query_is_not_made_again_for_ten_times_as_long_as_it_took() -> None:
    clock = Clock()
    rest = Rest(clock=clock, slow_seconds=0.5)
    with rest.after():
        clock.now += 0.4
    assert rest.is_over
    with rest.after():
        clock.now += 2
    assert not rest.is_over
    clock.now += 2 * REST - 0.1
    assert not rest.is_over
    clock.now += 0.2
    assert rest.is_over


@pytest.mark.both_engines
@pytest.mark.django_db
@pytest.mark.parametrize("rooms", [{}, {"local": 1}])
def test_a_run_with_a_low_turn_is_claimed_when_all_turns_are_looked_at_again(
    rooms: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, ticks = Clock(), count(1)
    slow = Rest(clock=lambda: clock.now + next(ticks) / 1000, slow_seconds=0)
    monkeypatch.setattr(leases, "_beginning", Beginning(slow))
    first, again, second = (trees.execute_tree(caller=LOCAL, tasks={"name": "one"}).run.id for _ in range(3))
    for run_id, turn in ((first, 1), (again, 1), (second, 2)):
        Run.objects.filter(id=run_id).update(turn=turn + 10 * SLACK)
    Run.objects.filter(id=again).update(turn=20 * SLACK)

    def claimed() -> list[str]:
        return [each.run_id for each in leases.claim(owner="a", limit=2, rooms=rooms)]

    assert leases.claim(owner="a", limit=1)[0].run_id == first
    Run.objects.filter(id=again).update(turn=3)  # it waits again
    assert claimed() == [second]
    assert claimed() == []
    clock.now += 60
    assert claimed() == [again]
