"""Calls functions that the operator's modules offer with `@python_function`, and no others."""

import asyncio
import inspect
from concurrent.futures import Future
from contextvars import copy_context
from difflib import get_close_matches
from functools import partial
from typing import Any, ClassVar, Final

from django.db import connections

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, on_a_thread
from aipartnerupflow.executors.current import enter_task
from aipartnerupflow.executors.functions import Function, is_cacheable, is_idempotent
from aipartnerupflow.workflows.functions import Step
from aipartnerupflow.workflows.values import with_secrets
from tasks.executors.function_files import has_files, local_files, with_saved
from tasks.executors.plugins import plugins
from tasks.executors.workflows import LOCAL, STEP, StepRaised
from tasks.rules.pools import LOOP

MOST_LEFT: Final = 100
"""The number of functions that may still run in a worker process after their tasks timed out or were
cancelled.
"""


class Python(Executor):
    """Calls a function and returns its result.

    A plain function runs on its own thread, an async one on the event loop, in any pool.
    """

    id = "python_executor"
    name = "Python function"
    description = (
        "Calls a function that the operator has registered, in a process of its own unless it is async. "
        "Cancelling ends both."
    )
    tags = ("core", "code")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "function": {"type": "string", "description": "The name of a registered function"},
            "arguments": {"type": "object", "default": {}, "description": "Keyword arguments of the function"},
        },
        "required": ["function"],
    }
    param_names = frozenset()
    example: ClassVar[Json] = {"function": "add", "arguments": {"a": 1, "b": 2}}
    example_result: ClassVar[Any] = 3
    idempotent = False
    pool = "process"

    def may_repeat(self, inputs: Json) -> bool:
        """Return whether the function is marked as idempotent."""
        function = _named(inputs)
        return function is not None and is_idempotent(function)

    def uncacheable(self, params: Json, inputs: Json) -> str | None:
        function = _named(inputs)
        if function is not None and is_cacheable(function):
            return None
        return "is for functions that are marked with @python_function(cacheable=True)"

    def pool_for(self, inputs: Json) -> str:
        """Async functions run on the loop, as what blocks nothing should; so does the error of an unknown one."""
        return self.pool if is_plain(inputs) else LOOP

    def __init__(self) -> None:
        self._left: set[Future[Any]] = set()

    async def execute(self, inputs: Json, context: Context) -> Any:
        function = _function(inputs["function"])
        arguments = inputs.get("arguments", {})
        _check_arguments(function, arguments)
        enter_task(context)
        if not has_files(function):
            return await self._call(function, arguments)
        async with local_files(function, arguments, context.files) as local:
            return await with_saved(await self._call(function, local), context.files)

    async def _call(self, function: Function, arguments: Json) -> Any:
        if not inspect.iscoroutinefunction(function):
            return await self._on_a_thread(function, arguments)
        try:
            return await function(**arguments)
        except ExecutorError:
            raise
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # the operator's function may raise anything
            raise _failure(function, error) from error

    async def _on_a_thread(self, function: Function, arguments: Json, *, step: Step[..., Any] | None = None) -> Any:
        if len(self._left) >= MOST_LEFT:
            raise ExecutorError(
                f"{function.__name__}() was not called: {MOST_LEFT} functions whose tasks were stopped still run in this "
                "worker process. Give them time limits of their own, and restart the workers to be rid of these."
            )
        work = partial(copy_context().run, _called, function, arguments, step)
        call = on_a_thread(work, name=f"{function.__name__}()")
        try:
            return await asyncio.wrap_future(call)
        except asyncio.CancelledError:
            self._left.add(call)
            call.add_done_callback(self._left.discard)
            raise


class StepTask(Python):
    """Calls the function of a step of a workflow."""

    id = STEP
    name = "Step of a workflow"
    description = "Calls a function that is a step of a workflow, in a process of its own unless it is async."
    input_schema: ClassVar[Json] = Python.input_schema | {
        "properties": Python.input_schema["properties"]
        | {"secrets": {"type": "object", "description": "The places of secrets in the arguments, by JSON Pointer"}}
    }
    verbatim = frozenset({"arguments"})
    example: ClassVar[Json] = {"function": "pages:fetch", "arguments": {"url": "https://example.com"}}
    example_result: ClassVar[Any] = "…"

    def may_repeat(self, inputs: Json) -> bool:
        if "local" in inputs:
            return bool(inputs["local"]["idempotent"])
        step = plugins().steps.get(inputs["function"])
        return step is not None and bool(step.set_options.get("idempotent"))

    def uncacheable(self, params: Json, inputs: Json) -> str | None:
        return "is not for steps of workflows"

    def pool_for(self, inputs: Json) -> str:
        is_async = "local" in inputs or inspect.iscoroutinefunction(_step(inputs).__wrapped__)
        return LOOP if is_async else self.pool

    async def execute(self, inputs: Json, context: Context) -> Any:
        step = await LOCAL.get()() if "local" in inputs else _step(inputs)
        given, secrets = inputs["arguments"], inputs.get("secrets")
        if secrets:
            given = with_secrets(given, secrets)
        enter_task(context)
        if "local" in inputs or not has_files(step.__wrapped__):
            return _stored(step, await self._result(step, given))
        async with local_files(step.__wrapped__, given, context.files) as local:
            return _stored(step, await with_saved(await self._result(step, local), context.files))

    async def _result(self, step: Step[..., Any], given: Json) -> Any:
        try:
            arguments = step.arguments(given)
        except ValueError as error:
            raise ExecutorError(str(error), permanent=True) from None
        if inspect.iscoroutinefunction(step.__wrapped__):
            try:
                return await step.__wrapped__(**arguments)
            except ExecutorError:
                raise
            except (Exception, SystemExit, KeyboardInterrupt) as error:  # the operator's function may raise anything
                raise _failure(step, error) from error
        return await self._on_a_thread(step.__wrapped__, arguments, step=step)


def _stored(step: Step[..., Any], result: Any) -> Any:
    try:
        return step.stored(result)
    except TypeError as error:
        raise ExecutorError(str(error), permanent=True) from None


def _step(inputs: Json) -> Step[..., Any]:
    name = inputs["function"]
    if (step := plugins().steps.get(name)) is None:
        raise ExecutorError(
            f"There is no step '{name}' in the modules of this worker (executors.modules).", permanent=True
        )
    return step


def is_plain(inputs: Json) -> bool:
    """Return whether the inputs, which may be invalid, name a function that is not async."""
    function = _named(inputs)
    return function is not None and not inspect.iscoroutinefunction(function)


def _named(inputs: Json) -> Function | None:
    name = inputs.get("function")
    return plugins().functions.get(name) if isinstance(name, str) else None


def call_now(inputs: Json) -> Any:
    """Call a plain function on this thread. Raises ExecutorError."""
    function = _function(inputs["function"])
    arguments = inputs.get("arguments", {})
    _check_arguments(function, arguments)
    return _called(function, arguments)


def _called(function: Function, arguments: Json, step: Step[..., Any] | None = None) -> Any:
    try:
        return function(**arguments)
    except ExecutorError:
        raise
    except BaseException as error:  # only the function runs on this thread, so all errors are its own
        raise _failure(step or function, error) from error
    finally:
        connections.close_all()  # of this thread, which ends


def _failure(function: Any, error: BaseException) -> ExecutorError:
    text = f"{function.__name__}() raised {type(error).__name__}: {error}"
    declared = function.declared(error) if isinstance(function, Step) else None
    return ExecutorError(text) if declared is None else StepRaised(text, declared)


def _function(name: str) -> Function:
    functions = plugins().functions
    if name not in functions:
        close = get_close_matches(name[:100], sorted(functions))
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ExecutorError(
            f"Function '{name}' is not registered.{hint} "
            "Mark it with @python_function in a module named in executors.modules.",
            permanent=True,
        )
    return functions[name]


def _check_arguments(function: Function, arguments: Json) -> None:
    """Raise ExecutorError if the arguments do not fit, to tell this from a TypeError within the
    function.
    """
    signature = inspect.signature(function)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ExecutorError(
            f"The arguments do not fit {function.__name__}{signature}: {error}.", permanent=True
        ) from error
