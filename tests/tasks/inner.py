"""A tree that a task of another tree runs."""

from dataclasses import dataclass

from tasks.services.runs.child_runs import PARENT_ENDED
from tests.tasks.model import COMPLETED, OVER, Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """The tree, and the task that runs it: `task_id` of the tree `outer`, in the run `run_id`."""

    tree: Tree
    outer: Tree
    run_id: str
    task_id: str

    def pass_on(self) -> bool:
        """Let the task end as its tree, and the tree with its task. Whether something changed."""
        run, outer_run = self.tree.run, self.outer.run
        assert run is not None
        is_awaited = outer_run is not None and outer_run.id == self.run_id
        if outer_run is None or not is_awaited or self.outer.tasks[self.task_id].status in OVER:
            return run.status is None and self.tree.cancel(self.tree.root_id, PARENT_ENDED.format(task_id=self.task_id))
        if run.status is None or self.task_id in outer_run.told:
            return False
        outer_run.told[self.task_id] = "ok" if run.status == COMPLETED else "fail"
        return True
