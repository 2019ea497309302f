"""Ours: the queue and a worker process; the submitter follows the events of its runs."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.engine import chain, echo, fan_out, run_to_the_end, waiting_chain, working
from benchmarks.peers.work import Sizes, Work, main


@asynccontextmanager
async def ours(sizes: Sizes) -> AsyncIterator[Work]:
    one, steps, wide, waiting = [echo("one")], chain(sizes.chain), fan_out(sizes.fan_out), waiting_chain()
    yield Work(
        one=lambda: run_to_the_end(one),
        chain=lambda: run_to_the_end(steps),
        fan_out=lambda: run_to_the_end(wide),
        waiting=lambda: run_to_the_end(waiting),
    )


if __name__ == "__main__":
    os.environ["AIPARTNERUPFLOW_DATA_DIR"] = os.environ["DATA_FOLDER"]
    if "SERVER_URL" in os.environ:
        os.environ["AIPARTNERUPFLOW_DATABASE_URL"] = os.environ["SERVER_URL"]
    with working():
        main(ours)
