"""procrastinate on PostgreSQL, with an asynchronous worker in the submitter's process.

procrastinate has jobs, but no chains, joins or waiting for an end. So each step defers the next one, the submitter
defers the join once all jobs of a fan-out are done, and one look every few milliseconds at all the jobs that are
waited for shows which are done. A worker that is fetching a job loses the notification of another, and finds it when it
polls; with the 5 s of its defaults that would decide W2, so it polls every 20 ms.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import procrastinate
from procrastinate import JobContext
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool

from benchmarks.peers.work import WAITING_SECONDS, WAITING_STEPS, Sizes, Work, main

LOOK_SECONDS: Final = 0.002
POLL_SECONDS: Final = 0.02
DONE: Final = "SELECT id FROM procrastinate_jobs WHERE id = ANY(%s) AND status = 'succeeded'"
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["SERVER_URL"], max_size=20))
last_jobs: dict[str, asyncio.Future[int]] = {}


@app.task(name="step", pass_context=True)
async def step(context: JobContext, run: str, left: int, seconds: float) -> None:
    if seconds:
        await asyncio.sleep(seconds)
    if left > 1:
        await step.defer_async(run=run, left=left - 1, seconds=seconds)
    elif run in last_jobs:
        last_jobs[run].set_result(context.job.id)


class Watch:
    """Waits for the ends of jobs."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._waiting: dict[int, asyncio.Future[None]] = {}

    async def until_done(self, job: int) -> None:
        self._waiting[job] = asyncio.get_running_loop().create_future()
        await self._waiting[job]

    async def look(self) -> None:
        async with self._pool.connection() as connection, connection.cursor(row_factory=tuple_row) as cursor:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                if self._waiting:
                    await cursor.execute(DONE, [list(self._waiting)])
                    for (job,) in await cursor.fetchall():
                        self._waiting.pop(job).set_result(None)


class Runs:
    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._count = 0

    async def one(self) -> None:
        await self._watch.until_done(await step.defer_async(run="one", left=1, seconds=0))

    async def chain(self, steps: int, *, seconds: float = 0) -> None:
        """Only the last job of a chain knows its own id."""
        self._count += 1
        run = str(self._count)
        last_jobs[run] = last = asyncio.get_running_loop().create_future()
        await step.defer_async(run=run, left=steps, seconds=seconds)
        await self._watch.until_done(await last)
        del last_jobs[run]

    async def fan_out(self, steps: int) -> None:
        part: dict[str, Any] = {"run": "part", "left": 1, "seconds": 0}
        jobs = await step.batch_defer_async(*[part] * steps)
        await asyncio.gather(*map(self._watch.until_done, jobs))
        await self.one()


@asynccontextmanager
async def system(sizes: Sizes) -> AsyncIterator[Work]:
    pool = AsyncConnectionPool(os.environ["SERVER_URL"], kwargs={"autocommit": True}, open=False)
    async with app.open_async(), pool, asyncio.TaskGroup() as background:
        await app.schema_manager.apply_schema_async()
        watch = Watch(pool)
        options: Any = {"fetch_job_polling_interval": POLL_SECONDS, "install_signal_handlers": False}
        worker = app.run_worker_async(concurrency=sizes.waiting, **options)
        tasks = [background.create_task(worker), background.create_task(watch.look())]
        runs = Runs(watch)
        yield Work(
            one=runs.one,
            chain=lambda: runs.chain(sizes.chain),
            fan_out=lambda: runs.fan_out(sizes.fan_out),
            waiting=lambda: runs.chain(WAITING_STEPS, seconds=WAITING_SECONDS),
        )
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    main(system)
