"""The named limits in a worker process: a task takes a unit of each before its attempt, or parks until its turn.

So does a call of a model. The first one of an attempt of llm_executor parks: it is called again from its start. Others wait where they are.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import orjson
from django.conf import settings
from django.db import DatabaseError

from aipartnerupflow.executors import ExecutorError, Json, Parked
from aipartnerupflow.executors.base import Wait
from apflow_site.db import pools
from tasks.executors.llm.client import Models, ignore, key_digest, ready
from tasks.executors.llm.prompt import Completion, Prompt
from tasks.executors.llm.rate_headers import reports_in
from tasks.rules.exceptions import TooManyWaits
from tasks.rules.limits import TOKENS, Facts, Limit, Report, id_of, problems, waiting_for
from tasks.services.waits.limit_waits import AHEAD_SECONDS, START_SECONDS, Asking, Settlement, SharedLimits
from tasks.services.waits.questions import OpenQuestion
from tasks.telemetry import metrics
from tasks.worker.load_run import LoadedTask
from tasks.worker.wait_room import NO_ROOM

if TYPE_CHECKING:
    from tasks.worker.run_parts import RunParts

logger = logging.getLogger(__name__)

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

    def __init__(self, given: Mapping[str, Json], *, process_id: str = "") -> None:
        """`given` are those of the configuration. Without the id of this worker process, each task has places of its own."""
        shared = self._shared = SharedLimits(given, process_id=process_id)
        self._of_all = list[Limit]()
        self._of_users: Mapping[str, list[Limit]] = {}
        self._facts: Mapping[str, frozenset[str]] = {}
        """The names of the facts that limits match, by user; "" for those of all."""
        self.has_places = False
        """Whether tasks may have places of one. A plain attribute: each task asks."""
        self._placed = set[tuple[str, str]]()
        """The tasks with places of their own, by run and task."""
        self._takes = pools.SharedCalls(shared.take, pool="write")
        self._returns = pools.SharedCalls(shared.give_back, pool="write")
        self._places = pools.SharedCalls(shared.settle_place, pool="write")
        self._entries = pools.SharedCalls(shared.enter, pool="write")
        self._settlements = pools.SharedCalls(shared.settle, pool="write")
        self._holds = pools.SharedCalls(shared.hold, pool="write")
        self._reports = pools.SharedCalls(shared.tighten, pool="write")
        self._returning = set[str]()
        """The keys of the shares that will be trimmed."""
        self._answers: dict[str, float] = {}
        """The mean tokens of the answers of each model."""
        self._note()

    def refresh(self) -> None:
        """Read what has been changed meanwhile. Sync."""
        self._shared.refresh()
        self._note()

    def _note(self) -> None:
        limits = self._shared.limits.values()
        # In one order, so that no two tasks have what the other waits for. Pauses come first.
        in_order = sorted(limits, key=lambda limit: not limit.is_paused)
        of_all = [limit for limit in in_order if not limit.owner]
        of_users = {owner: [limit for limit in in_order if limit.owner in ("", owner)] for owner in _owners(limits)}
        facts = {owner: frozenset[str]().union(*(limit.facts for limit in found)) for owner, found in of_users.items()}
        if of_all:
            facts[""] = frozenset[str]().union(*(limit.facts for limit in of_all))
        self._of_all, self._of_users, self._facts = of_all, of_users, facts
        # Places are given back also when their limit has been removed meanwhile.
        self.has_places |= any(limit.at_once is not None for limit in limits)

    def asks_for(self, user_id: str) -> Collection[str] | None:
        """Return the names of the facts by which limits match tasks of this user. None: there is no limit."""
        return self._facts.get(user_id, self._facts.get(""))

    async def take(
        self, task: LoadedTask, facts: Facts, *, run_id: str, taken: Collection[str], places: AsyncExitStack
    ) -> list[str]:
        """Take what the task needs of each of its limits but those that are `taken`, and return the ids of all that it has.

        It gives its places back when `places` is closed. Raises Parked if it has to wait for one, and ExecutorError, permanent, if it
        names one that there is not.
        """
        ids, shares = [*taken], dict[str, Asking]()
        places.callback(self._placed.discard, (run_id, task.id))
        for limit in self._of(task, facts):
            if limit.is_for_calls or limit.id in ids:
                continue
            asking, key = Asking(task.user_id, run_id, task.id, cost=_cost(limit, facts)), limit.key_of(facts)
            seconds = None if self._shared.has_ahead(key, asking) else await self._takes.result(key, asking)
            if seconds is not None:
                for share, place in shares.items():  # it keeps them while it waits, in any worker
                    await self._places.result(share, place)
                raise _parked(limit, key, asking, seconds, ids=ids)
            ids.append(limit.id)
            if limit.at_once is None:
                continue
            if self._shared.is_in_share(key, asking):
                shares[key] = asking
                places.callback(self._shared.leave, key, asking)
                self._look_again(key)
            else:
                self._placed.add((run_id, task.id))
        return ids

    def has_own_places(self, task: LoadedTask, run_id: str) -> bool:
        """Return whether the task has places that are no part of the share of this process."""
        return (run_id, task.id) in self._placed

    def places_taken(self, task: LoadedTask, run_id: str, ids: Collection[str]) -> None:
        """Note that the task has got its places of these limits in its wait."""
        limits = map(self._shared.limits.get, ids)
        if any(limit is None or limit.at_once is not None for limit in limits):
            self._placed.add((run_id, task.id))

    def _look_again(self, key: str) -> None:
        """Give back what is not used of the share, as soon as nothing more may start with it."""
        if key not in self._returning:
            self._returning.add(key)
            asyncio.get_running_loop().call_later(AHEAD_SECONDS, self._give_back, key)

    def _give_back(self, key: str) -> None:
        self._returns.result(key, None).add_done_callback(lambda call: self._given_back(key, call))

    def _given_back(self, key: str, call: "asyncio.Future[None]") -> None:
        if isinstance(error := call.exception(), DatabaseError):
            text = "Could not give back places of a limit: the database is unavailable"
            logger.warning(text, extra={"event": "limits.failed"})
        elif error is not None:
            raise error
        self._returning.discard(key)
        if key in self._shared.shares():
            self._look_again(key)

    async def take_call(
        self, task: LoadedTask, facts: Facts, *, run_id: str, tokens: int, taken: Collection[str]
    ) -> list[Limit]:
        """Take the units of a call of a model, and return its limits. Raises Parked if it has to wait for one."""
        ids, limits = [*taken], list[Limit]()
        for limit in self._of(task, facts):
            if not limit.is_for_calls:
                continue
            if limit.id not in ids:
                asking, key = Asking(task.user_id, run_id, task.id, tokens, _cost(limit, facts)), limit.key_of(facts)
                seconds = None if self._shared.has_ahead(key, asking) else await self._takes.result(key, asking)
                if seconds is not None:
                    raise _parked(limit, key, asking, seconds, ids=ids, is_call=True)
                ids.append(limit.id)
            limits.append(limit)
        return limits

    async def entered(self, wait: OpenQuestion) -> OpenQuestion | None:
        """Return the wait, which has its turn from now on; None if its task no longer waits."""
        return wait if wait.is_listening else await self._entries.result(str(wait.event), wait.id)

    def knows(self, wait: OpenQuestion) -> bool:
        """Return whether its limit still exists."""
        return id_of(str(wait.event)) in self._shared.limits

    async def hold(self, facts: Facts, user_id: str, seconds: float) -> None:
        """Let nothing of the limits of this service start for so long, in any worker: it has asked for that."""
        for limit in self._of_service(facts, user_id):
            await self._holds.result(limit.key_of(facts), min(seconds, MOST_HELD_SECONDS))

    async def tighten(self, facts: Facts, user_id: str, reports: Collection[Report]) -> None:
        """Let no more start of the limits of this service than it says is left, in any worker."""
        for limit in self._of_service(facts, user_id):
            for report in reports:
                rate = limit.rates.get(report.measure)
                if rate and rate.left(0.0, report.left, seconds=report.seconds) > 0:  # else that changes nothing
                    await self._reports.result(limit.key_of(facts), report)

    def _of_service(self, facts: Facts, user_id: str) -> Iterator[Limit]:
        for limit in self._for(user_id):
            if not OF_SERVICES.isdisjoint(limit.match) and limit.matches(facts):
                yield limit

    def estimate(self, prompt: Prompt) -> int:
        """Return about how many tokens the call will use: its text, and the mean answer of its model, if that is not longer than allowed."""
        most = prompt.options.get("max_completion_tokens") or prompt.options.get("max_tokens")
        answer = self._answers.get(prompt.model, most or FIRST_ANSWER)
        characters = sum(map(_characters_of, prompt.messages))
        return max(1, characters // CHARACTERS_PER_TOKEN + round(min(answer, most or answer)))

    async def settle(
        self, limits: Collection[Limit], facts: Facts, prompt: Prompt, usage: Json, *, reserved: int, seconds_ago: float
    ) -> None:
        """Correct what was taken for the tokens of a call."""
        answer, used = usage.get("completion_tokens") or 0, usage.get("total_tokens") or 0
        before = self._answers.get(prompt.model, answer)
        self._answers[prompt.model] = before + NEWEST * (answer - before)
        settlement = Settlement(reserved, used, seconds_ago, str(id(usage)))
        for limit in limits:
            if TOKENS in limit.rates:
                await self._settlements.result(limit.key_of(facts), settlement)

    def limited(
        self, models: Models, task: LoadedTask, run: "RunParts", *, facts: Facts, taken: Collection[str], may_park: bool
    ) -> Models:
        """Return the models, whose calls take units of their limits, if there are any. `facts` are those of the task."""
        if not any(limit.is_for_calls for limit in self._for(task.user_id)):
            return models
        may_park = may_park and task.executor_id == CHAT
        return LimitedModels(models, self, task, run, facts=facts, taken=taken, may_park=may_park)

    def _for(self, user_id: str) -> Collection[Limit]:
        """Return the limits of all users, and those of this one."""
        return self._of_users.get(user_id, self._of_all)

    def _of(self, task: LoadedTask, facts: Facts) -> Iterator[Limit]:
        """Return the limits of the task, in their order."""
        limits = self._for(task.user_id)
        named: Collection[str] = task.params.get("limits") or ()
        known = {limit.name for limit in limits if not limit.pause} if named else ()
        for _, problem in problems(named, known):  # it has been removed since the tree was stored
            raise ExecutorError(f"params.limits {problem}", permanent=True)
        for limit in limits:
            if limit.matches(facts) or (limit.name in named and not limit.pause):
                yield limit


def _owners(limits: Collection[Limit]) -> set[str]:
    return {limit.owner for limit in limits if limit.owner}


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
        await ready(prompt)  # else what was taken would be used seconds later, together with others
        tokens = self._limits.estimate(prompt)
        facts = await self._facts_of(prompt)
        async with self._lock:
            limits = await self._enter(facts, tokens)
        used: Json | None = None
        began = time.monotonic()

        def counted(usage: Json) -> None:
            nonlocal used
            used = usage
            spent(usage)

        try:
            answer = await self._models.ask(prompt, spent=counted, heard=heard, thought=thought)
            if limits and (reports := reports_in(answer.rate_headers)):
                await self._limits.tighten(facts, self._task.user_id, reports)
            return answer
        except ExecutorError as error:
            if error.retry_after_seconds:
                await self._limits.hold(facts, self._task.user_id, error.retry_after_seconds)
            raise
        finally:
            if used is not None and limits:  # else what was taken stays: how much it used is not known
                ago = time.monotonic() - began
                await self._limits.settle(limits, facts, prompt, used, reserved=tokens, seconds_ago=ago)

    async def _enter(self, facts: Facts, tokens: int) -> list[Limit]:
        """Return once the call has a unit of each of its limits. Raises Parked if the executor can be called again instead."""
        task = self._task
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
                    taken = parked.ids[:-1]
                elif may_park:
                    raise
                else:
                    await self._wait(parked)
                    taken = parked.ids

    async def _facts_of(self, prompt: Prompt) -> Facts:
        """Return the facts of the call. An address that the user chose is none of the provider."""
        provider = () if prompt.api_base else (prompt.model.partition("/")[0],)
        facts = {**self._facts, "provider": provider, "model": (prompt.model,)}
        if "key" in (self._limits.asks_for(self._task.user_id) or ()):
            facts["key"] = () if (digest := await key_digest(prompt)) is None else (digest,)
        return facts

    async def _wait(self, parked: "ParkedForLimit") -> None:
        """Wait where it is, with a place: visibly, and in turn. If the worker dies, the attempt counts as interrupted."""
        run, task = self._run, self._task
        parked.memo = memo_of(parked.ids, is_call=False)
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
    """A wait for a limit. `ids` are those of which the task has a unit when it is over."""

    ids: list[str]
    seconds: float


def memo_of(taken: Collection[str], *, is_call: bool) -> str:
    """Return the memo of a wait, which `Attempts.limits_taken` gets when it is over."""
    return orjson.dumps({"taken": [*taken], "is_call": is_call}).decode()


def _cost(limit: Limit, facts: Facts) -> int:
    try:
        return limit.cost_of(facts)
    except ValueError as error:
        raise ExecutorError(f"This task can never start: {error}", permanent=True) from None


def _parked(
    limit: Limit, key: str, asking: Asking, seconds: float, *, ids: list[str], is_call: bool = False
) -> ParkedForLimit:
    metrics.limit_waited(limit.metric)
    taken = [*ids, limit.id]
    parked = ParkedForLimit(waiting_for(limit, seconds, user_id=asking.user_id))
    parked.memo = memo_of(taken, is_call=is_call)
    parked.ids, parked.seconds = taken, seconds
    wanted = {"limit": limit.name, "cost": asking.cost} | ({"tokens": asking.tokens} if is_call else {})
    parked.wait = Wait(kind="limit", on_expiry="resume", event=key, match=wanted)
    return parked


def _characters_of(message: Json) -> int:
    content = message.get("content")
    if isinstance(content, str):
        return len(content)
    return sum(len(part.get("text") or "") for part in content or () if isinstance(part, dict))
