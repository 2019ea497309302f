"""`@step` and `@workflow`: functions whose calls within a workflow are stored, and not made again in a replay."""

import inspect
import sys
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from copy import copy
from datetime import datetime
from functools import cached_property, partial
from typing import Any, Final, Generic, Literal, ParamSpec, Protocol, TypeVar, get_type_hints, overload

import orjson

from aipartnerupflow.executors import Json
from aipartnerupflow.workflows.drive import Again, Call, Drive, Kind, Record, caller, current
from aipartnerupflow.workflows.source import impure_calls, version_of
from aipartnerupflow.workflows.values import (
    arguments_schema,
    decoded,
    encoded,
    encoded_with_secrets,
    literal,
    schema_of,
)

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
MOST_ARGUMENT_BYTES: Final = 65_536
"""The bytes of the arguments of an exception beyond which a workflow gets it with its text only."""


class StepFailed(Exception):
    """A call of a workflow failed. The text says why; `path` is the place of the call in the workflow."""

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class StepCancelled(StepFailed):
    """A call was cancelled by a person, and not by the workflow."""


class Function(Generic[P, R]):
    """A function whose arguments and result are JSON: the base of `Step` and `Workflow`.

    Raises TypeError if its parameters cannot be passed by name.
    """

    kind: Kind

    def __init__(self, function: Callable[P, Any], **options: Any) -> None:
        self.__wrapped__ = function
        self.__name__, self.__qualname__, self.__module__ = (
            function.__name__,
            function.__qualname__,
            function.__module__,
        )
        self.__doc__ = function.__doc__
        self.target = f"{function.__module__}:{function.__qualname__}"
        self.place = f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"
        self.signature = inspect.signature(function)
        self.set_options: Json = {name: value for name, value in options.items() if value is not None}
        for each in self.signature.parameters.values():
            if each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL):
                raise TypeError(
                    f"{self.place}: {self.__name__}() has the parameter '{each.name}', which has no name in the stored call. "
                    "Give each parameter a name, and pass several values as a list."
                )

    @cached_property
    def hints(self) -> dict[str, Any]:
        """The type hints, whose names may be defined after the function. Raises TypeError for one that is not there at run time."""
        try:
            return get_type_hints(self.__wrapped__, include_extras=True)
        except NameError as error:
            raise TypeError(
                f"{self.place}: a type hint of {self.__name__}() is not known at run time: {error}. Import or define it in the module, "
                "and not only for the type checker."
            ) from None

    @cached_property
    def input_schema(self) -> Json:
        """The JSON Schema of the arguments."""
        return arguments_schema(self.__wrapped__)

    @cached_property
    def result_schema(self) -> Json:
        """The JSON Schema of the result."""
        return schema_of(self.hints.get("return", Any))

    def check(self) -> None:
        """Raise TypeError for a type hint that is not known, or has no JSON form."""
        for name, hint in self.hints.items():
            try:
                schema_of(hint)
            except TypeError as error:
                what = "result" if name == "return" else f"parameter '{name}'"
                raise TypeError(f"{self.place}: the {what} of {self.__name__}() has no JSON form: {error}") from None

    def bound(self, args: Sequence[Any], kwargs: Mapping[str, Any], place: str) -> tuple[Json, dict[str, str]]:
        """Return the arguments as JSON by name, and secrets among them by JSON Pointer. Raises TypeError that names the place."""
        try:
            given = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{place}: {self.__name__}{self.signature} is called wrongly: {error}") from None
        named: Json = {}
        for name, value in given.arguments.items():
            is_more = self.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
            named |= value if is_more else {name: value}
        try:
            return encoded_with_secrets(named)
        except TypeError:
            for name, value in named.items():
                try:
                    encoded_with_secrets(value)
                except TypeError as error:
                    raise TypeError(
                        f"{place}: the argument '{name}' of {self.__name__}() cannot be stored: {error}."
                    ) from None
            raise

    def arguments(self, inputs: Mapping[str, Any]) -> Json:
        """Return the arguments that the JSON says, by their type hints. Raises ValueError."""
        return {name: self.argument(name, value) for name, value in inputs.items()}

    def argument(self, name: str, value: Any) -> Any:
        """Return the argument that the JSON value says. Raises ValueError."""
        try:
            return decoded(value, self.hints.get(name, Any))
        except ValueError as error:
            raise ValueError(f"The argument '{name}' does not fit {self.__name__}{self.signature}: {error}") from None

    def stored(self, result: Any) -> Any:
        """Return the result as JSON. Raises TypeError that names the place."""
        try:
            return encoded(result)
        except TypeError as error:
            raise TypeError(f"{self.place}: the result of {self.__name__}() cannot be stored: {error}.") from None

    def declared(self, error: BaseException) -> tuple[str, list[Any]] | None:
        """Return the name and the arguments of the exception in `raises` that this one is; None if the workflow gets StepFailed."""
        kind = next((kind for kind in self.set_options.get("raises", ()) if isinstance(error, kind)), None)
        if kind is None:
            return None
        try:
            arguments = encoded(list(error.args))
        except TypeError:
            arguments = None
        if arguments is None or len(orjson.dumps(arguments)) > MOST_ARGUMENT_BYTES:
            arguments = [str(error)[:MOST_ARGUMENT_BYTES].encode("utf-8", "replace").decode()]
        return kind.__name__, arguments

    def call(self, args: Sequence[Any], kwargs: Mapping[str, Any], place: str) -> Call:
        """Return the call of it, which is not made yet."""
        inputs, secrets = self.bound(args, kwargs, place)
        options = {name: value for name, value in self.set_options.items() if name not in ("key", "raises")}
        key = self.set_options.get("key")
        return Call(
            kind=self.kind,
            target=self.target,
            inputs=inputs,
            secrets=secrets,
            options=options,
            key=key,
            place=place,
            function=self,
        )


async def made(drive: Drive, call: Call, returns: Any, raises: Sequence[type[BaseException]] = ()) -> Any:
    """Make the call, and return its result as a value of the type `returns`. Raises StepFailed, or one of `raises`."""
    end = await drive.call(call)
    if end.status == "completed":
        try:
            return decoded(end.result, returns)
        except ValueError as error:
            raise StepFailed(f"The result of {call.text} does not fit its type: {error}", path=call.path) from None
    if end.status == "cancelled":
        raise drive.raised(StepCancelled(end.error or f"{call.text} was cancelled", path=call.path))
    for kind in raises:
        if kind.__name__ == end.exception:
            raise drive.raised(kind(*(end.result if isinstance(end.result, list) else [end.error])))
    raise drive.raised(StepFailed(end.error or f"{call.text} failed", path=call.path))


class Step(Function[P, R]):
    """A function that runs once for each call in a workflow: `@step` makes it. Elsewhere a call is a plain call."""

    kind = "step"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[None, None, R]:
        """Return the call as a coroutine. Raises TypeError for arguments that do not fit, or are no JSON."""
        if (drive := current()) is not None:
            call = self.call(args, kwargs, caller(1))
            raises = self.set_options.get("raises", ())
            work: Coroutine[None, None, R] = made(drive, call, self.hints.get("return", Any), raises)
        elif inspect.iscoroutinefunction(self.__wrapped__):
            return self.__wrapped__(*args, **kwargs)  # type: ignore[no-any-return]
        else:
            work = _awaitable(partial(self.__wrapped__, *args, **kwargs))
        vars_of: Any = work
        vars_of.__qualname__ = self.__qualname__  # for the warning about a call that is never awaited
        return work

    def options(
        self,
        *,
        key: str | None = None,
        name: str | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        pool: Literal["loop", "thread", "process"] | None = None,
    ) -> "Step[P, R]":
        """Return the step with other options.

        `key` names the call, in place of its number: use it where data decides about the number of calls.
        """
        new = copy(self)
        given = {"key": key, "name": name, "timeout": timeout, "retries": retries, "pool": pool}
        new.set_options = self.set_options | {name: value for name, value in given.items() if value is not None}
        return new


async def _awaitable(work: Callable[[], R]) -> R:
    return work()


class LocalStep(Step[[], Any]):
    """A step whose function only the code of its workflow has, and that runs in the process of this code.

    The adapters of frameworks make one of each model request and tool call, whose objects are no JSON: `inputs` are what people see,
    and what a replay compares.
    """

    def __init__(
        self, function: Callable[[], Coroutine[Any, Any, Any]], *, target: str, inputs: Json, **options: Any
    ) -> None:
        super().__init__(function, **options)
        self.target, self.inputs = target, inputs
        self.__name__ = self.__qualname__ = target.rpartition(":")[2]

    def call(self, args: Sequence[Any], kwargs: Mapping[str, Any], place: str) -> Call:
        return super().call(args, kwargs, self.target)  # the place is within the framework, and says nothing

    def bound(self, args: Sequence[Any], kwargs: Mapping[str, Any], place: str) -> tuple[Json, dict[str, str]]:
        try:
            return encoded(self.inputs), {}
        except TypeError as error:
            raise TypeError(f"{place}: the inputs of {self.__name__} cannot be stored: {error}.") from None

    def arguments(self, inputs: Mapping[str, Any]) -> Json:
        return {}


def local_step(
    target: str, function: Callable[[], Coroutine[Any, Any, Any]], /, *, inputs: Json, key: str, **options: Any
) -> Coroutine[None, None, Any]:
    """Call the function as a step with the name after the colon of `target`, and return its result, which is JSON."""
    work: Coroutine[None, None, Any] = LocalStep(function, target=target, inputs=inputs, key=key, **options)()
    return work


class StepDecorator(Protocol):
    """The result of `step(retries=3)`, which makes a step of a function."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Step[P, R]: ...


@overload
def step(function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    timeout: float | None = None,
    retries: int | None = None,
    pool: Literal["loop", "thread", "process"] | None = None,
    raises: Sequence[type[Exception]] = (),
    idempotent: bool = False,
) -> StepDecorator: ...
def step(function: Any = None, /, **options: Any) -> Any:
    """Make a step of a function, plain or async. Its arguments and its result are JSON, by its type hints.

    `timeout` is in seconds, for each attempt; `retries` is how many more attempts follow one that failed. `raises` are types of
    exceptions that the workflow gets as they are; of others it gets StepFailed with the text. `idempotent` means that a repeated call does
    no harm.
    """
    return partial(Step, **options) if function is None else Step(function)


class Workflow(Function[P, R]):
    """A workflow: `@workflow` makes it. A call returns an `Invocation`, to be awaited."""

    kind = "workflow"
    _is_checked = False

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> "Invocation[R]":
        """Return the call. Awaited in another workflow it is a call of that one; elsewhere it runs in this process, without a server."""
        call = self.call(args, kwargs, caller(1))
        if call.secrets:
            raise TypeError(
                f"{call.place}: a secret cannot be an argument of the workflow {self.__name__}(), whose code never has its value. "
                "Call secret(…) there, as an argument of the step that needs it."
            )
        return Invocation(self, call)

    def check(self) -> None:
        """Raise TypeError for a type hint without a JSON form, and for a call whose result would differ in a replay."""
        if self._is_checked:
            return
        super().check()
        if found := impure_calls(self.__wrapped__):
            raise TypeError(found[0])
        self._is_checked = True

    def as_task(self, *args: P.args, **kwargs: P.kwargs) -> Json:
        """Return the task that runs the workflow on a server, with these arguments. Raises TypeError for arguments that do not fit.

        Clients start it: `client.start(research, topic="rivers")`.
        """
        inputs, secrets = self.bound(args, kwargs, caller(2))
        if secrets:
            raise TypeError(
                "A client knows no secrets. Write the place of one as an input of the task: {{secret.name}}."
            )
        return {
            "name": self.__name__,
            "schemas": {"method": f"workflow:{self.__name__}"},
            "inputs": literal(inputs),
        }

    def returned(self, result: Any) -> R:
        """Return the result, as JSON, as a value of the declared type. Raises ValueError."""
        value: R = decoded(result, self.hints.get("return", Any))
        return value

    @cached_property
    def version(self) -> str:
        """The version of its code: the one that it declares, or else that of its module. Raises TypeError if that has no source."""
        if (declared := self.set_options.get("version")) is not None:
            return str(declared)
        module = sys.modules[self.__module__]
        steps = [name for name, value in vars(module).items() if isinstance(value, Step)]
        try:
            return version_of(inspect.getsource(module), steps=steps)
        except (OSError, TypeError):
            raise TypeError(
                f"{self.place}: the source of the module '{self.__module__}' is not there, so the version of {self.__name__}() is not "
                'known. Declare it: @workflow(version="1").'
            ) from None

    @property
    def replays(self) -> bool:
        """Whether the code may continue what another version of it has begun."""
        return bool(self.set_options.get("replays"))

    def drive(
        self,
        inputs: Mapping[str, Any],
        *,
        seed: str,
        at: datetime,
        history: Sequence[Record] = (),
        is_cancelled: bool = False,
    ) -> Drive:
        """Return the code at work. Raises ValueError for inputs that do not fit."""
        self.check()
        arguments = self.arguments(inputs)

        async def work() -> Any:
            try:
                return self.stored(await self.__wrapped__(**arguments))  # type: ignore[call-arg]
            except Again as again:
                further, secrets = self.bound((), again.arguments, self.place)
                if secrets:
                    raise TypeError(
                        f"{self.place}: a secret cannot be an argument of Again. Call secret(…) in the part that needs it."
                    ) from None
                raise Again(**further) from None

        return Drive(work, seed=seed, at=at, history=history, is_cancelled=is_cancelled)


class Invocation(Coroutine[None, None, R_co]):
    """A call of a workflow that begins when it is awaited. `aipartnerupflow.workflows.testing.play` takes one, too."""

    def __init__(self, workflow: Workflow[..., R_co], call: Call) -> None:
        self.workflow, self.call = workflow, call
        self._work: Coroutine[None, None, R_co] | None = None

    def _begun(self) -> Coroutine[None, None, R_co]:
        if self._work is None:
            drive, returns = current(), self.workflow.hints.get("return", Any)
            if drive is not None:
                self._work = made(drive, self.call, returns)
            else:
                from aipartnerupflow.workflows.local import run_here

                self._work = run_here(self.workflow, self.call)
        return self._work

    def __await__(self) -> Generator[Any, None, R_co]:
        return self._begun().__await__()

    def send(self, value: Any, /) -> Any:
        return self._begun().send(value)

    def throw(self, *args: Any) -> Any:
        return self._begun().throw(*args)

    def close(self) -> None:
        if self._work is not None:
            self._work.close()


class WorkflowDecorator(Protocol):
    """The result of `workflow(version="2")`, which makes a workflow of a coroutine function."""

    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...


@overload
def workflow(function: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...
@overload
def workflow(
    *, version: str | None = None, replays: bool = False, on_mismatch: Literal["wait", "fail"] = "wait"
) -> WorkflowDecorator: ...
def workflow(function: Any = None, /, **options: Any) -> Any:
    """Make a workflow of a coroutine function. Its code decides which calls follow which ends, and nothing else: the work is in steps.

    After a crash the code runs again from its top, and calls that have ended return their results at once. That needs the code with
    which the run began: `version` is its name, by default a digest of the module, in which comments, docstrings and the bodies of steps
    do not count. A run waits for a worker that has the version. With `replays` it continues with the code at hand, as long as that makes
    the same calls. With `on_mismatch="fail"` it fails in place of waiting.

    Raises TypeError for a plain function, and for code that calls `time.time()`, `random`, `open` and the like.
    """
    if function is None:
        return partial(_workflow, **options)
    return _workflow(function)


def _workflow(function: Callable[P, Coroutine[Any, Any, R]], **options: Any) -> Workflow[P, R]:
    new = Workflow[P, R](function, **options)
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{new.place}: {new.__name__}() is a plain function. Write `async def {new.__name__}`.")
    if found := impure_calls(function):
        raise TypeError(found[0])
    return new
