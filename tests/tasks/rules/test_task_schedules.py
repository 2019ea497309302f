"""Schedules as apflow 0.18 writes them: every type there and back, and what is refused."""

from typing import Any

import pytest

from tasks.rules.exceptions import InvalidParams
from tasks.rules.schedules import Timing
from tasks.rules.task_schedules import problems, shown, timing_of


@pytest.mark.parametrize(
    ("kind", "written", "timing", "read"),
    [
        ("interval", "3600", {"every_seconds": 3600}, "3600"),
        ("cron", "0 9 * * 1-5", {"cron": "0 9 * * 1-5"}, "0 9 * * 1-5"),
        ("cron", "0 9 * * *", {"cron": "0 9 * * *"}, "0 9 * * *"),
        ("daily", "09:00", {"cron": "0 9 * * *"}, "09:00"),
        ("daily", " 9:05 ", {"cron": "5 9 * * *"}, "09:05"),
        ("weekly", "1,3,5 09:00", {"cron": "0 9 * * 1,3,5"}, "1,3,5 09:00"),
        ("weekly", "7 23:59", {"cron": "59 23 * * 0"}, "7 23:59"),
        ("monthly", "1,15 09:00", {"cron": "0 9 1,15 * *"}, "1,15 09:00"),
        ("monthly", "31 00:00", {"cron": "0 0 31 * *"}, "31 00:00"),
    ],
)
def test_each_type_is_written_and_read(kind: str, written: str, timing: dict[str, Any], read: str) -> None:
    assert timing_of(kind, written) == timing
    assert shown(Timing(**({"starts_at": None} | timing)), kind) == (kind, read)


@pytest.mark.parametrize("kind", ["daily", "weekly", "monthly"])
def test_a_cron_that_has_not_the_form_of_its_type_any_more_is_a_cron(kind: str) -> None:
    assert shown(Timing(cron="*/5 9 * * *"), kind) == ("cron", "*/5 9 * * *")
    assert shown(Timing(cron="0 9 * 2 1-5"), kind) == ("cron", "0 9 * 2 1-5")
    assert shown(Timing(every_seconds=60), kind) == ("interval", "60")


@pytest.mark.parametrize(
    ("kind", "expression", "field"),
    [
        ("hourly", "1", "schedule_type"),
        *(("interval", text, "schedule_expression") for text in ("0", "-1", "1.5", "2147483648", "a", "", "9" * 200)),
        *(("daily", text, "schedule_expression") for text in ("24:00", "9", "09:60", "09:00:00", "٠٩:٠٠")),
        *(("weekly", text, "schedule_expression") for text in ("0 09:00", "8 09:00", "1,,2 09:00", "09:00", "1 9")),
        *(("monthly", text, "schedule_expression") for text in ("0 09:00", "32 09:00", "1-3 09:00")),
    ],
)
def test_other_forms_are_refused_by_field(kind: str, expression: str, field: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        timing_of(kind, expression)
    assert [path for path, _ in caught.value.problems] == [field]


def test_values_of_another_kind_are_named() -> None:
    wrong = {"schedule_type": 1, "schedule_expression": "9" * 256, "schedule_enabled": "yes", "max_runs": True}
    found = [path for path, _ in problems(wrong, where="tasks[0].")]
    assert found == [
        "tasks[0].schedule_type",
        "tasks[0].schedule_expression",
        "tasks[0].schedule_enabled",
        "tasks[0].max_runs",
    ]
    assert not list(problems({"schedule_type": "", "schedule_enabled": None, "max_runs": 1}))
