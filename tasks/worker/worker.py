"""A worker process: it claims waiting runs and runs many trees on one event loop."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from django.conf import settings

from tasks.executors.llm.fallbacks import Latencies
from tasks.pools.fair_semaphore import FairSemaphore, Shares
from tasks.pools.pools import make_pools
from tasks.queue import leases, notify, suspension
from tasks.queue.black_box import EMPTY, BlackBox, encoded
from tasks.queue.leases import Claim
from tasks.queue.notify import Listener
from tasks.rules.exceptions import LeaseLost
from tasks.services.runs.cancels import Cancel
from tasks.services.waits import limit_waits
from tasks.services.waits.questions import OpenQuestion
from tasks.status import Status
from tasks.telemetry import run_log, tracing
from tasks.worker import webhook_deliveries
from tasks.worker.day_budget import DayCounts
from tasks.worker.engine import WAITING, TreeRun
from tasks.worker.footprints import Footprints, Work
from tasks.worker.group_commit import GroupCommit, write_now
from tasks.worker.live import has_code, versions_here
from tasks.worker.load_run import Found, LoadedTask, poll
from tasks.worker.loop_turns import LoopTurns
from tasks.worker.run_parts import Shared
from tasks.worker.shares import Places, TreeMemory, convicts_per_user
from tasks.worker.task_limits import TaskLimits
from tasks.worker.wait_room import WaitRoom
from tasks.worker.watchdog import LeaseKeeper, Watchdog

logger = logging.getLogger(__name__)

BEAT_SECONDS: Final = 3.0
HOW_NOT_TO_BLOCK: Final = (
    "Run blocking code in a process (params.pool 'process') or on a thread (asyncio.to_thread, or on_a_thread of "
    "aipartnerupflow.executors)."
)
RELEASED: Final = "released"
"""The end of a run in this worker which another one continues."""
LOST: Final = "interrupted"
"""The end of a run whose lease was lost, or that was cut off by a shutdown or a bug."""
FIRST_AT_ONCE: Final = 16
"""The number of runs that a process claims at once, until it knows whether they are small: then it claims twice as many each time."""
FEW_AT_ONCE: Final = 2
"""The number of runs that it claims at once after large ones."""
MANY_TASKS: Final = 1_000
"""The number of tasks in the runs that were claimed at once, above which the next are few again."""
LINGER_SECONDS: Final = 0.2
"""The seconds that an idle worker stays awake for the next run, which then skips the queue."""


def _ignore() -> None:
    """Do nothing: the default `on_webhook`."""


def _end_this_process() -> None:
    """As if the kernel did it: a blocked event loop could not end in any other way."""
    os.kill(os.getpid(), signal.SIGKILL)


class Worker:
    """The runs that one process holds. Create it on the loop that it works on.

    `on_webhook` is called when a poll for work has seen an open webhook. With `in_quarantine` it takes only suspected runs, one
    at a time (`tasks.worker.quarantine`). `end_process` ends the process at once.
    """

    def __init__(
        self,
        *,
        cluster_id: str,
        on_webhook: Callable[[], object] = _ignore,
        linger_seconds: float = LINGER_SECONDS,
        in_quarantine: bool = False,
        end_process: Callable[[], object] = _end_this_process,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._process_id = leases.process_name()
        self._cluster_id = cluster_id
        self._on_webhook = on_webhook
        self._linger_seconds = linger_seconds
        self._claim = self._claim_suspect if in_quarantine else self._claim_waiting
        self._published_places = 0 if in_quarantine else settings.APFLOW.worker.max_trees
        self._places = Places(1 if in_quarantine else settings.APFLOW.worker.max_trees)
        self._at_once = FIRST_AT_ONCE
        self._memory = TreeMemory(settings.APFLOW.worker.tree_bytes)
        self._end_process = end_process
        self._writer = GroupCommit(self._loop)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._trees: dict[str, TreeRun] = {}
        self._wake_up = asyncio.Event()
        self._must_poll = True
        self._is_draining = self._is_winding_down = False
        self._last_beat = 0.0
        self._listener = Listener(notify.RUNS, lambda: self._loop.call_soon_threadsafe(self._poll_soon))
        self._in_quarantine = in_quarantine
        self._survivors: set[str] = set()  # runs in quarantine that have given back their place
        self._is_convict_here = False
        self._box = BlackBox(self._process_id)
        self._footprints = Footprints(self._box)
        self._footprints.install(self._loop)
        max_tasks = settings.APFLOW.worker.max_tasks
        self._shared = Shared(
            writer=self._writer,
            slots=FairSemaphore(max_tasks, share=Shares(max_tasks).of),
            turns=LoopTurns(),
            wait_room=WaitRoom(),
            pools=make_pools(),
            footprints=self._footprints,
            day_counts=DayCounts(self._process_id),
            limits=TaskLimits(settings.APFLOW.limits.shared or {}, process_id=self._process_id),
            latencies=Latencies(),
            on_growth=self._memory.take,
            differing=set(),
        )
        self._keeper = LeaseKeeper(owner=self._process_id, held=self._held, beat=self._beat)
        self._watchdog = Watchdog(
            self._loop,
            keeper=self._keeper,
            footprints=self._footprints,
            hold_count=lambda: len(self._running),
            on_lease_late=self._give_up,
            on_blocked=self._blocked,
            on_stuck=self._stuck,
        )

    async def beat(self) -> None:
        """Record a heartbeat of this process."""
        self._last_beat = self._loop.time()
        await self._writer.call(self._beat)

    def _beat_and_look(self) -> tuple[bool, bool]:
        """Together, because each call of an idle worker's writer wakes a thread. Returns whether a run waits, and a webhook."""
        self._beat()
        self._resume_needing()
        return leases.is_any_waiting(), webhook_deliveries.is_any_open()

    def _beat(self) -> None:
        places = 0 if self._is_draining else self._published_places
        workflows = versions_here()
        leases.beat(process_id=self._process_id, cluster_id=self._cluster_id, places=places, workflows=workflows)
        self._shared.limits.refresh()

    async def probe(self) -> None:
        """Record a heartbeat, and take waiting runs and open webhooks whose wake-up was lost with another worker."""
        self._last_beat = self._loop.time()
        is_any_waiting, is_any_webhook = await self._writer.call(self._beat_and_look)
        if is_any_webhook:
            self._on_webhook()
        if is_any_waiting:
            await self.work()

    async def work(self) -> None:
        """Claim and run until no run waits or runs; while draining, until the steps in hand end."""
        if self._loop.time() - self._last_beat > BEAT_SECONDS:  # short jobs may arrive so often that no probe does
            await self.beat()
        with self._listener.attentive(), self._keeper.attentive(), self._watchdog.attentive():
            await self._work_until_idle()
            if self._is_draining:
                # Runs that were cut off are released, so that another worker resumes them at once.
                await self._writer.empty()
                await self._writer.call(partial(leases.release, owner=self._process_id))
                await self._writer.call(partial(limit_waits.leave, self._process_id))

    def drain(self) -> None:
        """Claim nothing and start no step more; cut off steps that take longer than `worker.drain_seconds`.

        Call it on the loop.
        """
        if not self._is_winding_down:
            self._is_winding_down = True
            for tree in self._trees.values():
                tree.wind_down()
            self.retire()
            self._loop.call_later(settings.APFLOW.worker.drain_seconds, self._abandon)

    def retire(self) -> None:
        """Claim nothing more, and run what it has to its end. Call it on the loop."""
        self._is_draining = True
        self._poll_soon()

    def _poll_soon(self) -> None:
        self._must_poll = True
        self._wake_up.set()

    async def _work_until_idle(self) -> None:
        self._must_poll = True
        while True:
            self._wake_up.clear()
            if self._must_poll:
                await self._claim_and_start()
            elif self._running:
                await self._wake_up.wait()
            elif self._is_draining or not await self._woken_within(self._linger_seconds):
                return

    async def _claim_and_start(self) -> None:
        """Start the runs for which there is room, and pass on what running ones have to know."""
        self._must_poll = False  # before reading, so that a notification during the read is not missed
        room = 0 if self._is_draining or self._memory.is_full else min(self._places.claimable, self._at_once)
        found = await self._poll(room)
        if found.is_any_webhook:
            self._on_webhook()
        await self._pass_on(found.cancels, found.replies)
        if self._is_draining and found.claimed:
            await self._release([claim.run_id for claim, _, _ in found.claimed])
        else:
            for claim, tasks, questions in found.claimed:
                self._start(claim, tasks, questions, found.cancels[claim.run_id])
                await asyncio.sleep(0)  # to plan a large tree takes a while
        if found.claimed and len(found.claimed) == room < self._places.free:
            self._must_poll = True  # more may wait: only so many were claimed at once
        self._at_once = self._next_at_once(found, room)

    def _next_at_once(self, found: Found, room: int) -> int:
        """Return how many runs to claim next: they are loaded at once, and what others write waits meanwhile."""
        tasks = sum(len(tasks) for _, tasks, _ in found.claimed)
        if tasks > MANY_TASKS:
            return FEW_AT_ONCE
        if len(found.claimed) == room:
            return 2 * room if room else self._at_once
        return self._at_once if tasks else min(self._at_once, FIRST_AT_ONCE)

    async def _pass_on(self, cancels: dict[str, list[Cancel]], replies: dict[str, list[OpenQuestion]]) -> None:
        for run_id, requests in cancels.items():
            if (tree := self._trees.get(run_id)) is not None:
                for cancel in requests:
                    if tree.cancel(cancel):
                        await asyncio.sleep(0)  # to cancel thousands of tasks takes a while
        for run_id in replies.keys() & self._trees.keys():
            for question in replies[run_id]:
                self._trees[run_id].answer(question)

    async def _woken_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._wake_up.wait()
        except TimeoutError:
            return False

    async def _poll(self, room: int) -> Found:
        waiting = [run_id for run_id, tree in self._trees.items() if tree.is_waiting]
        rooms = self._places.rooms | dict.fromkeys(self._memory.full_users, 0)
        claim = partial(self._claim, owner=self._process_id, limit=room, rooms=rooms)
        release = partial(leases.release, owner=self._process_id)
        return await self._writer.call(partial(poll, claim, release, memory=self._memory.copy(), waiting=waiting))

    def _start(
        self, claim: Claim, tasks: list[LoadedTask], questions: list[OpenQuestion], cancels: list[Cancel]
    ) -> None:
        if (lost := self._running.get(claim.run_id)) is not None:
            lost.cancel()  # this process slept so long that it lost the run, and has now claimed it again
        tree = self._trees[claim.run_id] = TreeRun(
            claim,
            tasks,
            # A run that kills processes does one task at a time, so that it is known which of them does it.
            replace(self._shared, slots=FairSemaphore(1)) if claim.is_convicted else self._shared,
            questions=questions,
        )
        run = self._running[claim.run_id] = asyncio.create_task(self._run(tree, claim, cancels), name=claim.run_id)
        self._places.take(tree.user_id)
        self._memory.take(tree.user_id, tree.memory)
        run.add_done_callback(partial(self._ended, tree=tree))
        self._writer.pace(len(self._running), users=self._places.users)

        if self._in_quarantine:
            self._is_convict_here = claim.is_convicted
            self._loop.call_later(settings.APFLOW.worker.quarantine_seconds, self._survived, tree, run)

    def _ended(self, run: asyncio.Task[None], *, tree: TreeRun) -> None:
        makes_room = self._memory.give_back(tree.user_id, tree.memory)
        if run.get_name() in self._survivors:
            self._survivors.discard(run.get_name())
        else:
            makes_room |= self._places.give_back(tree.user_id)
        if self._running.get(run.get_name()) is run:
            del self._running[run.get_name()], self._trees[run.get_name()]
            if self._in_quarantine:
                self._name_suspect()
        self._writer.pace(len(self._running), users=self._places.users)
        if makes_room:
            self._must_poll = True
        self._wake_up.set()

    def _survived(self, tree: TreeRun, run: asyncio.Task[None]) -> None:
        """Let the next suspect in: this one has been alive in quarantine for long enough. One that has killed such a process stays alone."""
        if not run.done() and not self._is_convict_here:
            self._survivors.add(run.get_name())
            self._places.give_back(tree.user_id)
            self._name_suspect()
            self._look_for_suspects()

    def _look_for_suspects(self) -> None:
        """Poll now and then: no notification says that a suspect has waited in vain for a new process."""
        if self._survivors:
            self._poll_soon()
            self._loop.call_later(leases.FORGOTTEN_SECONDS, self._look_for_suspects)

    def _name_suspect(self) -> None:
        """Name the run of which this process would die: the one that came last, unless it has survived beside others."""
        *others, last = [EMPTY, *map(encoded, self._running)]
        is_clear = len(others) > 1 and list(self._running)[-1] in self._survivors
        self._box.suspect(EMPTY if is_clear else last)

    async def _run(self, tree: TreeRun, claim: Claim, cancels: list[Cancel]) -> None:
        tracing.add_log_ids(run=claim.run_id)  # for log lines of this run
        facts_of_log = {"run_id": claim.run_id, "root_id": claim.root_id, "user_id": tree.user_id}
        if claim.is_first:
            run_log.started(**facts_of_log, task_count=tree.task_count, seconds_queued=claim.seconds_old)
        else:
            run_log.resumed(**facts_of_log, task_count=tree.task_count)
        began, status = self._loop.time(), LOST
        facts = {"apflow.run.id": claim.run_id, "apflow.root_task.id": claim.root_id}
        try:
            span = tracing.span_of_run(claim.run_id, claim.trace, facts)
            tracing.enter(span)
            is_left = await tree.run(cancels)
            if is_left:
                await self._release([claim.run_id], user_id=tree.user_id)
            status = RELEASED if is_left else tree.status
            if span is not None and status not in (RELEASED, WAITING):  # one span, of whichever workers had the run
                span({"apflow.run.status": status} | ({tracing.ERROR: status} if status == Status.FAILED else {}))
                span.began = tracing.nanoseconds(claim.claimed_at) - int(claim.seconds_old * 1e9)
                span.ended = tracing.nanoseconds(claim.now())
                span.end()
        except LeaseLost:
            logger.warning(
                "Run %s was claimed by another worker", claim.run_id, extra={"event": "lease.lost", "run": claim.run_id}
            )
        except Exception:  # a bug: the lease expires, and the run is tried again
            logger.exception(
                "Run %s failed unexpectedly", claim.run_id, extra={"event": "run.broken", "run": claim.run_id}
            )
        finally:
            run_log.ended(**facts_of_log, status=status, seconds=self._loop.time() - began)

    async def _release(self, run_ids: list[str], *, user_id: str = "") -> None:
        await self._writer.call(partial(leases.release, owner=self._process_id, run_ids=run_ids), user_id=user_id)

    def _give_up(self) -> None:
        logger.error(
            "Could not renew its leases: stopping %s runs", len(self._running), extra={"event": "lease.given_up"}
        )
        self._abandon()

    def _abandon(self) -> None:
        for run in self._running.values():
            run.cancel()

    # On other threads

    def _resume_needing(self) -> None:
        """Let the runs continue that wait for code of this process: right before its claim, so that it gets them."""
        if versions_here() and not self._is_draining:
            suspension.resume_needing(has_code, but=self._shared.differing)

    def _claim_waiting(self, *, owner: str, limit: int, rooms: Mapping[str, int]) -> list[Claim]:
        if limit > 0:
            self._resume_needing()
        return leases.claim(owner=owner, limit=limit, rooms=rooms)

    def _claim_suspect(self, *, owner: str, limit: int, rooms: Mapping[str, int]) -> list[Claim]:
        """Claim a suspected run, and name it in case this process dies of it, be it while the tree is loaded."""
        if limit <= 0:
            return []
        claims = leases.claim_suspected(
            owner=owner, convicts_per_user=convicts_per_user(), is_shared=bool(self._running)
        )
        for claim in claims:
            self._box.suspect(encoded(claim.run_id))
        return claims

    def _held(self) -> list[str]:
        return list(self._running)

    def _blocked(self, work: Work | None, trouble: str) -> None:
        """Fail the task that blocks the loop, release the other runs, and end this process."""
        tree = self._trees.get(work.run_id) if work else None
        facts = {"event": "worker.blocked"} | ({"run": work.run_id, "task": work.task_id} if work else {})
        logger.error("%s: ending this worker process; its other runs continue elsewhere", trouble, extra=facts)
        if work and tree:
            write_now(tree.failed_from_outside(work.task_id, f"{trouble}. {HOW_NOT_TO_BLOCK}"))
            leases.release(owner=self._process_id)
        self._end_process()

    def _stuck(self) -> None:
        logger.error(
            "Could neither renew its leases nor stop its runs: ending this worker process",
            extra={"event": "worker.stuck"},
        )
        self._end_process()
