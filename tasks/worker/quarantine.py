"""The quarantine: a process that has one suspected run for itself (`tasks.queue.suspicion`).

If the run kills it, no other run is harmed. The supervisor starts it as
`python -m tasks.worker.quarantine ID` when a suspected run waits, and it ends when none does.
"""

import asyncio
import os
import signal
import sys

import django

from tasks.own_process import end_with_parent, hide_memory, keep_secrets

hide_memory()
django.setup()
keep_secrets()

from apflow_site.db.connections import name_sessions  # noqa: E402  (needs the apps)
from tasks.worker.lifeline import die_with_parent  # noqa: E402  (needs the apps)
from tasks.worker.worker import Worker  # noqa: E402


async def _work(cluster_id: str) -> None:
    worker = Worker(cluster_id=cluster_id, in_quarantine=True)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.drain)
    await worker.work()


if __name__ == "__main__":
    die_with_parent()
    name_sessions("quarantine")
    end_with_parent()
    asyncio.new_event_loop().run_until_complete(_work(sys.argv[1]))
    os._exit(0)  # threads that an executor has left behind do not hold it up
