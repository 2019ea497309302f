import asyncio
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from aipartnerupflow.executors import Context
from tasks.executors.sleep import Sleep


async def test_it_sleeps_the_time_asked_for_and_reports_the_steps_before_the_last(
    context: Context, reports: list[tuple[float, str]]
) -> None:
    result = await Sleep().execute({"seconds": 0.2, "steps": 4}, context)
    assert result == {"slept_seconds": 0.2}
    assert reports == [(0.25, "step 1 of 4"), (0.5, "step 2 of 4"), (0.75, "step 3 of 4")]


async def test_many_sleep_at_once(context: Context, reports: list[tuple[float, str]]) -> None:
    """When the first is done, the half of the time is over for all others too."""
    sleeps = [asyncio.create_task(Sleep().execute({"seconds": 0.2, "steps": 2}, context)) for _ in range(100)]
    await asyncio.wait(sleeps, return_when=asyncio.FIRST_COMPLETED)
    assert len(reports) == 100
    await asyncio.gather(*sleeps)


async def test_cancelling_ends_the_sleep_at_once(context: Context, reports: list[tuple[float, str]]) -> None:
    task = asyncio.create_task(Sleep().execute({"seconds": 3600}, context))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reports == []


async def test_a_whole_number_written_as_a_fraction_is_taken(context: Context) -> None:
    inputs = {"seconds": 0, "steps": 2.0}
    Draft202012Validator(Sleep.input_schema).validate(inputs)
    assert await Sleep().execute(inputs, context) == {"slept_seconds": 0}


@pytest.mark.parametrize(
    "inputs",
    [
        {"seconds": -1},
        {"seconds": 86_401},
        {"seconds": "1"},
        {"seconds": True},
        {"seconds": None},
        {"steps": 0},
        {"steps": 1001},
        {"steps": 1.5},
        {"steps": "2"},
    ],
)
def test_inputs_out_of_range_do_not_fit_the_schema(inputs: dict[str, Any]) -> None:
    assert not Draft202012Validator(Sleep.input_schema).is_valid(inputs)
