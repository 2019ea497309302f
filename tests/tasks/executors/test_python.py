import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from aipartnerupflow.executors import Context, ExecutorError
from tasks.executors.plugins import plugins
from tasks.executors.python import MOST_LEFT, Python
from tasks.executors.system_info import SystemInfo
from tests.tasks.executors.conftest import InstallModule

MODULE = """
    import asyncio
    import sys
    import threading
    from contextvars import ContextVar

    from django.db import connections

    from aipartnerupflow.executors import ExecutorError
    from aipartnerupflow.executors import python_function

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

    gate = threading.Event()
    reader = ContextVar("reader", default="nobody")
    used = []

    @python_function
    def block():
        gate.wait()

    @python_function
    def who_reads():
        return reader.get()

    @python_function
    def ask_the_database():
        used.append(connections["default"])
        with connections["default"].cursor() as cursor:
            return cursor.execute("SELECT 7").fetchone()[0]

    @python_function
    def leave():
        sys.exit(3)

    @python_function
    async def leave_soon():
        await asyncio.sleep(0)
        sys.exit(3)

    @python_function
    def interrupt():
        raise KeyboardInterrupt

    @python_function
    async def interrupt_soon():
        raise KeyboardInterrupt

    @python_function
    def take_from_nothing():
        return next(iter([]))

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


async def leave_behind(python: Python, context: Context, *, calls: int) -> None:
    """Calls of a function that blocks, cancelled as a timeout does it."""
    blocking = [asyncio.create_task(python.execute({"function": "block"}, context)) for _ in range(calls)]
    await asyncio.sleep(0)
    for call in blocking:
        call.cancel()
    async with asyncio.timeout(60):
        await asyncio.wait(blocking)


def let_go() -> None:
    """What blocks ends, and so do its threads."""
    sys.modules["shop_functions"].gate.set()
    for thread in threading.enumerate():
        if thread.name == "block()":
            thread.join(60)


async def test_functions_that_block_hold_up_nobody_else(context: Context) -> None:
    """Names are resolved on the loop's pool too, which has `min(32, processors + 4)` threads."""
    try:
        await leave_behind(Python(), context, calls=40)
        async with asyncio.timeout(60):
            assert await SystemInfo().execute({"resource": "memory"}, context)
            assert await Python().execute({"function": "add", "arguments": {"a": 1}}, context) == 2
    finally:
        let_go()


async def test_no_more_is_called_while_too_many_stopped_functions_run_on(context: Context) -> None:
    python, add = Python(), {"function": "add", "arguments": {"a": 1}}
    try:
        await leave_behind(python, context, calls=MOST_LEFT)
        with pytest.raises(ExecutorError, match=f"{MOST_LEFT} functions .* still run") as caught:
            await python.execute(add, context)
        assert not caught.value.permanent
    finally:
        let_go()
    assert await python.execute(add, context) == 2


def test_a_process_ends_without_the_functions_that_still_run() -> None:
    script = (
        "import asyncio, threading\n"
        "from aipartnerupflow.executors import on_a_thread\n"
        "async def main():\n"
        "    await asyncio.wait([asyncio.wrap_future(on_a_thread(threading.Event().wait, name='x'))], timeout=0.1)\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


async def test_a_plain_function_sees_the_context_of_its_caller(context: Context) -> None:
    assert "who_reads" in plugins().functions  # which imports the module
    sys.modules["shop_functions"].reader.set("Ada")
    assert await Python().execute({"function": "who_reads"}, context) == "Ada"


@pytest.mark.django_db(transaction=True)
async def test_a_function_leaves_no_connection_to_the_database(context: Context) -> None:
    assert await Python().execute({"function": "ask_the_database"}, context) == 7
    [used] = sys.modules["shop_functions"].used
    assert used.connection is None


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        ("leave", "SystemExit: 3"),
        ("leave_soon", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt"),
        ("interrupt_soon", "KeyboardInterrupt"),
        ("take_from_nothing", "StopIteration"),
    ],
)
async def test_whatever_a_function_raises_is_a_failure_of_its_task(function: str, kind: str, context: Context) -> None:
    with pytest.raises(ExecutorError) as caught:
        await Python().execute({"function": function}, context)
    assert str(caught.value).startswith(f"{function}() raised {kind}")


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
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("inputs", [{}, {"function": 1}, {"function": "add", "arguments": [1, 2]}])
def test_inputs_of_another_type_do_not_fit_the_schema(inputs: dict[str, Any]) -> None:
    assert not Draft202012Validator(Python.input_schema).is_valid(inputs)
