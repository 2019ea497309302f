"""The status of a run at its end, and the tasks that failed it."""

from collections.abc import Iterable, Iterator
from operator import attrgetter

from tasks.queue.leases import Claim
from tasks.rules.tree import scope_of
from tasks.status import Status
from tasks.worker.load_run import LoadedTask
from tasks.worker.outcomes import Outcome
from tasks.worker.run_parts import Standing
from tasks.worker.spawning.family import Family


class Verdict:
    """Notes the tasks that fail, in the order in which they end."""

    def __init__(self, claim: Claim, standing: Standing, family: Family) -> None:
        self._claim = claim
        self._standing = standing
        self._family = family
        self._failed = _failed_before(standing.tasks.values())

    def note(self, task_id: str, outcome: Outcome) -> None:
        """Note how the task ends."""
        if outcome.status is Status.FAILED:
            self._failed.append(task_id)

    def spared(self) -> set[str]:
        """Return the tasks that do not decide the status of the run: a worker that takes it over would not see those that nothing needs."""
        tasks, nodes = self._standing.tasks, self._standing.nodes
        failed_tasks = (task for task in tasks.values() if self._standing.status_of(task.id) is Status.FAILED)
        spared = {task.id for task in failed_tasks if self._family.may_fail(task)}
        called = [task.id for task in tasks.values() if "path" in (task.call or ())]
        spared |= {*called, *self._family.all_below(called)}  # the code of their workflow decides what follows
        if self._claim.target_id != self._claim.root_id:
            spared |= nodes.keys() - scope_of(self._claim.target_id, nodes.values())
        return spared

    def failures(self) -> Iterator[LoadedTask]:
        """Yield the tasks that failed the run, in the order in which they ended: the causes first, then the tasks that were not run.

        A task that may fail is a cause if a task that may not was not run for it.
        """
        tasks = self._standing.tasks
        decisive = self._standing.nodes.keys() - self.spared()
        causes, blocked, seen = dict[str, None](), list[LoadedTask](), set[str]()
        for task in (tasks[task_id] for task_id in self._failed if task_id in decisive):
            if task.cause_id is not None:
                blocked.append(task)
            cause: LoadedTask | None = task
            while cause is not None and cause.id not in seen:
                seen.add(cause.id)
                if cause.cause_id is None:
                    causes[cause.id] = None
                    break
                required = (item["id"] for item in cause.dependencies if item["required"] and item["id"] in tasks)
                unmet = (
                    each for each in required if self._standing.status_of(each) in (Status.FAILED, Status.CANCELLED)
                )
                cause = next(map(tasks.__getitem__, unmet), None)
        yield from (tasks[task_id] for task_id in causes)
        yield from blocked


def _failed_before(tasks: Iterable[LoadedTask]) -> list[str]:
    """Return the ids of the tasks that failed before this worker had the run, those that had begun first."""
    failed = [task for task in tasks if task.status == Status.FAILED]
    begun = sorted((task for task in failed if task.started_at is not None), key=attrgetter("started_at"))
    return [task.id for task in (*begun, *(task for task in failed if task.started_at is None))]
