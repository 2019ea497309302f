"""One run in a worker: its claim, how its tasks stand, and the parts that work for them."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.conf import settings

from aipartnerupflow.executors import Json
from tasks.executors.llm.fallbacks import Latencies
from tasks.ids import named
from tasks.pools.base import Pool
from tasks.pools.fair_semaphore import FairSemaphore
from tasks.queue.leases import Claim
from tasks.rules.budgets import budget_of
from tasks.rules.references import dependency_results
from tasks.rules.rounds import repeat_of
from tasks.rules.tree import Node, children_of, covered_by, nodes_of
from tasks.services.waits.questions import OpenQuestion
from tasks.status import Status
from tasks.worker.cancellations import Cancellations
from tasks.worker.day_budget import DayCounts
from tasks.worker.footprints import Footprints
from tasks.worker.group_commit import GroupCommit
from tasks.worker.load_run import MOVED, LoadedTask, is_live
from tasks.worker.loop_turns import LoopTurns
from tasks.worker.open_questions import OpenQuestions
from tasks.worker.outcomes import Results
from tasks.worker.run_budget import RunBudget
from tasks.worker.run_recorder import RunRecorder
from tasks.worker.secrets_of_run import SecretsOfRun, opened_values
from tasks.worker.spawning.family import Family
from tasks.worker.spawning.spawner import Spawner
from tasks.worker.task_limits import TaskLimits
from tasks.worker.wait_room import WaitRoom

if TYPE_CHECKING:
    from tasks.worker.large_values import Brought


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The parts of a worker process that its runs share."""

    writer: GroupCommit
    slots: FairSemaphore
    turns: LoopTurns
    wait_room: WaitRoom
    pools: Mapping[str, Pool]
    footprints: Footprints
    day_counts: DayCounts
    limits: TaskLimits
    latencies: Latencies
    on_growth: Callable[[str, int], object]
    """Called with the owner and the bytes of new tasks."""
    differing: set[str]
    """The runs that the code of this process could not continue: it does not try again."""


class Standing:
    """A run and its tasks as they stand. The engine writes it, and all parts read it."""

    def __init__(self, claim: Claim, tasks: Iterable[LoadedTask]) -> None:
        self.tasks = {task.id: task for task in tasks}
        self.nodes: dict[str, Node] = {}
        """The tasks in the scope of the run."""
        self.ended: set[str] = set()
        """The tasks that have ended by themselves; their end may not be committed yet."""
        self.is_winding_down = False
        """Whether no attempt may begin here: another worker takes the run over."""
        self.is_given_up = False
        """Whether the worker no longer has the run, or it is over or suspended."""
        self.user_id = self.tasks[claim.root_id].user_id

    def status_of(self, task_id: str) -> Status:
        """Return how the task stands. Tasks outside the scope of the run stand as they did when it began."""
        node = self.nodes.get(task_id)
        return Status(self.tasks[task_id].status) if node is None else node.status

    def is_open(self, task_id: str) -> bool:
        """Return whether the task is in the scope of the run, and has not ended."""
        node = self.nodes.get(task_id)
        return node is not None and not node.status.is_terminal and task_id not in self.ended

    def named(self, task_id: str) -> str:
        """Return the task as messages name it."""
        return named(task_id, self.tasks[task_id].name)


class RunParts:
    """The parts of one run. They do not know the engine: without a cycle, no garbage collection has to free a tree."""

    def __init__(
        self,
        claim: Claim,
        tasks: Collection[LoadedTask],
        shared: Shared,
        *,
        questions: Collection[OpenQuestion],
        resume: Callable[[str], None],
        on_budget_settled: Callable[[], None],
    ) -> None:
        """`resume` is called with a task whose wait is over, `on_budget_settled` when no question about the budget is open any more."""
        self.claim = claim
        self.shared = shared
        standing = self.standing = Standing(claim, tasks)
        self.family = Family(tasks, status_of=standing.status_of)
        nodes = nodes_of(task for task in tasks if task.id not in self.family.template_ids)
        scope = covered_by(claim.target_id, tasks) - self.family.template_ids
        standing.nodes |= {node.id: node for node in nodes if node.id in scope}
        self.results = Results(
            tasks,
            scope=scope,
            family=self.family,
            kept=claim.target_id,
            max_bytes=settings.APFLOW.limits.run_bytes,
        )
        self.has_large_inputs = MOVED in (claim.inputs or "")
        """Whether inputs of the run may be large values that are stored as files."""
        self.brought: dict[str, Brought] = {}
        """The large values that tasks at work have, by the ids of these tasks."""
        self.cancellations = Cancellations(children_of(nodes), is_open=standing.is_open)
        self.questions = OpenQuestions(questions, resume_task=resume, now=claim.now)
        self.recorder = RunRecorder(
            claim,
            tasks,
            shared.writer,
            owner=standing.user_id,
            asking=[question.task_id for question in questions],
            limits=shared.limits,
        )
        # The secrets of tasks that began before are masked, too: a service may return them again.
        self.secrets = SecretsOfRun(task for task in tasks if task.status != Status.PENDING)
        root_params = standing.tasks[claim.root_id].params
        self.budget: RunBudget | None = None
        """The budget of the run and the limits of its owner's day; None if nothing is limited."""
        if questions or _is_limited(claim, root_params):
            self.budget = RunBudget(
                claim,
                root_params,
                user_id=standing.user_id,
                day_counts=shared.day_counts,
                questions=questions,
                on_settled=on_budget_settled,
            )
            self.recorder.count_of_wait = self.budget.closed

    def results_of(self, task: LoadedTask) -> Json:
        """Return the results of the task's dependencies, by label. Large values that are stored as files are there once they were brought."""
        brought = self.brought.get(task.id)
        return dependency_results(task.dependencies, self.results) if brought is None else brought.results

    def values_of(self, task: LoadedTask) -> Json:
        """Return the values of the run, with its large inputs once they were brought."""
        brought = self.brought.get(task.id)
        return self.values if brought is None else brought.values

    def read_for(self, task: LoadedTask) -> Mapping[str, Any]:
        """Return the large values that were brought for the task, by the ids of their files."""
        brought = self.brought.get(task.id)
        return {} if brought is None else brought.read

    def needs_values(self, task: LoadedTask) -> bool:
        """Return whether the task may need large values that are stored as files."""
        return (
            self.has_large_inputs
            or task.has_moved
            or any(need["id"] in self.results.moved for need in task.dependencies)
            or (bool(self.results.moved) and any(part in self.results.moved for part in self.parts_read_by(task)))
        )

    def parts_read_by(self, task: LoadedTask) -> list[str]:
        """Return the ids of the tasks added by this one whose results it reads: those of the latest round, or of a step."""
        if repeat_of(task.params) is not None:
            return [each.id for each in self.family.latest_round(task.id)]
        return [each.id for each in self.family.children_of(task.id)] if task.is_called_again else []

    def may_move(self, task: LoadedTask) -> bool:
        """Return whether the result may be stored as a file: not that of a call, which the code of a workflow waits for."""
        spawner = self.standing.tasks.get(task.spawned_by or "")
        return spawner is None or not is_live(spawner)

    def most_bytes_of(self, task: LoadedTask) -> int:
        """Return the size that the task's result may have, as JSON."""
        limits = settings.APFLOW.limits
        return max(limits.result_bytes, limits.value_bytes) if self.may_move(task) else limits.result_bytes

    @cached_property
    def values(self) -> Json:
        """The values of the run for conditions and for places in inputs, by name."""
        return opened_values(self.claim, user_id=self.standing.user_id)

    @cached_property
    def spawner(self) -> Spawner:
        return Spawner(self.claim, self.family, self.shared.writer, self.results, most_bytes_of=self.most_bytes_of)


def _is_limited(claim: Claim, root_params: Mapping[str, Any]) -> bool:
    most = settings.APFLOW.limits
    of_day = (most.tasks_per_user_day, most.seconds_per_user_day, most.tokens_per_user_day, most.usd_per_user_day)
    return not claim.is_demo and (any(of_day) or claim.budget is not None or bool(budget_of(root_params)))
