"""The interface of executors: the plug-ins that do the work of tasks."""

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Protocol

import orjson

from aipartnerupflow.executors.files import Files
from aipartnerupflow.executors.http import Fetch, HttpOf, HttpResponse

if TYPE_CHECKING:
    import httpx

Json = dict[str, Any]
"""A JSON object."""
NAMES: Final = uuid.UUID("8f0c5f5e-6c0e-4f0b-9a4e-3d6f2b8f5a17")
"""The namespace of idempotency keys."""
EVENT_CHARACTERS: Final = 255
MATCHED_VALUES: Final = 10
MATCH_BYTES: Final = 8_192


class ExecutorError(Exception):
    """The work failed. The text becomes the task's `error`: say what failed, why, and what to do; never a secret.

    `permanent` means that another attempt cannot help, so that none is made. Otherwise `params.retry` of the
    task decides. `retry_after_seconds` is the wait that the other service asked for: at least that many seconds
    pass before the next attempt.
    """

    def __init__(self, message: str, *, permanent: bool = False, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawn:
    """The result of `execute` that adds tasks to its tree: they are stored together with the end of the step.

    With `join` the task stays in progress until all of them are over; then it completes with an object of the results of
    those right below it, by their ids, or fails if one of them did. Without, it completes at once with `result`.

    With `again` they are a step: when all of them are over, whether they failed or not, `execute` is called again, possibly
    by another worker, from its start. `context.reply.answer` then maps the id of each task right below this one to
    `{"status", "result"}` or `{"status", "error"}`, and `context.reply.memo` is `memo`. A task may take many steps. A step that
    is stored is not taken again after a crash, a failed attempt or in another run of the tree, and failures of its tasks do not fail the
    run.

    Raises ValueError for `again` without tasks or without `join`.
    """

    tasks: Sequence[Json]
    """Tasks as `tasks.create` takes them, in any order. Tasks without a `parent_id` are below this task. Their ids, or else their
    numbers from 0, are appended to the id of this task; those of a step after its number, from 1."""
    join: bool = True
    result: Any = None
    """Any JSON value."""
    again: bool = False
    memo: Any = None
    """Any JSON value, up to the size of a result. It comes back in `context.reply.memo` and is not shown to anyone."""
    executors: Sequence[str] | None = None
    """The executors that the tasks may use, unless `params.spawn.executors` names them; None: all but `run_tree_executor`."""

    def __post_init__(self) -> None:
        if self.again and not (self.join and self.tasks):
            raise ValueError("A Spawn with again=True waits for its tasks: give some, and leave join as it is.")


class Stopped(Exception):
    """The work was cancelled and has stopped.

    Raise it instead of `asyncio.CancelledError` to keep a partial result. `result`, any JSON value,
    becomes the cancelled task's result. `token_usage` has the fields that `Context.spent` takes.
    """

    def __init__(self, *, result: Any = None, token_usage: Json | None = None) -> None:
        super().__init__()
        self.result = result
        self.token_usage = token_usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """Further assignees of a question that has no answer after some time."""

    after_seconds: float
    assignees: Sequence[str]


class Parked(Exception):
    """The work waits for an answer. Raise it to release the worker meanwhile: the task stays in progress.

    `question` is the text that people see. `options` are the only answers that are accepted. `schema` asks for a form instead: a
    flat JSON Schema of an object of texts, numbers, integers, booleans and enums; only an object that fits it is accepted. Without
    both, any JSON value is. `assignees`, user ids and `role:operator` or `role:admin`, may answer it, and administrators; None: the
    owner of the tree may. `remind_after_seconds` are the times after the question at which the run's log gets another event about it,
    and `escalation` adds assignees.
    `execute` is called again with the answer in `context.reply`, from its start, possibly by another worker. Without an answer within
    `expires_after_seconds` the task fails; None waits for any time. `memo`, any JSON value, comes back in `context.reply.memo` and is
    not shown to anyone.

    Raises TypeError (`orjson.JSONEncodeError`) when `memo` or `schema` is not JSON, and ValueError for both `options` and `schema`.
    """

    def __init__(
        self,
        question: str,
        *,
        options: Sequence[str] | None = None,
        schema: Json | None = None,
        assignees: Sequence[str] | None = None,
        remind_after_seconds: Sequence[float] = (),
        escalation: Escalation | None = None,
        expires_after_seconds: float | None = None,
        memo: Any = None,
    ) -> None:
        super().__init__(question)
        if options is not None and schema is not None:
            raise ValueError("Give either options or a schema. In a form, a choice is a field with an enum.")
        self.question = question
        self.options = options
        self.schema: Json | None = None if schema is None else orjson.loads(orjson.dumps(schema))
        self.assignees = assignees
        self.remind_after_seconds = remind_after_seconds
        self.escalation = escalation
        self.expires_after_seconds = expires_after_seconds
        self.memo = orjson.dumps(memo).decode()  # already here: what is no JSON is the executor's own failure
        self.wait = Wait()


@dataclass(slots=True, kw_only=True)
class Wait:
    """The wait of a parked task. The default is a wait for a person's answer."""

    kind: Literal["question", "time", "event", "run", "limit", "call"] = "question"
    on_expiry: Literal["fail", "resume"] = "fail"
    """Whether the task fails at the end of the wait, or `execute` is called again."""
    expires_at: datetime | None = None
    """The end of the wait, if a moment was given and not a number of seconds."""
    event: str | None = None
    match: Json | None = None
    retain_seconds: float | None = None
    tree: Json | None = None
    """The tree that is to run: its `tasks`, what it is a copy of (`copy_of`) or its `flow`, and its `run_inputs`."""


class ParkedUntil(Parked):
    """The work waits for a time, which may be months away. No worker is occupied meanwhile.

    Give `until`, a moment with a time zone, or `seconds`. Then `execute` is called again, and
    `context.reply.answer` is `{"waited_until": the moment in ISO 8601, "seconds": how long it took}`.

    Raises ValueError unless exactly one is given, or if `until` has no time zone.
    """

    def __init__(self, until: datetime | None = None, *, seconds: float | None = None, memo: Any = None) -> None:
        if (until is None) == (seconds is None) or (until is not None and until.tzinfo is None):
            raise ValueError("Give either until, with a time zone, or seconds.")
        text = f"for {seconds:g} s" if until is None else f"until {until.isoformat()}"
        super().__init__(text, expires_after_seconds=seconds, memo=memo)
        self.wait = Wait(kind="time", on_expiry="resume", expires_at=until)


class ParkedForEvent(Parked):
    """The work waits for an event that the task's owner sends with `events.send`, or for a request to the wait's own address.

    `match` maps JSON Pointers (RFC 6901) to the values that the payload must have there. An event is
    taken too if it came during the last `retain_seconds` before the wait; None: since the run was
    created. Then `execute` is called again, and `context.reply.answer` is
    `{"event", "payload", "id", "received_at"}`. After `timeout_seconds` without one the task fails, or,
    with `on_timeout="complete"`, `execute` is called with None as the answer.
    """

    def __init__(
        self,
        event: str,
        *,
        match: Json | None = None,
        timeout_seconds: float | None = None,
        on_timeout: Literal["fail", "complete"] = "fail",
        retain_seconds: float | None = None,
        memo: Any = None,
    ) -> None:
        if not 0 < len(event) <= EVENT_CHARACTERS:
            raise ValueError(f"The name of an event has 1 to {EVENT_CHARACTERS} characters.")
        if len(match or {}) > MATCHED_VALUES or not all(each == "" or each.startswith("/") for each in match or {}):
            raise ValueError(f"match maps up to {MATCHED_VALUES} JSON Pointers, such as /order_id, to values.")
        if len(orjson.dumps(match)) > MATCH_BYTES:
            raise ValueError(f"match has at most {MATCH_BYTES:,} bytes.")
        super().__init__(f"for the event '{event}'", expires_after_seconds=timeout_seconds, memo=memo)
        self.wait = Wait(
            kind="event",
            on_expiry="fail" if on_timeout == "fail" else "resume",
            event=event,
            match=match or {},
            retain_seconds=retain_seconds,
        )


class ParkedForTree(Parked):
    """The work waits for a tree of its own, which runs beside the tree of the task and belongs to the same user.

    Give `tasks`, in the format of `tasks.create`; or `copy_of`, the id of a stored tree, to run a copy of it; or `flow`, the
    name of a flow of the same user, to run its newest version or `version`; with it, `changes` may name inputs and params that take
    the place of those of its tasks, as `{TASK: {"inputs": {…}, "params": {…}}}`. `run_inputs` are the inputs of its run. When it is over, `execute` is called again, and
    `context.reply.answer` is `{"status", "result", "error", "task_id", "run_id"}`: status, result and
    error of its root, whose id is `task_id`. If the tree is refused, the status is `failed` and both
    ids are None. After `timeout_seconds` the task fails. When the task ends before it, the tree is cancelled.

    Raises ValueError unless one of `tasks`, `copy_of` and `flow` is given.
    """

    def __init__(
        self,
        tasks: Sequence[Json] | None = None,
        *,
        copy_of: str | None = None,
        flow: str | None = None,
        version: int | None = None,
        changes: Json | None = None,
        run_inputs: Json | None = None,
        timeout_seconds: float | None = None,
        memo: Any = None,
    ) -> None:
        if sum(each is not None for each in (tasks, copy_of, flow)) != 1:
            raise ValueError("Give one of tasks, copy_of and flow.")
        source: Json
        if flow is not None:
            text, source = f"for a run of the flow '{flow}'", {"flow": flow, "version": version, "changes": changes}
        elif copy_of is not None:
            text, source = f"for a copy of the tree '{copy_of}'", {"copy_of": copy_of}
        else:
            text, source = "for a tree of its own", {"tasks": list(tasks or ())}
        super().__init__(text, expires_after_seconds=timeout_seconds, memo=memo)
        self.wait = Wait(kind="run", tree=source | {"run_inputs": run_inputs})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to a question that the task asked by raising `Parked`, what ended its wait, or how the tasks of its last step ended."""

    answer: Any
    """One of the question's options, an object that fits its schema or, without both, any JSON value except null. After a wait or a step:
    see `ParkedUntil`, `ParkedForEvent`, `ParkedForTree` and `Spawn`."""
    by: str
    """The user id of the person who answered; `USER (by link)` if a link of that user was used. Empty after a wait or a step."""
    comment: str | None = None
    memo: Any = None
    """The `memo` of the question or the step."""


def _never() -> bool:
    return False


def _uncounted(usage: Json) -> None:
    return


async def unstored() -> None:
    """Store nothing: the `begin` of work that is safe to repeat."""


async def unconnected(method: str, url: str, **options: Any) -> HttpResponse:
    """Refuse the request: the `fetch` of a context that was given none."""
    raise ExecutorError(f"{method} was not sent: this context has no network. Pass it a `fetch`.", permanent=True)


async def no_secrets(name: str, *, host: str | None = None) -> str:
    """Refuse: the `secret` of a context that was given none."""
    raise ExecutorError(f"There is no secret '{name}': this context has no secrets. Pass it some.", permanent=True)


def no_client(*, timeout_seconds: float = 30.0) -> "httpx.AsyncClient":
    """Refuse: the `http` of a context that was given none."""
    raise ExecutorError("There is no HTTP client: this context has no network. Pass it an `http`.", permanent=True)


class SecretOf(Protocol):
    """The signature of `Context.secret`, for the annotation of a function that takes or replaces it."""

    async def __call__(self, name: str, *, host: str | None = None) -> str:
        """Return the value of a named secret that the owner of the tree may use.

        `host` is the host to which it will be sent; a secret that is bound to hosts requires it.
        Raises ExecutorError, permanent, if there is no such secret, or if it may not be sent there.
        """
        ...


async def no_files(name: str, arguments: Json) -> Any:
    """Refuse: the calls of the `files` of a context that was given none."""
    raise ExecutorError("There are no files: this context has none. Pass it some.", permanent=True)


NO_FILES: Final = Files(no_files)


async def no_models(messages: str | Sequence[Json], **options: Any) -> Json:
    """Refuse the call: the `llm` of a context that was given none."""
    raise ExecutorError("No model was called: this context has none. Pass it an `llm`.", permanent=True)


class LlmOf(Protocol):
    """The signature of `Context.llm`, for the annotation of a function that takes or replaces it."""

    async def __call__(
        self,
        messages: str | Sequence[Json],
        *,
        model: str | None = None,
        tools: Sequence[Json] = (),
        heard: Callable[[str], None] = ...,
        agent: str | None = None,
        step: int | None = None,
        **options: Any,
    ) -> Json:
        """Call a language model once, and return its answer: the object that `llm_executor` returns.

        `messages` is a text, or a conversation in OpenAI's format. `model` is `provider/name`; default: `params.model` of the task,
        `schemas.model`, or the operator's. `tools` are functions in OpenAI's format; the calls that the model asks for are in
        `tool_calls`. `heard` gets the text as it arrives. `agent`, a name, and `step`, from 1, say in the record of the call who
        made it. `options` are the other inputs of `llm_executor`, such as `temperature`.

        The key is that of the run, the call counts in `token_usage`, and budgets apply. If cancelled, raises Stopped with the answer so
        far. Raises ExecutorError.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One attempt at one task: what an executor may know about it, and how it reports back.

    The server makes it. In a test, `aipartnerupflow.executors.testing.context` does.
    """

    task_id: str
    run_id: str
    root_task_id: str
    user_id: str
    """The owner of the tree."""
    name: str
    """The task's name."""
    params: Mapping[str, Any]
    """The task's `params`, as `Executor.check` accepted them."""
    schemas: Mapping[str, Any]
    """The task's `schemas`."""
    dependency_results: Mapping[str, Any]
    """The result of each dependency by its task id. `inputs` has them too."""
    attempt: int
    """1 for the first attempt, 2 for the first retry, and so on."""
    report: Callable[[float, str], None]
    """Report progress: a fraction from 0 to 1 and a short message. Returns at once; call it on the event loop."""
    log: Callable[[str], None]
    """Publish a line as a `log` event. Returns at once; call it on the event loop."""
    reply: Reply | None = None
    """The answer to the question that this task asked by raising `Parked`, or how the tasks of its last step (`Spawn`) ended; None before
    there is one."""
    is_forced: Callable[[], bool] = _never
    """While cancelled: whether to kill at once instead of asking first."""
    is_given_up: Callable[[], bool] = _never
    """While cancelled: whether only this worker stops, and another one will run the task again. Work of the task elsewhere that
    is found again by its `idempotency_key` may continue."""
    spent: Callable[[Json], None] = _uncounted
    """Add the usage of one call of a language model, `{prompt_tokens, completion_tokens, total_tokens, cost_usd}`, to the task's
    `token_usage`, which is stored however the task ends. With `model`, its name, `usage.get` counts it under that name; `agent`, a
    name, and `step`, from 1, are in the record of the call. Returns at once; call it on the event loop."""
    fetch: Fetch = unconnected
    """Send an HTTP request that cannot reach the operator's own network, unless `executors.rest.allow_private` lists the host."""

    secret: SecretOf = no_secrets
    """Return a named secret: `await context.secret("github_token")`. Its value is masked in all that comes back from the task."""
    llm: LlmOf = no_models
    """Call a language model: `(await context.llm("Name three rivers.", temperature=0))["content"]`."""

    http: HttpOf = no_client
    """Return a guarded `httpx.AsyncClient` for an SDK: `AsyncOpenAI(http_client=context.http())`. For single requests use `fetch`."""
    files: Files = NO_FILES
    """Read and save files: `await context.files.read(inputs["report"])`, `await context.files.save("chart.png", data)`."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The operator's configuration of this executor in `executors.config`; empty without one."""

    begin: Callable[[], Coroutine[Any, Any, None]] = unstored
    """Store that the effect begins, and return when that is committed: `await context.begin()`. It is for executors with
    `begins_itself`; a further call does nothing."""

    @property
    def idempotency_key(self) -> str:
        """A text that every attempt at this task in this run has, also after a crash, for services that can tell a repeat from a new
        request: 36 letters, digits and hyphens. Each run has its own key. An executor that sends several requests for one task
        adds to it what tells them apart."""
        return str(uuid.uuid5(NAMES, f"{self.run_id}/{self.task_id}"))


class Executor(ABC):
    """One kind of work. A subclass sets `id`, `name` and `description`, and implements `execute`.

    There is one instance per process, made without arguments, so it keeps no state of a task. In the pool `loop`, `execute` is called
    for many tasks at the same time on one event loop: blocking work belongs in another `pool`, in `asyncio.to_thread` or in `on_a_thread`.
    """

    id: ClassVar[str]
    """The name of the executor in `schemas.method` of a task: 1 to 255 characters, unique among all executors; also the name of the entry point."""
    name: ClassVar[str]
    """The title that people see, 1 to 255 characters."""
    description: ClassVar[str]
    """The purpose of the executor, 1 to 255 characters."""
    tags: ClassVar[tuple[str, ...]] = ()
    """The tags of its skill in the agent card."""
    input_schema: ClassVar[Json] = {"type": "object"}
    """JSON Schema (2020-12) that the inputs must fit before `execute` is called. Allow additional properties: the results of
    dependencies are inputs too."""
    result_schema: ClassVar[Json] = {}
    """JSON Schema (2020-12) of the result, for documentation."""
    templates: ClassVar[frozenset[str]] = frozenset()
    """The inputs whose places, such as `{{fetch.json.title}}`, the executor fills by itself. In others they are filled before
    `execute` is called."""
    verbatim: ClassVar[frozenset[str]] = frozenset()
    """The inputs in which nothing is a place."""
    secret_inputs: ClassVar[frozenset[str] | None] = None
    """The inputs that may have a named secret, `{{secret.github_token}}`; None for all but `verbatim`, or for none if there are
    `templates`, in which they could be named. Leave out those that reach a model or people. The secret is masked in everything that
    comes back."""
    param_names: ClassVar[frozenset[str] | None] = None
    """The names in `params` that the executor reads, besides those that every task may have: a task with another name is
    refused. None: any name is accepted, and one that resembles a name of every task gives a warning."""
    example: ClassVar[Json] = {}
    """Inputs that work."""
    example_result: ClassVar[Any] = None
    """A result, any JSON value, that fits `result_schema`: what a task has in a demo run, where `execute` is not called."""
    answer: ClassVar[str | None] = None
    """The field of the result with the answer in words, if there is one: A2A clients receive it as text, besides the whole result."""
    idempotent: ClassVar[bool] = True
    """Whether the work may be repeated after a crash without harm. If not, a task that a crash interrupted is repeated only if it had not
    begun; else `params.on_interrupt` decides. `params.retry` repeats only attempts that have failed by themselves."""
    begins_itself: ClassVar[bool] = False
    """Whether `execute` awaits `context.begin()` right before the work that must not be done twice, such as the first byte of a
    request. Otherwise the server stores the beginning before it calls `execute`. It matters only to work that is not `idempotent`."""
    cancelable: ClassVar[bool] = True
    """Whether cancelling stops the work; shown to clients."""
    pool: ClassVar[Literal["loop", "thread", "process"]] = "loop"
    """The place where it runs, unless the task (`params.pool`) or the operator (`pools.executors`) chooses: on the `loop`, on a `thread` with a
    loop of its own, or in a `process`, where a crash harms no other task and a cancellation ends also code that blocks."""
    cacheable: ClassVar[bool] = False
    """Whether the result depends on nothing but inputs, params, schemas and the results of dependencies, and nothing else happens: then
    `params.cache` may take it from an equal task."""
    extra: ClassVar[str | None] = None
    """The extra of aipartnerupflow that it needs, such as `llm`, `crewai` or `langgraph`: without it the executor is listed but not enabled."""

    def check(self, params: Json) -> None:  # noqa: B027  (most have nothing to check)
        """Raise ExecutorError for params that can never work: the request is then refused before anything is stored or runs.

        It is called in web processes too, for each task of a request: be quick, and look only at `params`.
        """

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        """Like `check`, for an executor that also looks at the inputs of the request, which have no results of dependencies yet."""
        self.check(params)

    def pool_for(self, inputs: Json) -> str:
        """Return the pool for these inputs, if neither the task nor the operator chooses. Not called when `pool` is `loop`."""
        return self.pool

    def may_repeat(self, inputs: Json) -> bool:
        """Return whether the work with these inputs may be repeated after a crash; by default `idempotent`.

        `inputs` are those of the request, in which places are not filled yet.
        """
        return self.idempotent

    async def is_repeatable(self, inputs: Json, context: Context) -> bool:
        """Return whether work that had begun when its worker died may be repeated, although `may_repeat` is False.

        It is called after the crash, at most 30 s long, and may ask the service. `inputs` are those of `execute`.
        """
        return False

    def uncacheable(self, params: Json, inputs: Json) -> str | None:
        """Return why a task with these params and inputs, as they are in the request, may not have `params.cache`; None if it may.

        The text follows `params.cache`; by default it says whether the executor is `cacheable`.
        """
        return (
            None if self.cacheable else f"is not for {self.id}: it does not say that equal tasks have the same result"
        )

    def caches_calls(self, inputs: Json) -> bool:
        """Return whether `params.cache` of such a task takes answers of the models that it calls, each by itself, and not its result.

        Return true for work with effects, which a cached result would leave out, such as an agent with tools. The server then ignores `uncacheable`.
        """
        return False

    def receiver(self, inputs: Json) -> str | None:
        """Return the URL to whose host alone everything in these inputs is sent.

        It decides about secrets that are bound to hosts. None, if it is not known: then they are refused.
        """
        return None

    async def call_off(self, inputs: Json, context: Context, *, memo: Any) -> Any:
        """Stop, within two seconds, the work elsewhere that waits for the answer to a question that
        ended without one.

        It is called when the task was cancelled, or when the question expired. `inputs` are those
        of `execute`, and `memo` is the question's. Returns a partial result, which becomes that of
        a cancelled task; None for none. Raises ExecutorError when the work elsewhere may continue.
        It may be called again when a worker dies meanwhile.
        """
        return None

    @abstractmethod
    async def execute(self, inputs: Json, context: Context) -> Any:
        """Do the work and return its result: any JSON value, up to the size that the operator allows (1 MiB).

        `inputs` fit `input_schema`, and have the result of each dependency under its task id. Raises ExecutorError on failure; a
        failure is never a result. A `Spawn` adds tasks to the tree. Any other exception fails the task too, without its text. Raises `Parked` to wait for an answer.

        A timeout or a cancellation raises `asyncio.CancelledError` at an `await`: stop the work within two seconds, clean up, and
        raise it again, or raise `Stopped`.
        """
