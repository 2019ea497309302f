"""The cache of results in a worker: a task with `params.cache` takes the result of an equal one, waits for it, or makes the call.

Runs import it for their first task that has one.
"""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from django.conf import settings

from aipartnerupflow import __version__
from aipartnerupflow.executors import Executor, ExecutorError, Json, Parked
from aipartnerupflow.executors.base import Wait
from apflow_site.db import pools
from tasks.executors.caching import problems, version_of
from tasks.executors.llm.client import Models, ignore
from tasks.executors.llm.executor import Llm, filled_texts
from tasks.executors.llm.fallbacks import Latencies
from tasks.executors.llm.prompt import Completion, Prompt
from tasks.queue.leases import Claim
from tasks.rules.caching import NothingThere, cache_of, digest_of, parts_at
from tasks.rules.field_rules import PARAMS
from tasks.rules.files import MARK
from tasks.services.waits import equal_calls
from tasks.services.waits.equal_calls import Asking, CallEnd, Found
from tasks.services.waits.questions import OpenQuestion
from tasks.storage.bulk import db_time
from tasks.telemetry import metrics
from tasks.worker.attempt import crashed
from tasks.worker.load_run import LoadedTask
from tasks.worker.models_of_task import TracedModels
from tasks.worker.outcomes import Outcome, completed_in_turn
from tasks.worker.secrets_of_run import names_in, values_of

if TYPE_CHECKING:
    from tasks.worker.attempts import Attempts
    from tasks.worker.run_parts import RunParts

WAITING: Final = "for the same call of task {task_id}"


class Calling(NamedTuple):
    """A call that a task makes."""

    asking: Asking
    is_shared: bool


def end_of(call: Calling | None, task: LoadedTask, claim: Claim, *, result: bytes | None) -> CallEnd:
    """Return the end of a call with the result, as JSON text; None: it has none. Without the call, it is not known here.

    A result that names a file is not stored: the file goes with the tree of its task.
    """
    if call is None or result is None or MARK in result:
        return CallEnd(claim.run_id, task.id)
    now = claim.now()
    until = now + timedelta(seconds=call.asking.seconds)
    row = {
        "key": call.asking.key,
        "user_id": task.user_id,
        "is_shared": call.is_shared,
        "executor_id": task.executor_id,
        "task_id": task.id,
        "run_id": claim.run_id,
        "root_id": claim.root_id,
        "stored_at": db_time(now),
        "expires_at": db_time(until),
        "size": len(result),
        "result": result.decode(),
    }
    return CallEnd(claim.run_id, task.id, call.asking.flight, row)


class _Calls:
    """The transactions of a process: tasks of a user that ask in the same moment share one."""

    def __init__(self) -> None:
        self.looks = pools.SharedCalls(equal_calls.look)
        self.takes = pools.SharedCalls(equal_calls.take, pool="write")
        self.settlements = pools.SharedCalls(equal_calls.settle, pool="write")


@lru_cache(maxsize=1)
def _calls(_loop: asyncio.AbstractEventLoop) -> _Calls:
    """Return those of the worker on this loop."""
    return _Calls()


async def settled(wait: OpenQuestion) -> OpenQuestion | None:
    """Return the wait for a call, which has ended if the call is over; None if its task no longer waits."""
    return await _calls(asyncio.get_running_loop()).settlements.result(str(wait.event), wait.id)


class CacheOfRun:
    """The cache, for the tasks of one run."""

    def __init__(self, run: "RunParts", attempts: "Attempts") -> None:
        self._run, self._attempts = run, attempts
        self._agents: set[str] = set()
        """The tasks of which only the answers of models are taken."""

    async def found(self, task: LoadedTask, executor: Executor, *, is_begun: bool) -> Outcome | None:
        """Return the outcome of a task whose result is there; None if it has to make the call, or is an agent.

        `is_begun`: an attempt is under way, which continues. Raises Parked if an equal call is under way, and ExecutorError.
        """
        wanted = cache_of(task.params)
        assert wanted is not None  # noqa: S101  (checked by the caller)
        run = self._run
        async with run.shared.slots.take(task.user_id, task.priority):  # thousands may be ready at the same moment
            inputs = self._attempts.filled_inputs(task, own=task.inputs, values=values_of(run.claim))
            try:
                faults = list(problems(executor, task.params, inputs, has_secret=bool(names_in(task))))
                is_agent = executor.caches_calls(inputs)
            except Exception as error:  # noqa: BLE001  (a plug-in may raise anything)
                return replace(crashed(executor, error), may_retry=False)
            for field, why in faults:  # a result was filled in, or the configuration has changed meanwhile
                raise ExecutorError(f"params.{field} {why}.", permanent=True)
            if is_agent:
                self._agents.add(task.id)
                return None
            parts = self._parts(task, executor, inputs, wanted.key)
        key = digest_of([None if wanted.is_shared else task.user_id, parts])
        flight = digest_of([task.user_id, key]) if wanted.is_shared else key
        asking = Asking(key, flight, wanted.seconds, run.claim.run_id, task.id)
        run.recorder.calling(task, Calling(asking, wanted.is_shared))
        if is_begun:
            return None
        calls = _calls(asyncio.get_running_loop())
        found: Found | str | None = None
        if not wanted.refreshes:
            found = await calls.looks.result(task.user_id, asking)
        if found is None:
            found = await calls.takes.result(task.user_id, asking)
        if isinstance(found, Found) and not wanted.refreshes:
            metrics.cache_looked(executor.id, is_hit=True)
            return await self._hit(task, found)
        if isinstance(found, str) and not wanted.refreshes:
            parked = Parked(WAITING.format(task_id=found), expires_after_seconds=task.params.get("timeout_seconds"))
            parked.wait = Wait(kind="call", event=flight, match={})
            raise parked
        metrics.cache_looked(executor.id, is_hit=False)
        return None

    def of_calls(self, models: Models, task: LoadedTask) -> Models:
        """Return the models, whose answers to an agent are taken from the cache, each by its prompt."""
        return CachedModels(models, task, self._run) if task.id in self._agents else models

    async def _hit(self, task: LoadedTask, found: Found) -> Outcome:
        """Complete the task with the result of another one, without an attempt."""
        run = self._run
        await run.recorder.started(task, durably=False)
        outcome = await completed_in_turn(
            found.result, max_bytes=settings.APFLOW.limits.result_bytes, is_composed=False
        )
        is_own = found.user_id == task.user_id  # else its ids are not for this user
        run.recorder.taken(
            task,
            {
                "task_id": found.task_id if is_own else None,
                "run_id": found.run_id if is_own else None,
                "at": found.stored_at.isoformat(),
            },
        )
        return await run.secrets.masked(task, outcome)

    def _parts(self, task: LoadedTask, executor: Executor, inputs: Json, paths: tuple[str, ...] | None) -> Any:
        """Return what tells the call apart. In `inputs`, secrets are places with their names, and encrypted texts are as they are stored."""
        results = self._run.results_of(task)
        if isinstance(executor, Llm):  # it fills its texts by itself
            inputs = filled_texts(inputs)
        code = [
            executor.id,
            version_of(executor, inputs),
            task.params.get("checks"),
        ]  # a stored result has passed these
        if paths is not None:
            try:
                return [*code, parts_at(paths, inputs)]
            except NothingThere as error:
                raise ExecutorError(str(error), permanent=True) from None
        own = {name: value for name, value in inputs.items() if name not in results}
        params = {name: value for name, value in task.params.items() if name not in PARAMS}
        schemas = {name: value for name, value in task.schemas.items() if name not in ("input_schema", "method")}
        given = (settings.APFLOW.executors.config or {}).get(executor.id)
        # The ids of dependencies differ from tree to tree.
        return [*code, own, [*results.values()], params, schemas, given, settings.APFLOW.llm.default_model]


class CachedModels:
    """The models of a task whose tools or agents may do anything: only answers of models are taken, and the rest happens each time.

    Equal calls at the same time are each made: the tasks are at work already.
    """

    def __init__(self, models: Models, task: LoadedTask, run: "RunParts") -> None:
        self._models, self._task, self._run = models, task, run
        wanted = cache_of(task.params)
        assert wanted is not None  # noqa: S101  (checked by the caller)
        self._wanted = wanted

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
        task, run = self._task, self._run
        asked = [prompt.model, [*prompt.others], [*prompt.messages], dict(prompt.options), prompt.api_base]
        key = digest_of([task.user_id, __version__, run.secrets.masker.json(asked)])
        asking = Asking(key, key, self._wanted.seconds, run.claim.run_id, task.id)
        found = None
        if not self._wanted.refreshes:
            found = await _calls(asyncio.get_running_loop()).looks.result(task.user_id, asking)
        metrics.cache_looked(str(task.executor_id), is_hit=found is not None)
        if found is not None:
            run.recorder.logged(task, f"The answer of {prompt.model} is that to {found.task_id}, from the cache")
            taken = TakenAnswer(Completion(**found.result))
            recorded = TracedModels(
                task, recorder=run.recorder, secrets=run.secrets, latencies=Latencies(), models=taken
            )
            return await recorded.ask(prompt, spent=_nothing, heard=heard, thought=thought)
        answer = await self._models.ask(prompt, spent=spent, heard=heard, thought=thought)
        stored = run.secrets.masker.stored(orjson.dumps(asdict(answer)))
        run.recorder.answered(end_of(Calling(asking, is_shared=False), task, run.claim, result=stored))
        return answer


class TakenAnswer:
    """Models that give one answer, which costs nothing."""

    def __init__(self, answer: Completion) -> None:
        free = dict.fromkeys(answer.usage, 0) | {"cost_usd": 0.0}
        self._answer = replace(answer, usage=free)

    async def check(self, prompt: Prompt) -> None:
        """Do nothing: the model has answered before."""

    async def ask(
        self,
        prompt: Prompt,
        *,
        spent: Callable[[Json], None],
        heard: Callable[[str], None],
        thought: Callable[[str], None] = ignore,
    ) -> Completion:
        answer = self._answer
        spent(answer.usage | {"model": prompt.model})
        thought(answer.reasoning or "")
        heard(answer.content or "")
        return answer


def _nothing(_usage: Json) -> None:
    """Count nothing: the answer was paid before."""
