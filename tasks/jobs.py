"""The functions that django-q2 workers call. The queue carries only their dotted paths."""

from tasks.worker.process import this_process, warm_up


def run_tree(run_id: str) -> None:
    """Work until no run waits. Safe to call any number of times.

    The run that caused the wake-up may already be done, or claimed by another worker.
    """
    loop, worker = this_process()
    loop.run_until_complete(worker.work())


def probe() -> None:
    """Prove that jobs from the queue reach this process, and check for lost wake-ups."""
    loop, worker = this_process()
    loop.run_until_complete(worker.probe())
    warm_up()
