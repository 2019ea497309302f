"""Several processes fire schedules, and die at any step: each time is run once. And a model of what is due."""

import os
import signal
import threading
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Final

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from tasks.models import Firing, Run, Schedule, Task
from tasks.queue import clock
from tasks.rules.firings import ON_TIME, CatchUp, Policy, plan
from tasks.rules.schedules import Timing
from tasks.services.schedules import due_schedules, firings
from tests.fork_server import run_code
from tests.servers import until
from tests.tasks.schedules.conftest import NOON, make, sweep
from tests.tasks.trees import ALICE, BOB

PROGRAM: Final = """
import os, signal, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "apflow_site.settings"
import django
django.setup()
from tasks.services.schedules import firings

firings.MOST_SECONDS = 60

def dying_after(function):
    def dies(*args, **kwargs):
        function(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    return dies

step = sys.argv[1]
if step == "commit":
    firings._with_locked = dying_after(firings._with_locked)
else:
    setattr(firings.Sweep, step, dying_after(getattr(firings.Sweep, step)))
firings.fire_due()
"""


def due_now(count: int) -> list[Schedule]:
    """Schedules of two users that are due, by the real clock."""
    made = [make(caller=(ALICE, BOB)[number % 2], every_seconds=3600) for number in range(count)]
    past = clock.database_time() - timedelta(seconds=1)
    Schedule.objects.update(starts_at=past, next_slot=past, next_run_at=past)
    return made


def database_url() -> str:
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    url, mark, options = os.environ["AIPARTNERUPFLOW_DATABASE_URL"].partition("?")
    return f"{url.rpartition('/')[0]}/{name}{mark}{options}"


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("step", ["_plan", "_start", "save", "commit"])
def test_a_process_that_is_killed_at_any_step_has_done_all_or_nothing(step: str, test_executors: None) -> None:
    due_now(3)
    env = {**os.environ, "AIPARTNERUPFLOW_DATABASE_URL": database_url()}
    assert run_code(PROGRAM, step, env=env).returncode == -signal.SIGKILL
    done = 3 if step == "commit" else 0
    assert [model.objects.count() for model in (Firing, Run, Task)] == [done] * 3
    assert Schedule.objects.filter(next_run_at__lte=clock.database_time()).count() == 3 - done

    def are_all_fired() -> bool:
        """PostgreSQL notices late that the process is dead, and keeps what it locked until then."""
        sweep()
        return Firing.objects.count() == 3

    until(are_all_fired, seconds=60, what="three firings")
    assert [model.objects.count() for model in (Firing, Run, Task)] == [3] * 3


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_many_that_fire_at_once_start_each_run_once(test_executors: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firings, "BATCH", 5)
    made = due_now(60)
    begin = threading.Barrier(4)
    fired: list[int] = []

    def fire() -> None:
        begin.wait()
        while due_schedules.overdue(0):
            fired.append(firings.fire_due())
        connection.close()

    threads = [threading.Thread(target=fire) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(fired) == 60
    assert sorted(Firing.objects.values_list("schedule_id", flat=True)) == sorted(each.id for each in made)
    assert Run.objects.count() == 60


# --- a model ---

TIMINGS = st.one_of(
    st.builds(
        lambda seconds, jitter: Timing(every_seconds=seconds, starts_at=NOON, jitter_seconds=jitter, key="a"),
        st.integers(20, 4000),
        st.integers(0, 3000),
    ),
    st.builds(
        lambda cron, jitter: Timing(cron=cron, timezone="Europe/Berlin", jitter_seconds=jitter, key="b"),
        st.sampled_from(["*/7 * * * *", "0 * * * *", "13,14 */2 * * *"]),
        st.integers(0, 3000),
    ),
)
POLICIES = st.builds(
    lambda catch_up, seconds: Policy(catch_up=catch_up, window=timedelta(seconds=seconds)),
    st.sampled_from(CatchUp),
    st.integers(0, 10_000),
)
LATER = st.integers(0, 20_000).map(lambda seconds: timedelta(seconds=seconds))


@given(TIMINGS, POLICIES, LATER)
def test_what_is_due_is_what_a_simple_model_says(timing: Timing, policy: Policy, later: timedelta) -> None:
    next_slot = timing.next_slot(NOON)
    assert next_slot is not None
    now = timing.due_at(next_slot) + later
    due = list(takewhile(lambda slot: timing.due_at(slot) <= now, timing.slots(NOON)))
    patience = ON_TIME if policy.catch_up is CatchUp.NONE else max(ON_TIME, policy.window)
    in_time = [slot for slot in due if now - timing.due_at(slot) <= patience]
    expected = in_time if policy.catch_up is CatchUp.ALL else [slot for slot in in_time if slot == due[-1]]
    found = plan(timing, policy, next_slot=next_slot, now=now, most=10_000)
    assert list(found.due) == expected
    assert found.following == timing.next_slot(due[-1])
    assert [missed.slot for missed in found.missed] == ([next_slot] if next_slot not in expected else [])


@given(TIMINGS, st.lists(LATER, min_size=1, max_size=8), st.integers(1, 5))
def test_however_often_one_looks_every_time_is_run_once(timing: Timing, looks: list[timedelta], most: int) -> None:
    policy = Policy(catch_up=CatchUp.ALL, window=timedelta(days=30))
    next_slot, now = timing.next_slot(NOON), NOON
    ran: list[datetime] = []
    assert next_slot is not None
    for later in looks:
        now += later
        while next_slot is not None and timing.due_at(next_slot) <= now:
            found = plan(timing, policy, next_slot=next_slot, now=now, most=most)
            assert not found.missed
            ran += found.due
            next_slot = found.following
    assert ran == list(takewhile(lambda slot: timing.due_at(slot) <= now, timing.slots(NOON)))
