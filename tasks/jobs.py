"""What a django-q2 worker calls. The paths of these two functions are all that ever travels through the queue."""

from tasks.worker.process import this_process


def run_tree(run_id: str) -> None:
    """A wake-up: work until nothing waits. Right however often it comes: the run may be done already, or be claimed elsewhere."""
    loop, worker = this_process()
    loop.run_until_complete(worker.work())


def probe() -> None:
    """Prove that a job gets from the queue into this process; look whether a wake-up was lost on the way."""
    loop, worker = this_process()
    loop.run_until_complete(worker.probe())
