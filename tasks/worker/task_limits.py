"""The named limits in a worker process: a task takes a unit of each before its attempt, or parks until its turn.

So does a call of a model. The first one of an attempt of llm_executor parks: it is called again from its start. Others wait where they are.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Final

import orjson
from django.conf import settings

from aipartnerupflow.executors import ExecutorError, Json, Parked
from aipartnerupflow.executors.base import Wait
from apflow_site.db import pools
from tasks.executors.llm.client import Models, ignore
from tasks.executors.llm.prompt import Completion, Prompt
from tasks.rules.exceptions import TooManyWaits
from tasks.rules.limits import TOKENS, Facts, Limit, name_of, problems, waiting_for
from tasks.services.waits.limit_waits import START_SECONDS, Asking, Settlement, SharedLimits
from tasks.services.waits.questions import OpenQuestion
from tasks.telemetry import metrics
from tasks.worker.load_run import LoadedTask
from tasks.worker.wait_room import NO_ROOM

if TYPE_CHECKING:
    from tasks.worker.run_parts import RunParts

CHAT: Final = "llm_executor"
CHARACTERS_PER_TOKEN: Final = 4
FIRST_ANSWER: Final = 1_000
"""The tokens of the first answer of a model, if its length is not limited."""
MOST_HELD_SECONDS: Final = 60.0
"""The seconds for which an answer of a service may hold back all that call it: it may be an answer to one key."""
OF_SERVICES: Final = frozenset({"host", "provider"})
NEWEST: Final = 0.1
"""The weight of the newest answer in the mean."""


class TaskLimits:
    """Lets tasks that ask in the same moment take, and begin to wait, in one transaction for each limit."""

    def __init__(self, given: Mapping[str, Json]) -> None:
        """`given` are those of the configuration."""
        shared = self._shared = SharedLimits(given)
        self.matched: frozenset[str] = frozenset()
        """The facts that a limit matches."""
        self.is_any = self.has_places = False
        """Whether there are limits, and whether tasks may have places of one. Both are plain attributes: each task asks."""
        self._takes = pools.SharedCalls(shared.take, pool="write")
        self._entries = pools.SharedCalls(shared.enter, pool="write")
        self._settlements = pools.SharedCalls(shared.settle, pool="write")
        self._holds = pools.SharedCalls(shared.hold, pool="write")
        self._answers: dict[str, float] = {}
        """The mean tokens of the answers of each model."""
        self._note()

    def refresh(self) -> None:
        """Read what administrators have changed meanwhile. Sync."""
        self._shared.refresh()
        self._note()

    def _note(self) -> None:
        limits = self._shared.limits.values()
        self.matched = frozenset(name for limit in limits for name in limit.match)
        # Places are given back also when their limit has been removed meanwhile.
        self.has_places |= any(limit.at_once is not None for limit in limits)
        self.is_any = bool(limits)

    async def take(self, task: LoadedTask, facts: Facts, *, run_id: str, taken: Collection[str]) -> list[str]:
        """Take a unit of each limit of the task but those that are `taken`, and return the names of all that it has.

        Raises Parked if it has to wait for one, and ExecutorError, permanent, if it names one that there is not.
        """
        names = [*taken]
        for limit in self._of(task, facts):
            if limit.is_for_calls or limit.name in names:
                continue
            asking, key = Asking(task.user_id, run_id, task.id), limit.key_of(task.user_id)
            seconds = None if self._shared.has_ahead(key) else await self._takes.result(key, asking)
            if seconds is not None:
                raise _parked(limit, asking, seconds, names=names)
            names.append(limit.name)
        return names

    async def take_call(
        self, task: LoadedTask, facts: Facts, *, run_id: str, tokens: int, taken: Collection[str]
    ) -> list[Limit]:
        """Take the units of a call of a model, and return its limits. Raises Parked if it has to wait for one."""
        names, limits = [*taken], list[Limit]()
        for limit in self._of(task, facts):
            if not limit.is_for_calls:
                continue
            if limit.name not in names:
                asking = Asking(task.user_id, run_id, task.id, tokens)
                seconds = await self._takes.result(limit.key_of(task.user_id), asking)
                if seconds is not None:
                    raise _parked(limit, asking, seconds, names=names, is_call=True)
                names.append(limit.name)
            limits.append(limit)
        return limits

    async def entered(self, wait: OpenQuestion) -> OpenQuestion | None:
        """Return the wait, which has its turn from now on; None if its task no longer waits."""
        return wait if wait.is_listening else await self._entries.result(str(wait.event), wait.id)

    def knows(self, wait: OpenQuestion) -> bool:
        """Return whether its limit still exists."""
        return name_of(str(wait.event)) in self._shared.limits

    async def hold(self, facts: Facts, user_id: str, seconds: float) -> None:
        """Let nothing of the limits of this service start for so long, in any worker: it has asked for that."""
        for limit in self._shared.limits.values():
            if not OF_SERVICES.isdisjoint(limit.match) and limit.matches(facts):
                await self._holds.result(limit.key_of(user_id), min(seconds, MOST_HELD_SECONDS))

    def estimate(self, prompt: Prompt) -> int:
        """Return about how many tokens the call will use: its text, and the mean answer of its model, if that is not longer than allowed."""
        most = prompt.options.get("max_completion_tokens") or prompt.options.get("max_tokens")
        answer = self._answers.get(prompt.model, most or FIRST_ANSWER)
        characters = sum(map(_characters_of, prompt.messages))
        return max(1, characters // CHARACTERS_PER_TOKEN + round(min(answer, most or answer)))

    async def settle(
        self, limits: Collection[Limit], user_id: str, prompt: Prompt, usage: Json, *, reserved: int, seconds_ago: float
    ) -> None:
        """Correct what was taken for the tokens of a call."""
        answer, used = usage.get("completion_tokens") or 0, usage.get("total_tokens") or 0
        before = self._answers.get(prompt.model, answer)
        self._answers[prompt.model] = before + NEWEST * (answer - before)
        settlement = Settlement(reserved, used, seconds_ago, str(id(usage)))
        for limit in limits:
            if TOKENS in limit.rates:
                await self._settlements.result(limit.key_of(user_id), settlement)

    def limited(
        self, models: Models, task: LoadedTask, run: "RunParts", *, facts: Facts, taken: Collection[str], may_park: bool
    ) -> Models:
        """Return the models, whose calls take units of their limits, if there are any. `facts` are those of the task."""
        if not any(limit.is_for_calls for limit in self._shared.limits.values()):
            return models
        may_park = may_park and task.executor_id == CHAT
        return LimitedModels(models, self, task, run, facts=facts, taken=taken, may_park=may_park)

    def _of(self, task: LoadedTask, facts: Facts) -> Iterator[Limit]:
        named: Collection[str] = task.params.get("limits") or ()
        limits = self._shared.limits
        for _, problem in problems(named, limits):  # it has been removed since the tree was stored
            raise ExecutorError(f"params.limits {problem}", permanent=True)
        yield from (limit for limit in limits.values() if limit.name in named or limit.matches(facts))


class LimitedModels:
    """Models whose calls take units of the limits that match them. The calls of one task wait one after the other.

    `taken` are the limits of which the task has a unit already.
    """

    def __init__(
        self,
        models: Models,
        limits: TaskLimits,
        task: LoadedTask,
        run: "RunParts",
        *,
        facts: Facts,
        taken: Collection[str],
        may_park: bool,
    ) -> None:
        self._facts = facts
        self._models, self._limits, self._task, self._run = models, limits, task, run
        self._taken = taken
        self._may_park = may_park
        self._lock = asyncio.Lock()

    async def check(self, prompt: Prompt) -> None:
        await self._models.check(prompt)

    async def ask(
        self,
        prompt: Prompt,
        *,
        spent: Callable[[Json], None],
        heard: Callable[[str], None],
        thought: Callable[[str], None] = ignore,
    ) -> Completion:
        tokens = self._limits.estimate(prompt)
        async with self._lock:
            limits = await self._enter(prompt, tokens)
        used: Json | None = None
        began = time.monotonic()

        def counted(usage: Json) -> None:
            nonlocal used
            used = usage
            spent(usage)

        try:
            return await self._models.ask(prompt, spent=counted, heard=heard, thought=thought)
        except ExecutorError as error:
            if error.retry_after_seconds:
                await self._limits.hold(self._facts_of(prompt), self._task.user_id, error.retry_after_seconds)
            raise
        finally:
            if used is not None and limits:  # else what was taken stays: how much it used is not known
                ago = time.monotonic() - began
                await self._limits.settle(limits, self._task.user_id, prompt, used, reserved=tokens, seconds_ago=ago)

    async def _enter(self, prompt: Prompt, tokens: int) -> list[Limit]:
        """Return once the call has a unit of each of its limits. Raises Parked if the executor can be called again instead."""
        task = self._task
        facts = self._facts_of(prompt)
        taken, self._taken = self._taken, ()
        may_park, self._may_park = self._may_park, False
        while True:
            try:
                return await self._limits.take_call(
                    task, facts, run_id=self._run.claim.run_id, tokens=tokens, taken=taken
                )
            except ParkedForLimit as parked:
                if self._run.questions.question_of(task.id) is not None:  # it still needs its answer
                    await asyncio.sleep(max(START_SECONDS, parked.seconds))
                    taken = parked.names[:-1]
                elif may_park:
                    raise
                else:
                    await self._wait(parked)
                    taken = parked.names

    def _facts_of(self, prompt: Prompt) -> Facts:
        """Return the facts of the call. An address that the user chose is none of the provider."""
        provider = () if prompt.api_base else (prompt.model.partition("/")[0],)
        return {**self._facts, "provider": provider, "model": (prompt.model,)}

    async def _wait(self, parked: "ParkedForLimit") -> None:
        """Wait where it is, with a place: visibly, and in turn. If the worker dies, the attempt counts as interrupted."""
        run, task = self._run, self._task
        parked.memo = memo_of(parked.names, is_call=False)
        question = run.questions.ask(task.id, run.secrets.masked_question(parked))
        try:
            await run.recorder.asked(task, question, is_limited=True, is_at_work=True)
            settled = await self._limits.entered(question)
            if settled is not None:
                run.questions.answer(settled)
            await run.questions.replied(task.id)
        except TooManyWaits:
            most = settings.APFLOW.limits.waits_per_user
            raise ExecutorError(NO_ROOM.format(user=task.user_id, most=most), permanent=True) from None
        finally:
            run.recorder.waited(task)
            run.questions.forget(task.id)


class ParkedForLimit(Parked):
    """A wait for a limit. `names` are those of which the task has a unit when it is over."""

    names: list[str]
    seconds: float


def memo_of(taken: Collection[str], *, is_call: bool) -> str:
    """Return the memo of a wait, which `Attempts.limits_taken` gets when it is over."""
    return orjson.dumps({"taken": [*taken], "is_call": is_call}).decode()


def _parked(limit: Limit, asking: Asking, seconds: float, *, names: list[str], is_call: bool = False) -> ParkedForLimit:
    metrics.limit_waited(limit.name)
    taken = [*names, limit.name]
    parked = ParkedForLimit(waiting_for(limit, seconds))
    parked.memo = memo_of(taken, is_call=is_call)
    parked.names, parked.seconds = taken, seconds
    key = limit.key_of(asking.user_id)
    parked.wait = Wait(kind="limit", on_expiry="resume", event=key, match={"tokens": asking.tokens} if is_call else {})
    return parked


def _characters_of(message: Json) -> int:
    content = message.get("content")
    if isinstance(content, str):
        return len(content)
    return sum(len(part.get("text") or "") for part in content or () if isinstance(part, dict))
