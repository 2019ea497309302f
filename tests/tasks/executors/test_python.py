import asyncio
import threading
import time
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tasks.executors.base import Context, ExecutorError
from tasks.executors.python import Python
from tests.tasks.executors.conftest import InstallModule

pytestmark = pytest.mark.timeout(30)

MODULE = """
    import asyncio
    import threading

    from tasks.executors.base import ExecutorError
    from tasks.executors.plugins import python_function

    @python_function
    def add(a, b=1):
        return a + b

    @python_function
    def thread_name():
        return threading.current_thread().name

    @python_function
    async def greet(name):
        await asyncio.sleep(0)
        return {"greeting": f"hello {name}"}

    @python_function
    async def wait_for_ever():
        await asyncio.Event().wait()

    @python_function
    def divide(a, b):
        return a / b

    @python_function
    def refuse():
        raise ExecutorError("The stock is empty.", permanent=True, retry_after_seconds=3)

    def unmarked():
        return "never"
"""


@pytest.fixture(autouse=True)
def functions(install_module: InstallModule) -> None:
    install_module("shop_functions", MODULE)


@pytest.mark.parametrize(
    ("inputs", "result"),
    [
        ({"function": "add", "arguments": {"a": 2, "b": 3}}, 5),
        ({"function": "add", "arguments": {"a": 2}}, 3),
        ({"function": "greet", "arguments": {"name": "Ada"}}, {"greeting": "hello Ada"}),
        ({"function": "add", "arguments": {"a": 1}, "some-dependency": {"b": 9}}, 2),
    ],
)
async def test_what_the_function_returns_is_the_result(inputs: dict[str, Any], result: Any, context: Context) -> None:
    assert await Python().execute(inputs, context) == result


async def test_a_plain_function_runs_in_a_thread(context: Context) -> None:
    assert await Python().execute({"function": "thread_name"}, context) != threading.current_thread().name


@pytest.mark.parametrize(
    ("inputs", "message", "permanent"),
    [
        ({"function": "ad"}, "Function 'ad' is not registered. Did you mean 'add'?", True),
        ({"function": "unmarked"}, "Function 'unmarked' is not registered.", True),
        ({"function": "os.system"}, "Function 'os.system' is not registered.", True),
        ({"function": "__import__"}, "is not registered", True),
        ({"function": "add"}, "The arguments do not fit add(a, b=1): missing a required argument: 'a'.", True),
        ({"function": "add", "arguments": {"a": 1, "c": 2}}, "got an unexpected keyword argument 'c'", True),
        (
            {"function": "divide", "arguments": {"a": 1, "b": 0}},
            "divide() raised ZeroDivisionError: division by zero",
            False,
        ),
        ({"function": "divide", "arguments": {"a": 1, "b": "x"}}, "divide() raised TypeError: unsupported", False),
    ],
)
async def test_a_call_that_cannot_succeed_says_why(
    inputs: dict[str, Any], message: str, permanent: bool, context: Context
) -> None:
    with pytest.raises(ExecutorError) as caught:
        await Python().execute(inputs, context)
    assert message in str(caught.value)
    assert caught.value.permanent is permanent


async def test_an_executor_error_of_the_function_is_passed_on_as_it_is(context: Context) -> None:
    with pytest.raises(ExecutorError) as caught:
        await Python().execute({"function": "refuse"}, context)
    assert (str(caught.value), caught.value.permanent, caught.value.retry_after_seconds) == (
        "The stock is empty.",
        True,
        3,
    )


async def test_cancelling_ends_an_async_function(context: Context) -> None:
    task = asyncio.create_task(Python().execute({"function": "wait_for_ever"}, context))
    await asyncio.sleep(0)
    started = time.perf_counter()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("inputs", [{}, {"function": 1}, {"function": "add", "arguments": [1, 2]}])
def test_inputs_of_another_type_do_not_fit_the_schema(inputs: dict[str, Any]) -> None:
    assert not Draft202012Validator(Python.input_schema).is_valid(inputs)
