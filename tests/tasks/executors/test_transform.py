"""transform_executor: what expressions select, and what stops those that would never end."""

from typing import Any

import pytest

from aipartnerupflow.executors import Context, ExecutorError
from tasks.executors import transform
from tasks.executors.transform import Transform

DATA: dict[str, Any] = {"shop": {"items": [{"name": "tea", "price": 3}, {"name": "cup", "price": 9}]}, "rate": 2}


async def selected(select: Any, context: Context, **data: Any) -> Any:
    return await Transform().execute({"select": select, **(data or DATA)}, context)


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("shop.items[?price > `5`].name", ["cup"]),
        ({"names": "shop.items[].name", "most": "max(shop.items[].price)"}, {"names": ["tea", "cup"], "most": 9}),
        ("join(', ', sort(shop.items[].name))", "cup, tea"),
        ("nothing.here", None),
        ("shop.items[*].{what: name}", [{"what": "tea"}, {"what": "cup"}]),
    ],
)
async def test_values_are_selected(select: Any, expected: Any, context: Context) -> None:
    assert await selected(select, context) == expected


@pytest.mark.parametrize(
    "select",
    [
        " | ".join(["[@, @]"] * 40),
        " | ".join(["[@, @][]"] * 40),
        "to_string(" + " | ".join(["[@, @]"] * 40) + ")",
        " | ".join(["join('', [@, @])"] * 60),
        " | ".join(["{a: @, b: @}"] * 40),
        "items" + " | [*].[@, @]" * 40,
    ],
)
async def test_what_would_grow_without_end_is_stopped(select: str, context: Context) -> None:
    data = {"shop": "x" * 100} if "join" in select else DATA
    with pytest.raises(ExecutorError, match=r"inputs\.select (is too much work|cannot be evaluated)"):
        await selected(f"shop | {select}", context, **data)


@pytest.mark.parametrize(
    "expression",
    [
        "sum(@)",
        "max_by(@, &@)",
        "@ == $numbers",
        "contains(@, 'x')",
        "length(to_string(@))",
        "length([::2])",
        "length(reverse(@))",
    ],
)
async def test_what_functions_read_is_work(expression: str, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each evaluation reads 3,000 numbers and returns one value."""
    monkeypatch.setattr(transform, "MOST_STEPS", 200_000)
    numbers = list(range(3_000))
    select = f"rows[*].{{x: {expression.replace('$numbers', f'`{numbers}`')}}}"
    with pytest.raises(ExecutorError, match=r"inputs\.select is too much work"):
        await selected(select, context, rows=[numbers] * 100)
    await selected(select, context, rows=[numbers] * 10)
    await selected("rows[*].{x: length(@)}", context, rows=[numbers] * 100)


async def test_the_processor_time_is_limited(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transform, "MOST_SECONDS", 0.0)
    with pytest.raises(ExecutorError, match=r"inputs\.select is too much work"):
        await selected("rows[?@ > `5`]", context, rows=list(range(1_000)))


def test_expressions_that_take_long_to_read_are_refused_before_the_run() -> None:
    long = {f"x{number}": "a" + "||a" * 3_000 for number in range(100)}
    with pytest.raises(ExecutorError, match=r"inputs\.select\.x\d+ is too much work"):
        Transform().check_with_inputs({}, {"select": long})


@pytest.mark.parametrize(
    ("select", "reason"),
    [
        ("a[?", r"inputs\.select is not a JMESPath expression"),
        ({"x": "no_function(a)"}, r"inputs\.select\.x cannot be evaluated: Unknown function"),
        ("sum(shop.items[].name)", r"inputs\.select cannot be evaluated"),
        ("(" * 5_000 + "a" + ")" * 4_000, r"inputs\.select is (nested too deeply|not a JMESPath)"),
    ],
)
async def test_a_fault_is_named(select: Any, reason: str, context: Context) -> None:
    with pytest.raises(ExecutorError, match=reason) as failure:
        await selected(select, context)
    assert failure.value.permanent


def test_a_fault_that_needs_no_values_is_found_before_the_run() -> None:
    Transform().check_with_inputs({}, {"select": "a.b"})
    with pytest.raises(ExecutorError, match=r"inputs\.select\.x is not a JMESPath expression"):
        Transform().check_with_inputs({}, {"select": {"x": "a b"}})
