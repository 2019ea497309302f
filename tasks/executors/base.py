"""What an executor is: the plug-in that does the work of a task."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from tasks.rules.strict_json import Json as Json  # plug-ins import it from here


class ExecutorError(Exception):
    """The work failed. The text becomes the task's `error`: say what failed, why, and what to do; never a secret.

    `permanent` means that another attempt cannot help, so that none is made.
    `retry_after_seconds` is the wait that the other side asked for.
    """

    def __init__(self, message: str, *, permanent: bool = False, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after_seconds = retry_after_seconds


class Stopped(Exception):
    """The work was cancelled and has stopped. Raise it instead of `asyncio.CancelledError` to keep what there is so far."""

    def __init__(self, *, result: Any = None, token_usage: Json | None = None) -> None:
        super().__init__()
        self.result = result
        self.token_usage = token_usage


class Parked(Exception):
    """The work waits for somebody's answer. Raise it to let go of everything meanwhile: the task stays in progress, no worker waits.

    Once there is an answer `execute` is called again, with `context.reply`. Without one in `expires_after_seconds`, None for any
    time, the task fails. `options` are the only answers that count; None takes any. `memo`, any JSON value, comes back with the answer;
    nobody else sees it.
    """

    def __init__(
        self,
        question: str,
        *,
        options: Sequence[str] | None = None,
        expires_after_seconds: float | None = None,
        memo: Any = None,
    ) -> None:
        super().__init__(question)
        self.question = question
        self.options = options
        self.expires_after_seconds = expires_after_seconds
        self.memo = orjson.dumps(memo).decode()  # already here: what is no JSON is the executor's own failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What somebody answered."""

    answer: Any
    by: str
    comment: str | None = None
    memo: Any = None
    """What came with the question."""


def _never() -> bool:
    return False


def _uncounted(usage: Json) -> None:
    return


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What an executor may know about the task it works for, and how it tells of its progress."""

    task_id: str
    run_id: str
    root_task_id: str
    user_id: str
    name: str
    params: Mapping[str, Any]
    schemas: Mapping[str, Any]
    dependency_results: Mapping[str, Any]
    attempt: int
    report: Callable[[float, str], None]
    """Say how far the work is: a fraction 0..1 and a short message. Returns at once; call it on the event loop."""
    log: Callable[[str], None]
    """Publish a line as a `log` event. Returns at once; call it on the event loop."""
    reply: Reply | None = None
    """The answer to what this task asked by raising `Parked`."""
    is_forced: Callable[[], bool] = _never
    """While cancelled: whether to kill at once instead of asking first."""
    is_given_up: Callable[[], bool] = _never
    """While cancelled: whether it is this worker that stops, and another one goes on with the task. What is at work for it elsewhere,
    and is found again by its `idempotency_key`, may go on."""
    spent: Callable[[Json], None] = _uncounted
    """Add what a call of a model used, `{prompt_tokens, completion_tokens, total_tokens, cost_usd}`, to the task's `token_usage`, which is
    kept however the task ends. Returns at once; call it on the event loop."""

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this task, for services that can tell a repeat from a new request."""
        return self.task_id


class Executor(ABC):
    """One kind of work. Made once per worker process, so it keeps no state of a task.

    `execute` raises `ExecutorError` on failure; it never returns a failure as a result. It is cancelled (by timeout or
    by request) by `asyncio.CancelledError`: stop the work within two seconds, clean up, re-raise it (or raise `Stopped`).
    Blocking work belongs in `asyncio.to_thread`.
    """

    id: ClassVar[str]
    name: ClassVar[str]
    description: ClassVar[str]
    tags: ClassVar[tuple[str, ...]] = ()
    input_schema: ClassVar[Json] = {"type": "object"}
    """JSON Schema (2020-12) that the inputs must fit before `execute` is called."""
    result_schema: ClassVar[Json] = {}
    example: ClassVar[Json] = {}
    """Inputs that work."""
    idempotent: ClassVar[bool] = True
    """Whether the work may be repeated after a crash without harm."""
    cancelable: ClassVar[bool] = True
    extra: ClassVar[str | None] = None
    """The optional dependency group it needs (`pip install aipartnerupflow[extra]`)."""

    def check(self, params: Json) -> None:  # noqa: B027  (most have nothing to check)
        """Raise ExecutorError for params that can never do: the request is then refused before anything is stored or runs.

        Called in web processes too, for each task of a request: be quick, look only at the params.
        """

    async def call_off(self, inputs: Json, context: Context, *, memo: Any) -> Any:
        """Nobody will answer: the task was cancelled meanwhile, or the time is over. Stop what waits with it elsewhere, within two seconds.

        `memo` came with the question. Returns what there is so far, which becomes a cancelled task's result; None for nothing.
        Raises ExecutorError when what was begun may go on. It may be called again, should the worker die meanwhile.
        """
        return None

    @abstractmethod
    async def execute(self, inputs: Json, context: Context) -> Any:
        """Do the work and return its result: any JSON value."""
