"""Named limits: rates beside models that know all that has happened, and what is a valid configuration."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.rules.limits import Limit, Rate, id_of, passed, problems, read_limits, waiting_for

RATES = st.builds(Rate, st.integers(1, 100_000), st.sampled_from([1.0, 60.0]))
NOW = datetime(2027, 1, 1, tzinfo=UTC)


def most_in(rate: Rate, seconds: float) -> float:
    """The units that may have been taken in a time of this length."""
    return seconds / rate.interval + rate.burst


@given(RATES, st.lists(st.tuples(st.floats(0, 90), st.integers(1, 200)), max_size=60))
def test_no_time_has_more_than_its_rate_and_a_burst(rate: Rate, asked: list[tuple[float, int]]) -> None:
    """The model has each unit with its time, and looks at the time between any two of them."""
    now, debt, taken = 0.0, 0.0, list[tuple[float, int]]()
    for pause, wanted in asked:
        now, debt = now + pause, max(0.0, debt - pause)
        count = min(wanted, rate.room(debt))
        debt = rate.taken(debt, count)
        taken.append((now, count))
    for first, (begin, _) in enumerate(taken):
        units = 0
        for end, count in taken[first:]:
            units += count
            assert units <= most_in(rate, end - begin) + 1e-6 * units


@given(RATES, st.floats(0, 200), st.integers(1, 300), st.integers(0, 300))
def test_a_task_that_waits_as_long_as_it_should_finds_room_and_no_earlier(
    rate: Rate, owed: float, units: int, ahead: int
) -> None:
    seconds = rate.wait(owed, units=min(units, rate.burst))
    left = max(0.0, owed - seconds)
    assert rate.room(left) >= min(units, rate.burst)
    if seconds > rate.interval:
        assert rate.room(owed - seconds + rate.interval * 1.001) < min(units, rate.burst)
    assert rate.wait(owed, ahead=ahead) == pytest.approx(max(0.0, owed + (ahead + 1 - rate.burst) * rate.interval))


@given(RATES, st.integers(1, 5000))
def test_while_tasks_wait_nothing_of_the_rate_is_lost(rate: Rate, tasks: int) -> None:
    """Each starts at the moment that the rate names, and the last one when the rate says so."""
    now = debt = 0.0
    for _ in range(min(tasks, 500)):
        seconds = rate.wait(debt)
        now, debt = now + seconds, rate.taken(max(0.0, debt - seconds), 1)
    expected = max(0, min(tasks, 500) - rate.burst) * rate.interval
    assert now == pytest.approx(expected, rel=1e-6, abs=1e-6)


CALLS = st.lists(
    st.tuples(st.floats(0, 20), st.integers(0, 3000), st.integers(0, 3000), st.floats(0, 30)), min_size=1, max_size=30
)


@given(st.integers(100, 200_000), CALLS)
def test_settled_calls_owe_at_least_as_much_as_if_their_use_had_been_known(
    per_minute: int, calls: list[tuple[float, int, int, float]]
) -> None:
    """Calls of (pause before, reserved, used, length) overlap. Once all are settled, no debt is lower than that of the model."""
    rate = Rate(per_minute, 60.0)
    moments = list[tuple[float, str, int]]()
    begin = 0.0
    for number, (pause, _, _, length) in enumerate(calls):
        begin += pause
        moments += [(begin, "begin", number), (begin + length, "end", number)]
    moments.sort(key=lambda moment: moment[0])
    begins = {number: at for at, kind, number in moments if kind == "begin"}
    debt = known = Fraction(0)
    open_calls = set[int]()
    for (at, kind, number), following in pairwise([*moments, (moments[-1][0], "", -1)]):
        _, reserved, used, _ = calls[number]
        interval = Fraction(rate.seconds) / per_minute
        if kind == "begin":
            open_calls.add(number)
            debt = Fraction(rate.taken(float(debt), reserved))
            known += used * interval
        else:
            open_calls.discard(number)
            ago = at - begins[number]
            debt = Fraction(rate.settled(float(debt), reserved=reserved, used=used, seconds_ago=ago))
        missing = sum(max(0, calls[each][2] - calls[each][1]) for each in open_calls) * interval
        assert float(debt + missing) >= float(known) - 1e-6 * (1 + float(known))
        step = Fraction(following[0] - at)
        debt, known = max(Fraction(0), debt - step), max(Fraction(0), known - step)


def test_an_exact_estimate_changes_nothing_and_a_low_one_is_made_up_for() -> None:
    rate = Rate(600, 60.0)
    assert rate.settled(3.0, reserved=20, used=20, seconds_ago=1.0) == 3.0
    assert rate.settled(3.0, reserved=20, used=30, seconds_ago=99.0) == pytest.approx(4.0)
    assert rate.settled(3.0, reserved=20, used=5, seconds_ago=0.5) == pytest.approx(2.0)
    assert rate.settled(3.0, reserved=20, used=5, seconds_ago=1.5) == pytest.approx(3.0)


HOUR = 3600.0


@pytest.mark.parametrize(
    ("by_database", "by_steady_clock", "seconds"),
    [(5.0, 5.001, 5.0), (HOUR, 1.0, 1.0), (-HOUR, 1.0, 0.0), (0.0, 60.0, 0.0), (HOUR, HOUR, HOUR)],
)
def test_a_clock_that_is_set_pays_no_debt(by_database: float, by_steady_clock: float, seconds: float) -> None:
    now = NOW + timedelta(seconds=by_database)
    assert passed(NOW, now, looked_at=NOW, seconds_ago=by_steady_clock) == seconds
    assert passed(NOW - timedelta(hours=1), now, looked_at=NOW, seconds_ago=by_steady_clock) == 0.0


LOOKS = st.lists(
    st.tuples(st.floats(0.01, 5), st.sampled_from([0.0, 0.0, 0.0, HOUR, -HOUR]), st.integers(0, 1)), max_size=40
)


@given(st.integers(1, 6000), LOOKS)
def test_processes_let_no_more_through_when_the_clock_of_the_database_is_set(
    per_minute: int, looks: list[tuple[float, float, int]]
) -> None:
    """Two processes share a row, and have looked at it before. The model has the true time."""
    rate = Rate(per_minute, 60.0)
    true, clock = 0.0, NOW
    seen_at, debt = NOW, 0.0
    last_looks = [(NOW, 0.0), (NOW, 0.0)]
    taken = list[tuple[float, int]]()
    for pause, jump, process in looks:
        true += pause
        clock += timedelta(seconds=pause + jump)
        then, true_then = last_looks[process]
        seconds = passed(seen_at, clock, looked_at=then, seconds_ago=true - true_then)
        debt = max(0.0, debt - seconds)
        seen_at, last_looks[process] = clock, (clock, true)
        count = rate.room(debt)
        debt = rate.taken(debt, count)
        taken.append((true, count))
    for first, (begin, _) in enumerate(taken):
        units = 0
        for end, count in taken[first:]:
            units += count
            assert units <= most_in(rate, end - begin) + 1e-4 * units


def test_a_valid_configuration() -> None:
    limits = read_limits(
        {
            "crm": {"match": {"host": "crm.example.com"}, "requests_per_second": 10, "requests_per_minute": 60},
            "each": {"match": {"executor": "llm_executor", "pool": "loop"}, "requests_per_minute": 600, "per": "user"},
            "named": {"requests_per_minute": 1},
            "few": {"match": {"pool": "process"}, "at_once": 4},
            "paused": {"match": {"tag": "nightly"}, "at_once": 0},
            "tokens": {"match": {"model": "openai/gpt-x"}, "tokens_per_minute": 6000},
            "openai": {"match": {"provider": "openai", "executor": "crewai_executor"}, "requests_per_minute": 60},
        }
    )
    facts = {"executor": ["llm_executor"], "pool": ["loop"], "host": ["crm.example.com"], "tag": ["a", "nightly"]}
    assert [name for name, limit in limits.items() if limit.matches(facts)] == ["crm", "each", "paused"]
    assert not limits["each"].matches({"executor": ["llm_executor"], "pool": ["thread"]})
    assert (limits["each"].late, limits["tokens"].late) == (5, 4)
    assert [limits["few"].fits({}, held=held) for held in (0, 3, 4, 5)] == [True, True, False, False]
    assert [limits["paused"].fits({}), limits["paused"].is_paused, limits["few"].is_paused] == [False, True, False]
    assert [name for name, limit in limits.items() if limit.is_for_calls] == ["tokens", "openai"]
    debts = limits["tokens"].taken({}, tokens=1500)
    assert debts == {"tokens_per_minute": pytest.approx(15.0)}
    assert not limits["tokens"].fits(debts, tokens=1)
    assert limits["tokens"].wait(debts, tokens=10) == pytest.approx(14.5)
    assert limits["tokens"].wait(debts, tokens=9000) == pytest.approx(15.0)
    assert limits["few"].wait({}) == 0.0
    assert limits["crm"].key_of({"user": ["alice"]}) == "crm"
    alice, bob = (limits["each"].key_of({"user": [user * 255]}) for user in "ab")
    assert alice != bob
    assert id_of(alice) == "each"
    assert len(alice) <= 100


@pytest.mark.parametrize(
    ("given_limits", "fault"),
    [
        ({"a b": {}}, "'a b' is no name of a limit"),
        ({"x": 5}, "'x' is not a mapping"),
        (
            {"x": {}},
            "'x' limits nothing: it needs requests_per_second, requests_per_minute, tokens_per_minute or at_once",
        ),
        (
            {"x": {"request_per_minute": 5}},
            "'x' has the key 'request_per_minute', which is unknown; did you mean 'requests_per_",
        ),
        (
            {"x": {"requests_per_minute": 0}},
            "requests_per_minute of 'x' must be a whole number from 1 to 1,000,000,000",
        ),
        ({"x": {"requests_per_minute": True}}, "must be a whole number"),
        (
            {"x": {"requests_per_minute": 5, "match": {"hosts": "a"}}},
            "match of 'x' has the key 'hosts', which is unknown; did you mean 'host'?",
        ),
        (
            {"x": {"requests_per_minute": 5, "match": {"host": 5}}},
            "match of 'x' must be a mapping of executor, pool, host, flow, tag, user, provider, model, key and texts",
        ),
        (
            {"x": {"requests_per_minute": 5, "per": "tag"}},
            "per of 'x' must be user, key, flow or a place, such as {{inputs",
        ),
        (
            {"x": {"match": {"model": "m"}, "at_once": 5}},
            "'x' limits calls of models, whose at_once can only be 0",
        ),
        (
            {"x": {"match": {"model": "m", "pool": "loop"}, "requests_per_minute": 5}},
            "match of 'x', a limit of calls of models, has the key 'pool', which is unknown",
        ),
    ],
)
def test_an_invalid_configuration_is_refused_by_name(given_limits: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match="^.*" + fault.replace("?", r"\?")):
        read_limits(given_limits)


def test_both_rates_of_a_limit_hold() -> None:
    limit = Limit(name="x", rates={"requests_per_second": Rate(10, 1.0), "requests_per_minute": Rate(60, 60.0)})
    debts = limit.taken({})
    assert not limit.fits(debts)
    assert limit.wait(debts) == pytest.approx(1.0)
    assert limit.wait(debts, ahead=59) == pytest.approx(60.0)
    assert limit.fits(limit.after(debts, 1.0))


def test_a_name_that_is_no_limit_is_refused_with_the_nearest_one() -> None:
    assert list(problems(["crm"], {"crm": {}})) == []
    ((field, problem),) = problems(["crn"], {"crm": {}, "gpu": {}})
    assert field == "limits"
    assert problem.endswith("Did you mean 'crm'?")
    ((_, problem),) = problems(["x"], {})
    assert problem.endswith("There are: none.")


@pytest.mark.parametrize(("seconds", "text"), [(0.05, "about 1 s"), (11.2, "about 12 s"), (3599.0, "about 60 min")])
def test_the_reason_of_a_wait(seconds: float, text: str) -> None:
    crm = Limit(name="crm", at_once=1)
    assert waiting_for(crm, seconds) == f"for limit crm, {text}"
    assert waiting_for(crm, 0.0) == "for limit crm"
    assert waiting_for(Limit(name="crm", at_once=0), 5.0) == "for limit crm, which lets nothing start (at_once: 0)"
