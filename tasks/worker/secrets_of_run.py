"""The named secrets of one run: resolved for a task when it runs, and masked in all that comes back."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Final, TypeVar

import orjson

from aipartnerupflow.executors import ExecutorError, Json, Parked
from apflow_site.db import pools
from llmkeys import named_secrets, sealed_texts
from llmkeys.cipher import CannotUnseal
from llmkeys.masker import MASKER, Masker, TooManyLines
from llmkeys.named_secrets import Opened
from llmkeys.secret_forms import MOST_LINES, may_be_sent_to
from tasks.executors.input_places import ANOTHER_HOST, misuse, not_there, secrets_in
from tasks.pools.fair_semaphore import FairSemaphore
from tasks.queue.leases import Claim
from tasks.rules.places import RUN, SECRET
from tasks.rules.references import label_of
from tasks.services.secrets.write_only import opened_inputs
from tasks.worker.load_run import LoadedTask
from tasks.worker.outcomes import Outcome


def values_of(claim: Claim) -> Json:
    """`{"run": {"inputs": …}}`, with the inputs that the run was started with, as they are stored."""
    return {RUN: {"inputs": orjson.loads(claim.inputs) if claim.inputs else {}}}


def opened_values(claim: Claim, *, user_id: str) -> Json:
    """Return `values_of` with their encrypted texts decrypted. A text that cannot be decrypted stays: it may come from outside."""
    values = values_of(claim)
    is_open = claim.inputs is None or not sealed_texts.may_contain(claim.inputs)
    return values if is_open else sealed_texts.opened_where_possible(values, owner=user_id)


T = TypeVar("T")
logger = logging.getLogger(__name__)
FRESH_SECONDS: Final = 1.0
"""The seconds that a secret is used without reading it again."""
QUICK: Final = 1_000_000
"""Bytes times texts to look for that take some milliseconds."""
TOO_MANY: Final = (
    f"The secrets that the tasks of one run use may have {MOST_LINES} lines together. Use fewer, or split the tree."
)
NO_HOST: Final = "The secret '{name}' may only be sent to {hosts} (allow_hosts). Say where it goes: context.secret('{name}', host=…)."


class SecretsOfRun:
    """`masker` knows every secret that a task of the run has used.

    The secrets of `begun`, tasks that began before, are masked too: they may have left them in a service.
    """

    def __init__(self, begun: Iterable[LoadedTask]) -> None:
        self.masker = Masker()
        self._noted: set[str] = set()
        self._kept: dict[str, Opened] = {}
        self._stale_at = 0.0
        self._unread: list[LoadedTask] | None = [task for task in begun if task.has_places] or None
        self._lock = asyncio.Lock()

    async def enter(self) -> None:
        """Call it first in the job of each task: its log lines are masked from here on."""
        MASKER.set(self.masker)
        if self._unread is not None:
            async with self._lock:
                await self._read()

    async def of(self, task: LoadedTask) -> dict[str, Opened]:
        """Map the names in the inputs to the secrets. Raises ExecutorError, permanent, if one is not there."""
        names = names_in(task)
        return await self._opened(task, names) if names else {}

    async def own_inputs(self, task: LoadedTask) -> Json:
        """Return the stored inputs with what is encrypted in them decrypted. Raises ExecutorError, permanent, if something cannot be."""
        if not task.has_sealed:
            return task.inputs
        if task.memory < QUICK:
            return _decrypted_inputs(task)
        async with _large_texts(asyncio.get_running_loop()).turn(task.user_id, task.priority):
            return await asyncio.to_thread(_decrypted_inputs, task)

    async def secret(self, task: LoadedTask, name: str, *, host: str | None = None) -> str:
        """Return the value, as `Context.secret` does."""
        found = (await self._opened(task, {name}))[name]
        shown = {"name": name, "hosts": ", ".join(found.allow_hosts)}
        if found.allow_hosts and host is None:
            raise ExecutorError(NO_HOST.format(**shown), permanent=True)
        if not may_be_sent_to(str(host), found.allow_hosts):
            raise ExecutorError(f"{ANOTHER_HOST.format(**shown)}.", permanent=True)
        return found.value.reveal()

    async def masked(self, task: LoadedTask, outcome: Outcome) -> Outcome:
        """Return the outcome of the task with `…` for each secret in its result, its error and the tasks that it adds."""
        if outcome.spawn is not None and self.masker.size:
            text = orjson.dumps([list(outcome.spawn.tasks), outcome.spawn.memo])
            tasks, memo = orjson.loads(await self._masked_json(task, text))
            outcome = replace(outcome, spawn=replace(outcome.spawn, tasks=tasks, memo=memo))
        if outcome.raised is not None:
            outcome = replace(outcome, raised=(outcome.raised[0], self.masker.json(outcome.raised[1])))
        error = None if outcome.error is None else self.masker.text(outcome.error)
        stored = None if outcome.stored is None else await self._masked_json(task, outcome.stored)
        if stored is outcome.stored:
            return outcome if error == outcome.error else replace(outcome, error=error)
        result = None if outcome.result is None else orjson.loads(stored or b"null")
        return replace(outcome, stored=stored, result=result, error=error)

    async def _masked_json(self, task: LoadedTask, text: bytes) -> bytes:
        """Look through a result for secrets: many of them take half a second for 1 MiB."""
        if not self.masker.size:
            return self.masker.stored(text)
        return await self.in_turn(task, partial(self.masker.stored, text), size=len(text))

    async def in_turn(self, task: LoadedTask, work: Callable[[], T], *, size: int) -> T:
        """Do work that masks a text of this size: if that takes long, on a thread, where users take turns."""
        if size * max(1, self.masker.size) < QUICK:
            return work()
        async with _large_texts(asyncio.get_running_loop()).turn(task.user_id, task.priority):
            return await asyncio.to_thread(work)

    def masked_question(self, parked: Parked) -> Parked:
        """Replace each secret in what is stored of a question or a wait by `…`."""
        parked.question = self.masker.text(parked.question)
        parked.memo = self.masker.stored(parked.memo.encode()).decode()
        if parked.options is not None:
            parked.options = [self.masker.text(option) for option in parked.options]
        parked.schema = self.masker.json(parked.schema)
        if parked.assignees is not None:
            parked.assignees = [self.masker.text(name) for name in parked.assignees]
        if parked.escalation is not None:
            later = [self.masker.text(name) for name in parked.escalation.assignees]
            parked.escalation = replace(parked.escalation, assignees=later)
        if parked.wait.event is not None:
            parked.wait.event = self.masker.text(parked.wait.event)
        parked.wait.match = self.masker.json(parked.wait.match)
        parked.wait.tree = self.masker.json(parked.wait.tree)
        return parked

    async def _opened(self, task: LoadedTask, names: Collection[str]) -> dict[str, Opened]:
        """Raise ExecutorError, permanent, if one is not there."""
        async with self._lock:  # thousands of tasks may need the same at the same moment
            kept = self._fresh()
            if unread := [name for name in names if name not in kept]:
                kept |= await self._decrypted(task.user_id, unread)
        if missing := sorted(set(names) - kept.keys()):
            raise ExecutorError(f"{not_there(missing[0][:100])}.", permanent=True)
        self._note(set(names) - self._noted)
        return {name: kept[name] for name in names}

    def _fresh(self) -> dict[str, Opened]:
        """Return what was read less than a second ago."""
        now = time.monotonic()
        if now >= self._stale_at:
            self._kept, self._stale_at = {}, now + FRESH_SECONDS
        return self._kept

    async def _decrypted(self, user_id: str, names: Collection[str]) -> dict[str, Opened]:
        try:
            found = await pools.read(named_secrets.opened, user_id=user_id, names=names)
            self.masker.add(secret.value.reveal() for secret in found.values())
        except CannotUnseal as error:
            raise ExecutorError(f"A secret of this task cannot be decrypted: {error}", permanent=True) from None
        except TooManyLines:
            raise ExecutorError(TOO_MANY, permanent=True) from None
        return found

    def _note(self, names: set[str]) -> None:
        """Log which secrets the run uses, each once."""
        self._noted |= names
        for name in sorted(names):
            logger.info("Used the secret %s", name, extra={"event": "secret.used", "secret": name})

    async def _read(self) -> None:
        if self._unread is None:
            return
        names = {name for task in self._unread for name in names_in(task)}
        if names:
            try:
                found = await pools.read(named_secrets.opened, user_id=self._unread[0].user_id, names=names)
                self.masker.add(secret.value.reveal() for secret in found.values())
            except (CannotUnseal, TooManyLines):
                logger.warning(
                    "Not all secrets of this run can be masked: some cannot be decrypted, or have too many lines",
                    extra={"event": "secret.unknown"},
                )
        self._unread = None


def _decrypted_inputs(task: LoadedTask) -> Json:
    try:
        return opened_inputs(task.inputs, executor_id=task.executor_id, schemas=task.schemas, owner=task.user_id)
    except CannotUnseal as error:
        raise ExecutorError(f"An encrypted input of this task cannot be decrypted: {error}", permanent=True) from None


@lru_cache(maxsize=1)
def _large_texts(_loop: asyncio.AbstractEventLoop) -> FairSemaphore:
    """Return the semaphore of the worker on this loop: a text takes many times its size while it is masked or decrypted."""
    return FairSemaphore(1)


def refuse_misuse(used: Mapping[str, Opened], task: LoadedTask, filled: Json) -> None:
    """Raise ExecutorError if the task may not use one of the secrets, or not send it where the filled inputs are sent."""
    for secret in used.values():
        if problem := misuse(secret, task, filled):
            raise ExecutorError(f"{problem}.", permanent=True)


def names_in(task: LoadedTask) -> set[str]:
    """Return the names of the secrets in the inputs of the task."""
    if not task.has_places or SECRET in map(label_of, task.dependencies):
        return set()
    return {name for _, name in secrets_in(task)}
