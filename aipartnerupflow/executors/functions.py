"""Functions: the decorator that lets tasks call one by its name, and a thread for each that blocks."""

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from threading import Thread
from typing import Any, Final, TypeVar, overload

T = TypeVar("T")


def _unchanged(work: Callable[[], Any]) -> Callable[[], Any]:
    return work


WRAPPER: Final[ContextVar[Callable[[Callable[[], Any]], Callable[[], Any]]]] = ContextVar(
    "what the worker puts around the work of threads", default=_unchanged
)


def on_a_thread(work: Callable[[], T], *, name: str) -> Future[T]:
    """Run `work` on a thread of its own, and return a future for its result or exception.

    Await the future with `asyncio.wrap_future`. Use it for work that may block for more than a moment:
    all trees of a process share the 1,000 threads of `asyncio.to_thread`. `name` is the thread's name,
    for debuggers.

    A thread cannot be cancelled: when the task is cancelled, `work` runs on to its end and its result is
    dropped. It is a daemon thread, so it does not keep the process alive.
    """
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()  # so that a task that stops waiting leaves it alone
    Thread(target=_settle, args=(done, WRAPPER.get()(work)), name=name, daemon=True).start()
    return done


def _settle(done: Future[T], work: Callable[[], T]) -> None:
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001  (the future raises it)
        done.set_exception(error)
    else:
        done.set_result(result)


Function = Callable[..., Any]
MARK: Final = "is_python_function"
SCHEMA: Final = "python_function_schema"
IDEMPOTENT: Final = "is_idempotent"
CACHEABLE: Final = "is_cacheable"
Marked = TypeVar("Marked", bound=Function)


@overload
def python_function(function: Marked) -> Marked: ...
@overload
def python_function(
    *, schema: dict[str, Any] | None = None, idempotent: bool = False, cacheable: bool = False
) -> Callable[[Marked], Marked]: ...
def python_function(
    function: Function | None = None,
    *,
    schema: dict[str, Any] | None = None,
    idempotent: bool = False,
    cacheable: bool = False,
) -> Any:
    """Let tasks call this function, by its `__name__`, through `python_executor`, and models as a tool.

    The function stays as it is. The server finds it when its module is in `executors.modules`; two
    functions with the same name stop the start. A task passes `arguments` by keyword, as JSON values,
    and the return value, which must be JSON too, is its result. An exception that is not an
    `ExecutorError` fails the task with `name() raised Type: text`.

    A plain function runs on a thread, by default in a process of its own, a coroutine function on the
    event loop.

    A model reads its docstring and the JSON Schema of its arguments. That is made of the type hints, unless
    `@python_function(schema={…})` gives it.

    `idempotent` means that a repeated call does no harm: after a crash of the worker in the middle of a call, the function is
    called again. `current_context().idempotency_key` is the same text both times, for services that can tell a repeat.

    `cacheable` means that the result depends on the arguments alone, and that nothing else happens: `params.cache` may take the
    result of an equal task instead of a call. Another content of the file of its module is another function.
    """

    def marked(function: Marked) -> Marked:
        function.__dict__[MARK] = True
        function.__dict__[SCHEMA] = schema
        function.__dict__[IDEMPOTENT] = idempotent
        function.__dict__[CACHEABLE] = cacheable
        return function

    return marked if function is None else marked(function)


def is_python_function(function: Function) -> bool:
    """Return whether the function is marked."""
    return MARK in vars(function)


def is_idempotent(function: Function) -> bool:
    """Return whether a repeated call of the function does no harm."""
    return vars(function).get(IDEMPOTENT) is True


def is_cacheable(function: Function) -> bool:
    """Return whether the result of the function depends on its arguments alone."""
    return vars(function).get(CACHEABLE) is True


def given_schema(function: Function) -> dict[str, Any] | None:
    """Return the JSON Schema that the function was marked with, or None."""
    schema: dict[str, Any] | None = vars(function).get(SCHEMA)
    return schema
