"""Several requests for one call: another model is asked after one fails (`params.fallback`), or beside one that is slow (`params.hedge`).

Each request is a call of its own for its record and the budget. Neither the task nor the loop of an agent starts again.
"""

import asyncio
import re
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from math import ceil
from typing import Any, Final

from aipartnerupflow.executors import ExecutorError, Json, Stopped
from tasks.executors.llm.client import Models, ignore
from tasks.executors.llm.loading import model_table
from tasks.executors.llm.prompt import Completion, Prompt, fault_of_models
from tasks.rules.places import has_places
from tasks.status import Status

RATE_LIMIT: Final = "429"
SERVER_ERROR: Final = "5xx"
TIMEOUT: Final = "timeout"
CONNECTION: Final = "connection"
CONTEXT_LENGTH: Final = "context_length"
REFUSAL: Final = "refusal"
KINDS: Final = (RATE_LIMIT, SERVER_ERROR, TIMEOUT, CONNECTION, CONTEXT_LENGTH, REFUSAL)
"""The kinds of failures, by the words of `params.fallback.on`."""
DEFAULT: Final = frozenset(KINDS) - {REFUSAL}
"""A refusal may be intended, so no other model is asked after one unless `on` names it."""
CHATS: Final = ("chat", "responses", None)
"""The modes of models that can take tools, in LiteLLM's table."""
MOST_SECONDS: Final = 3_600
AFTER: Final = re.compile(r"after p([5-9]\d)")
"""`params.hedge` by what was observed: the second request is sent when so many percent of recent answers would have begun."""
FEW: Final = 20
"""The answers of a model that have to be known before a second request is sent by what was observed."""
RECENT: Final = 200
LEAST_SECONDS: Final = 0.5
"""The least delay by what was observed: a model that is always quick would get a second request for each short delay."""
MOST_KNOWN: Final = 1_000
NOT_FIRST: Final = "Another request of the same call began to answer first."


class ModelError(ExecutorError):
    """A request to a model failed. `kind` is one of KINDS; empty if no other model is asked because of it."""

    def __init__(
        self, message: str, *, kind: str = "", permanent: bool = False, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message, permanent=permanent, retry_after_seconds=retry_after_seconds)
        self.kind = kind


# --- what a task may say ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The failures after which the next model is asked, the seconds that a model may take to begin its answer if there is a next
    one, and those after which a second request is sent.
    """

    on: frozenset[str] = DEFAULT
    after_seconds: float | None = None
    hedge_seconds: float | None = None
    hedge_share: float | None = None
    """Instead of `hedge_seconds`, the share of recent answers of the model that began within them."""


def policy_of(fallback: Any, hedge: Any) -> Policy:
    """Read `params.fallback` and `params.hedge`, which may be None. Raises ExecutorError."""
    said = _fields(fallback, "fallback", ("on", "after_seconds"))
    words = said.get("on")
    if words is None:
        on = DEFAULT
    elif not isinstance(words, list) or not words:
        raise _refused(f"params.fallback.on must be a list of at least one of {', '.join(KINDS)}")
    else:
        texts = ["429" if type(word) is int and word == 429 else word for word in words]
        for word in texts:
            if word not in KINDS:
                close = get_close_matches(str(word)[:100].lower(), KINDS, n=1)
                hint = f" Did you mean '{close[0]}'?" if close else ""
                raise _refused(
                    f"params.fallback.on: '{str(word)[:100]}' is not known.{hint} Known are {', '.join(KINDS)}"
                )
        on = frozenset(texts)
    after_seconds = _seconds(said.get("after_seconds"), "params.fallback.after_seconds")
    if after_seconds is not None and TIMEOUT not in on:
        raise _refused("params.fallback.after_seconds needs the word timeout in params.fallback.on")
    if isinstance(hedge, str):
        if (found := AFTER.fullmatch(hedge)) is None:
            raise _refused(
                f"params.hedge: '{hedge[:100]}' is not known. Write 'after p95', or p50 to p99, or give after_seconds"
            )
        return Policy(on=on, after_seconds=after_seconds, hedge_share=int(found[1]) / 100)
    hedge_seconds = _seconds(
        _fields(hedge, "hedge", ("after_seconds",)).get("after_seconds"), "params.hedge.after_seconds"
    )
    if hedge is not None and hedge_seconds is None:
        raise _refused("params.hedge needs after_seconds: the seconds after which a second request is sent")
    return Policy(on=on, after_seconds=after_seconds, hedge_seconds=hedge_seconds)


def check(params: Json, given: Any = None, *, has_tools: bool = False) -> None:
    """Raise ExecutorError for models, `params.fallback` or `params.hedge` that can never work.

    `given` are the models of the inputs, which precede those of the params; `has_tools`: the models get tools.
    """
    policy_of(params.get("fallback"), params.get("hedge"))
    if isinstance(params.get("model"), list) and (problem := fault_of_models(params["model"])):
        raise _refused(f"params.model {problem}")
    place, models = ("params.model", params.get("model")) if given is None else ("inputs.model", given)
    is_one = (isinstance(models, list) and len(models) == 1) or (isinstance(models, str) and not has_places(models))
    if params.get("fallback") is not None and is_one:
        raise _refused(
            f"params.fallback is for several models, and {place} names one. Give a list: the first is asked first"
        )
    if has_tools and isinstance(models, list):
        for model in models:
            if isinstance(model, str) and model in _without_tools():
                raise _refused(f"{place}: {model} is known to take no tools, and this task has some. Leave it out")


def _fields(given: Any, name: str, known: tuple[str, ...]) -> Json:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise _refused(f"params.{name} must be an object with {' and '.join(known)}")
    for field_name in given:
        if field_name not in known:
            raise _refused(f"params.{name}.{field_name[:100]} is not known; known are {', '.join(known)}")
    return given


def _seconds(given: Any, place: str) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= MOST_SECONDS:
        raise _refused(f"{place} must be a number above 0, at most {MOST_SECONDS:,}")
    return float(given)


def _refused(message: str) -> ExecutorError:
    return ExecutorError(f"{message}.", permanent=True)


@cache
def _without_tools() -> frozenset[str]:
    """Return the names of models that take no tools, by LiteLLM's table. A model that is not in it may take some."""
    with_tools, without = set[str](), set[str]()
    for name, facts in model_table().items():
        if facts.get("supports_function_calling") is False or facts.get("mode") not in CHATS:
            without |= {name, f"{facts.get('litellm_provider')}/{name}"}
        else:
            with_tools.add(name)
    return frozenset(without - with_tools)


class Latencies:
    """The seconds after which recent answers of each model began, or were complete if they came at once, in one worker process."""

    def __init__(self) -> None:
        self._seconds = OrderedDict[tuple[str, str | None], deque[float]]()

    def note(self, prompt: Prompt, seconds: float) -> None:
        key = prompt.model, prompt.api_base  # an address that a user chose is slow for itself
        known = self._seconds.setdefault(key, deque(maxlen=RECENT))
        known.append(seconds)
        self._seconds.move_to_end(key)
        if len(self._seconds) > MOST_KNOWN:
            self._seconds.popitem(last=False)

    def within(self, share: float, prompt: Prompt) -> float | None:
        """Return the seconds within which this share of the answers began, at least LEAST_SECONDS; None if there were few."""
        known = sorted(self._seconds.get((prompt.model, prompt.api_base), ()))
        return None if len(known) < FEW else max(LEAST_SECONDS, known[ceil(share * len(known)) - 1])


# --- one call ---


@dataclass(slots=True)
class End:
    """The record of a request that is given up before its answer is complete, once it is."""

    status: Status = Status.CANCELLED
    error: str | None = None


END: Final[ContextVar[End | None]] = ContextVar("how the request is given up", default=None)


class WithFallbacks:
    """Models of a task of which one call may be several requests."""

    def __init__(self, models: Models, *, log: Callable[[str], None], latencies: Latencies) -> None:
        """`log` gets a line for each further request, with the reason. `latencies` are those of the models so far."""
        self._models = models
        self._log = log
        self._latencies = latencies

    async def ask(
        self,
        prompt: Prompt,
        *,
        spent: Callable[[Json], None],
        heard: Callable[[str], None],
        thought: Callable[[str], None] = ignore,
    ) -> Completion:
        if not prompt.others and prompt.hedge is None:
            return await self._models.ask(prompt, spent=spent, heard=heard, thought=thought)
        policy = policy_of(prompt.fallback, prompt.hedge)
        if policy.hedge_share is not None:
            policy = replace(policy, hedge_seconds=self._latencies.within(policy.hedge_share, prompt))
        return await _Race(self._models, prompt, policy, self._log, spent=spent, heard=heard, thought=thought).run()

    async def check(self, prompt: Prompt) -> None:
        await self._models.check(prompt)


@dataclass(slots=True, kw_only=True, eq=False)
class _Request:
    """One request. It has begun when the first part of its answer has arrived; `characters` of the answer have."""

    model: str
    sent_at: float
    has_begun: bool = False
    characters: int = 0
    end: End = field(default_factory=End)
    task: "asyncio.Task[Completion]" = field(init=False)


class _Race:
    """The requests of one call: the first that begins to answer continues alone, and if it fails, the next model is asked."""

    def __init__(
        self,
        models: Models,
        prompt: Prompt,
        policy: Policy,
        log: Callable[[str], None],
        *,
        spent: Callable[[Json], None],
        heard: Callable[[str], None],
        thought: Callable[[str], None],
    ) -> None:
        self._models, self._prompt, self._policy, self._log = models, prompt, policy, log
        self._spent, self._heard, self._thought = spent, heard, thought
        self._left = deque([prompt.model, *prompt.others])
        self._hedge_seconds = policy.hedge_seconds
        self._running: list[_Request] = []
        self._given_up: list[_Request] = []
        self._failed: list[tuple[_Request, ExecutorError]] = []
        self._stirred = asyncio.Event()
        self._now = asyncio.get_running_loop().time

    async def run(self) -> Completion:
        """Return the answer. If cancelled, raises Stopped with the part that has arrived. Raises ExecutorError."""
        self._send(self._left.popleft())
        try:
            while True:
                self._stirred.clear()
                for each in [each for each in self._running if each.task.done()]:
                    self._running.remove(each)
                    try:
                        answer = each.task.result()
                    except ExecutorError as error:
                        self._failed.append((each, error))
                    else:
                        for other in [*self._running]:
                            self._give_up(other, Status.CANCELLED, NOT_FIRST)
                        return answer
                look_at = self._look()
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(look_at):
                        await self._stirred.wait()
        except asyncio.CancelledError:
            lead = next((each for each in self._running if each.has_begun), None) or next(iter(self._running), None)
            await self._stop()
            if lead is not None and not lead.task.cancelled() and isinstance(stopped := lead.task.exception(), Stopped):
                raise stopped from None
            raise
        finally:
            await self._stop()

    def _send(self, model: str) -> None:
        """Send a request to the model. Its answer is passed on as it arrives, unless another one has begun before."""
        request = _Request(model=model, sent_at=self._now())
        prompt = replace(self._prompt, model=model, others=(), fallback=None, hedge=None)

        def arrived(text: str, pass_on: Callable[[str], None]) -> None:
            if request.end.error is not None or any(each.has_begun for each in self._running if each is not request):
                return
            if not request.has_begun:
                request.has_begun = True
                self._stirred.set()
            if text:
                pass_on(text)

        def heard(text: str) -> None:
            request.characters += len(text)
            arrived(text, self._heard)

        async def work() -> Completion:
            END.set(request.end)
            return await self._models.ask(
                prompt, spent=self._spent, heard=heard, thought=lambda text: arrived(text, self._thought)
            )

        def over(task: "asyncio.Task[Completion]") -> None:
            if not task.cancelled():
                task.exception()  # else Python logs that it was never retrieved
            self._stirred.set()

        self._running.append(request)
        request.task = asyncio.create_task(work())
        request.task.add_done_callback(over)

    def _look(self) -> float | None:
        """Give up requests that are no longer wanted, and send those that are due. Return the next time to look, by the clock of
        the loop; None if only a request can change anything. Raises ExecutorError if no model is left to be asked.
        """
        if any(each.has_begun for each in self._running):
            for each in [each for each in self._running if not each.has_begun]:
                self._give_up(each, Status.CANCELLED, NOT_FIRST)
            return None
        now, after, hedge = self._now(), self._policy.after_seconds, self._hedge_seconds
        for each in [*self._running]:
            if self._left and after is not None and now >= each.sent_at + after:
                text = f"{each.model} did not begin to answer in {after:g} s (params.fallback.after_seconds)."
                self._give_up(each, Status.FAILED, text)
                self._failed.append((each, ModelError(text, kind=TIMEOUT)))
        if not self._running:
            self._go_on()
        elif hedge is not None and len(self._running) == 1 and now >= self._running[0].sent_at + hedge:
            slow = self._running[0].model
            model = self._left.popleft() if self._left else slow
            self._log(f"{slow} has not begun to answer in {hedge:g} s; a second request goes to {model}.")
            self._hedge_seconds = None
            self._send(model)
        due = [each.sent_at + after for each in self._running if self._left and after is not None]
        if self._hedge_seconds is not None and len(self._running) == 1:
            due.append(self._running[0].sent_at + self._hedge_seconds)
        return min(due, default=None)

    def _go_on(self) -> None:
        """Ask the next model. Raises ExecutorError if there is none, or if `on` does not name the failure."""
        request, error = self._failed[-1]
        if self._left and isinstance(error, ModelError) and error.kind in self._policy.on:
            model = self._left.popleft()
            if request.characters:
                self._log(
                    f"{request.model} failed after {request.characters:,} characters of its answer, which are dropped: {error} "
                    f"{model} answers from the start."
                )
            else:
                self._log(f"{request.model} failed: {error} {model} is asked instead.")
            self._send(model)
            return
        errors = [error for _, error in self._failed]
        if len(errors) == 1:
            raise error
        said = " ".join(f"{request.model}: {error}" for request, error in self._failed)
        # Another attempt asks all models again, so it may help if one of them failed temporarily, and may begin with the first
        # that can be asked again.
        waits = [error.retry_after_seconds or 0 for error in errors if not error.permanent]
        raise ExecutorError(
            f"None of {len(errors)} requests was answered. {said}",
            permanent=not waits,
            retry_after_seconds=min(waits, default=0) or None,
        )

    def _give_up(self, request: _Request, status: Status, error: str) -> None:
        request.end.status, request.end.error = status, error
        request.task.cancel()
        self._running.remove(request)
        self._given_up.append(request)

    async def _stop(self) -> None:
        """Return when all requests have ended and are recorded."""
        for each in self._running:
            each.task.cancel()
        if tasks := [each.task for each in (*self._running, *self._given_up) if not each.task.done()]:
            await asyncio.wait(tasks)
