import pytest

from aipartnerupflow.executors import Context
from tasks.executors.echo import Echo


@pytest.mark.parametrize("inputs", [{}, {"message": "hello"}, {"nested": {"list": [1, None, "ä"]}, "dep": {"n": 1}}])
async def test_the_inputs_are_the_result(inputs: dict[str, object], context: Context) -> None:
    assert await Echo().execute(inputs, context) == inputs
