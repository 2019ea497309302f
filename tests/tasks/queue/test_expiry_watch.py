"""A clock that was set, a machine that slept or a database that did not answer end no lease of a live worker."""

import pytest

from tasks.queue.clock import ExpiryWatch

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db]


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_the_first_look_and_a_steady_clock_are_no_disturbance() -> None:
    watch = ExpiryWatch()
    assert [watch.may_expire() for _ in range(3)] == [True] * 3


@pytest.mark.parametrize("seconds", [-3600, 20], ids=["the clock went ahead", "the database did not answer"])
def test_after_a_disturbance_all_owners_have_time_to_renew(seconds: float) -> None:
    """It is the steady clock that moves here: the database's goes ahead by as much."""
    clock = Clock()
    watch = ExpiryWatch(steady=clock)
    assert watch.may_expire()
    clock.seconds += seconds
    assert not watch.may_expire()
    clock.seconds += 5
    assert not watch.may_expire()
    clock.seconds += 5.5
    assert watch.may_expire()


def test_sweeps_that_are_late_by_a_little_go_on() -> None:
    clock = Clock()
    watch = ExpiryWatch(steady=clock)
    assert watch.may_expire()
    clock.seconds += 5
    assert watch.may_expire()
