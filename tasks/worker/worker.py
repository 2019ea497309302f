"""A worker process: it claims waiting runs and runs many trees on one event loop."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from django.conf import settings
from structlog.contextvars import bind_contextvars

from tasks.queue import leases, notify
from tasks.queue.leases import Claim
from tasks.queue.notify import Listener
from tasks.rules.exceptions import LeaseLost
from tasks.services.cancels import Cancel, pending_cancels
from tasks.services.questions import OpenQuestion, open_of
from tasks.telemetry import tracing
from tasks.worker.engine import TreeRun
from tasks.worker.fair_semaphore import FairSemaphore
from tasks.worker.group_commit import GroupCommit
from tasks.worker.load_run import LoadedTask, load_trees

logger = logging.getLogger(__name__)
ClaimedTree = tuple[Claim, list[LoadedTask], list[OpenQuestion]]
Polled = tuple[list[ClaimedTree], dict[str, list[Cancel]], dict[str, list[OpenQuestion]]]

BEAT_SECONDS: Final = 3.0
LINGER_SECONDS: Final = 0.2
"""How long an idle worker stays awake for the next run, which then skips the queue."""


def _ignore() -> None:
    """The default `on_poll`: do nothing."""


class Worker:
    """The runs that one process holds. Create it on the loop that it works on.

    `on_poll` is called at each poll for work.
    """

    def __init__(
        self, *, cluster_id: str, on_poll: Callable[[], object] = _ignore, linger_seconds: float = LINGER_SECONDS
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._process_id = leases.process_name()
        self._cluster_id = cluster_id
        self._on_poll = on_poll
        self._linger_seconds = linger_seconds
        self._writer = GroupCommit(self._loop)
        self._slots = FairSemaphore(settings.APFLOW.worker.max_tasks)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._trees: dict[str, TreeRun] = {}
        self._wake_up = asyncio.Event()
        self._is_draining = False
        self._is_cut_off = False
        self._last_beat = 0.0
        self._listener = Listener(notify.RUNS, lambda: self._loop.call_soon_threadsafe(self._wake_up.set))

    async def beat(self) -> None:
        """Record a heartbeat of this process."""
        self._last_beat = self._loop.time()
        places = 0 if self._is_draining else settings.APFLOW.worker.max_trees
        await self._writer.call(
            partial(leases.beat, process_id=self._process_id, cluster_id=self._cluster_id, places=places)
        )

    async def probe(self) -> None:
        """Record a heartbeat, and take waiting runs whose wake-up was lost with another worker."""
        await self.beat()
        self._on_poll()
        if await self._writer.call(leases.is_any_waiting):
            await self.work()

    async def work(self) -> None:
        """Claim and run until no run waits or runs; while draining, until the current runs end."""
        if self._loop.time() - self._last_beat > BEAT_SECONDS:  # short jobs may arrive so often that no probe does
            await self.beat()
        with self._listener.attentive():
            keeper = asyncio.create_task(self._keep_leases())
            try:
                await self._work_until_idle()
            finally:
                keeper.cancel()
            if self._is_draining:
                # Runs that were cut off are released, so that another worker resumes them at once.
                await self._writer.call(partial(leases.release, owner=self._process_id))

    def drain(self) -> None:
        """Claim nothing more, and cut off runs that take longer than `worker.drain_seconds`.

        Call it on the loop.
        """
        if not self._is_draining:
            self._is_draining = True
            self._wake_up.set()
            self._loop.call_later(settings.APFLOW.worker.drain_seconds, self._cut_off)

    async def _work_until_idle(self) -> None:
        while True:
            self._wake_up.clear()  # before reading, so that a notification during the read is not missed
            self._on_poll()
            claimed, cancels, replies = await self._poll()
            for run_id in cancels.keys() & self._trees.keys():
                for cancel in cancels[run_id]:
                    self._trees[run_id].cancel(cancel)
            for run_id in replies.keys() & self._trees.keys():
                for question in replies[run_id]:
                    self._trees[run_id].answer(question)
            for claim, tasks, questions in (
                [] if self._is_cut_off else claimed
            ):  # if cut off, they are released with the others
                self._start(claim, tasks, questions, cancels[claim.run_id])
            if self._running:
                await self._wake_up.wait()
            elif self._is_draining or not await self._woken_within(self._linger_seconds):
                return

    async def _woken_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._wake_up.wait()
        except TimeoutError:
            return False

    async def _poll(self) -> Polled:
        """Return newly claimed runs and, by run, cancel requests and questions with replies."""
        room = 0 if self._is_draining else settings.APFLOW.worker.max_trees - len(self._running)
        waiting = [run_id for run_id, tree in self._trees.items() if tree.is_waiting]
        return await self._writer.call(partial(_poll, owner=self._process_id, limit=room, waiting=waiting))

    def _start(
        self, claim: Claim, tasks: list[LoadedTask], questions: list[OpenQuestion], cancels: list[Cancel]
    ) -> None:
        if (lost := self._running.get(claim.run_id)) is not None:
            lost.cancel()  # this process slept so long that it lost the run, and has now claimed it again
        tree = self._trees[claim.run_id] = TreeRun(
            claim, tasks, writer=self._writer, slots=self._slots, questions=questions
        )
        run = self._running[claim.run_id] = asyncio.create_task(_run(tree, claim, cancels), name=claim.run_id)
        run.add_done_callback(self._ended)
        self._writer.pace(len(self._running))

    def _ended(self, run: asyncio.Task[None]) -> None:
        was_full = len(self._running) >= settings.APFLOW.worker.max_trees
        if self._running.get(run.get_name()) is run:
            del self._running[run.get_name()], self._trees[run.get_name()]
        self._writer.pace(len(self._running))
        if was_full or not self._running:
            self._wake_up.set()

    async def _keep_leases(self) -> None:
        """Renew the leases in time, or stop working before another worker may begin."""
        while True:
            await asyncio.sleep(leases.RENEW_SECONDS)
            try:
                async with asyncio.timeout(leases.GIVE_UP_SECONDS - leases.RENEW_SECONDS):
                    await self.beat()
                    await self._writer.call(partial(leases.renew, owner=self._process_id, run_ids=list(self._running)))
            except TimeoutError:
                logger.error(
                    "Could not renew its leases: stopping %s runs",
                    len(self._running),
                    extra={"event": "lease.given_up"},
                )
                self._abandon()

    def _cut_off(self) -> None:
        self._is_cut_off = True
        self._abandon()

    def _abandon(self) -> None:
        for run in self._running.values():
            run.cancel()


async def _run(tree: TreeRun, claim: Claim, cancels: list[Cancel]) -> None:
    bind_contextvars(run=claim.run_id)  # for log lines of this run
    facts = {"apflow.run.id": claim.run_id, "apflow.root_task.id": claim.root_id}
    try:
        with tracing.span("run", facts, kind="consumer", parent=claim.trace):
            await tree.run(cancels)
    except LeaseLost:
        logger.warning(
            "Run %s was claimed by another worker", claim.run_id, extra={"event": "lease.lost", "run": claim.run_id}
        )
    except Exception:  # a bug: the lease expires and the run is tried again, and finally fails as poison
        logger.exception("Run %s failed unexpectedly", claim.run_id, extra={"event": "run.broken", "run": claim.run_id})


def _poll(*, owner: str, limit: int, waiting: list[str]) -> Polled:
    claims = leases.claim(owner=owner, limit=limit)
    trees = load_trees([claim.root_id for claim in claims]) if claims else {}
    questions = open_of([*waiting, *(claim.run_id for claim in claims)])
    claimed = [(claim, trees[claim.root_id], questions[claim.run_id]) for claim in claims]
    replies = {run_id: [question for question in questions[run_id] if question.reply is not None] for run_id in waiting}
    return claimed, pending_cancels(), replies
