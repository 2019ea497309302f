"""Reads runs as A2A Tasks, with a fixed number of queries for any number of runs."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from enum import Enum, auto
from typing import Any

from django.db.models import Avg, Count, Max, Q, QuerySet, Sum

from a2a.models import Message
from a2a.protocol.serialize import Facts, Failure, Node, question_message, task_object, times_asked
from accounts.callers import Caller
from tasks.models import Question, Run, Task, TaskEvent
from tasks.rules.exceptions import RunNotFound, TaskNotFound
from tasks.rules.plan import NOT_RUN
from tasks.rules.strict_json import Json
from tasks.services.history import failures_of
from tasks.status import Status
from tasks.storage import loads
from tasks.storage.loads import ROW_BYTES, size_of

KINDS_OF_LOG = ("task_completed", "task_failed", "final")
"""The events from which the Task of a superseded run is built."""


def log_of(run: Run) -> QuerySet[TaskEvent]:
    """Return the events that tell what the tasks of the tree were at the end of this run."""
    earlier = Run.objects.filter(root_id=run.root_id, number__lte=run.number)
    return TaskEvent.objects.filter(run_id__in=earlier.values("id"), type__in=KINDS_OF_LOG)


def sizes_of(runs: Sequence[Run], *, superseded: frozenset[str], with_artifacts: bool) -> dict[str, int]:
    """Run id → the bytes that its Task loads: messages, and results if `with_artifacts`. In the order of `runs`."""
    messages = dict(
        Message.objects.filter(run__in=runs).order_by().values_list("run_id").annotate(size=Sum(size_of("body")))
    )
    current = {run.root_id for run in runs if run.id not in superseded} if with_artifacts else ()
    trees = dict(
        Task.objects.filter(root_id__in=current)
        .order_by()
        .values_list("root_id")
        .annotate(size=Sum(size_of("result", "error")))
    )
    sizes = {}
    for run in runs:
        sizes[run.id] = ROW_BYTES + (messages.get(run.id) or 0)
        if run.id in superseded:
            sizes[run.id] += log_of(run).aggregate(size=Sum(size_of("payload")))["size"] or 0
        else:
            sizes[run.id] += trees.get(run.root_id, 0)
    return sizes


NODE_COLUMNS = ("id", "root_id", "name", "parent_id", "executor_id", "result")


class Artifacts(Enum):
    """The artifacts of a Task. `RESULT` adds the result of the whole run to that of its task."""

    ALL = auto()
    RESULT = auto()
    NONE = auto()


def find_run(*, caller: Caller, task_id: str) -> Run:
    """Return the run with this A2A task id; for the id of a root, the latest run of its tree.

    Raises TaskNotFound.
    """
    mine = Run.objects.for_caller(caller)
    run = mine.filter(id=task_id).first() or mine.filter(root_id=task_id).order_by("-number").first()
    if run is None:
        raise TaskNotFound(task_id)
    return run


def task_of(
    *, run_id: str, history_length: int | None = None, artifacts: Artifacts = Artifacts.ALL
) -> tuple[Run, Json]:
    """Return the run and its Task. The run is read first: if it has ended, the rest is final, too.

    Raises RunNotFound if it has been deleted, or ResponseTooLarge.
    """
    run = Run.objects.filter(id=run_id).first()
    if run is None:
        raise RunNotFound(run_id)
    (task,) = tasks_of([run], artifacts=artifacts, history_length=history_length)
    return run, task


def tasks_of(
    runs: Sequence[Run], *, artifacts: Artifacts = Artifacts.ALL, history_length: int | None = None
) -> list[Json]:
    """Return the Tasks of these runs, or of the first ones if all of them are too large for one response.

    `history_length`: 0 omits the history, None returns all of it. Raises ResponseTooLarge if not even one fits.
    """
    # The runs whose tree has run again since. The rows of its tasks belong to the later run.
    of_trees = Run.objects.filter(root_id__in={run.root_id for run in runs})
    newest = dict(of_trees.order_by().values_list("root_id").annotate(Max("number")))
    superseded = frozenset(run.id for run in runs if run.number < newest.get(run.root_id, 0))
    sizes = sizes_of(runs, superseded=superseded, with_artifacts=artifacts is Artifacts.ALL)
    fitting = frozenset(loads.spend_on_page(sizes, least=min(1, len(sizes))))
    runs = [run for run in runs if run.id in fitting]
    facts = _facts(runs, superseded & fitting, artifacts=artifacts, with_history=history_length != 0)
    return [task_object(run, facts[run.id], history_length=history_length) for run in runs]


def nodes_of(*, root_id: str, skip: int = 0) -> dict[str, Node]:
    """Return the tasks of a tree by id, without their results and without the first ones: a tree that grows does so at its end."""
    rows = Task.objects.tree(root_id).values(*NODE_COLUMNS[:-1])[skip:]
    return {row["id"]: _node(row, result=None) for row in rows}


def node_of(*, task_id: str) -> dict[str, Node]:
    """One task by its id, without its result; empty if it does not exist."""
    return {row["id"]: _node(row, result=None) for row in Task.objects.filter(id=task_id).values(*NODE_COLUMNS[:-1])}


def is_only_task(*, task_id: str, root_id: str) -> bool:
    """Return whether the tree has no other task."""
    return not Task.objects.tree(root_id).exclude(id=task_id).exists()


def has_sent_result(run: Run, task: Json) -> bool:
    """Return whether an update of this run had its result before the last one: that of its only task, when it completed."""
    if task["metadata"].get("taskCount") != 1:
        return False
    return TaskEvent.objects.filter(run_id=run.id, type="task_completed", task_id=run.target_id).exists()


def _facts(
    runs: Sequence[Run], superseded: frozenset[str], *, artifacts: Artifacts, with_history: bool
) -> dict[str, Facts]:
    with_artifacts = artifacts is not Artifacts.NONE
    current = [run for run in runs if run.id not in superseded and not run.is_reserved]
    counts = _counts({run.root_id for run in runs})
    nodes = _nodes(current, only_result=artifacts is Artifacts.RESULT) if with_artifacts else {}
    messages: defaultdict[str, list[Json]] = defaultdict(list)
    for run_id, body in Message.objects.filter(run__in=runs).order_by("id").values_list("run_id", "body"):
        messages[run_id].append(body)
    questions: dict[str, Json] = {}  # run id → its oldest open question
    contexts = {run.id: run.context_id for run in runs}
    for question in Question.objects.waiting().filter(run__in=runs).order_by("asked_at", "id"):
        questions.setdefault(question.run_id, message_of(question, context_id=contexts[question.run_id]))
    found: dict[str, Facts] = {}
    for run in runs:
        own_nodes = nodes.get(run.root_id, ())
        target = next((node for node in own_nodes if node.id == run.target_id), None)
        failed = [failure for failure in failures_of(run) if not failure.error.startswith(NOT_RUN)]
        known = counts.get(run.root_id, {}) | {
            "nodes": own_nodes if with_artifacts else None,
            "result": target.result if target is not None and run.finished_at is not None else None,
            "executor_id": target.executor_id if target is not None else None,
            "failure": Failure(error=failed[0].error, node_ids=[each.task_id for each in failed]) if failed else None,
        }
        if run.id in superseded:
            known |= _facts_of_log(run, with_artifacts=with_artifacts)
        own_messages = messages.get(run.id, [])
        known["messages"] = own_messages if with_history else ()
        found[run.id] = Facts(**known, question=_open_question(run, questions.get(run.id), own_messages))
    return found


def _counts(root_ids: Collection[str]) -> dict[str, Json]:
    rows = (
        Task.objects.filter(root_id__in=root_ids)
        .order_by()
        .values_list("root_id")
        .annotate(Avg("progress"), Count("id"), completed=Count("id", filter=Q(status=Status.COMPLETED)))
    )
    return {
        root_id: {"progress": round(progress, 6), "task_count": count, "completed_count": completed}
        for root_id, progress, count, completed in rows
    }


def _nodes(runs: Sequence[Run], *, only_result: bool) -> dict[str, list[Node]]:
    found: defaultdict[str, list[Node]] = defaultdict(list)
    tasks = Task.objects.filter(root_id__in={run.root_id for run in runs}).order_by("root_id", "position")
    if only_result:
        tasks = tasks.filter(id__in={run.target_id for run in runs})
    for row in tasks.values(*NODE_COLUMNS):
        found[row["root_id"]].append(_node(row, result=row["result"]))
    return found


def _node(row: Mapping[str, Any], *, result: Any) -> Node:
    return Node(
        id=row["id"], name=row["name"], parent_id=row["parent_id"], executor_id=row["executor_id"], result=result
    )


def _facts_of_log(run: Run, *, with_artifacts: bool) -> Json:
    """Return the facts of a superseded run, from the events up to it: the rows have changed since."""
    earlier = Run.objects.filter(root_id=run.root_id, number__lte=run.number).order_by("number")
    order = {run_id: place for place, run_id in enumerate(earlier.values_list("id", flat=True))}
    rows = log_of(run).values_list("run_id", "seq", "payload")
    log = [payload for _, _, payload in sorted(rows, key=lambda row: (order[row[0]], row[1]))]
    own = [event for event in log if event["run_id"] == run.id]
    final = next((event for event in own if event["type"] == "final"), None)
    results = {event["task_id"]: event["result"] for event in log if event["type"] == "task_completed"}
    nodes = None
    if with_artifacts:
        tasks = Task.objects.tree(run.root_id).filter(id__in=results).values(*NODE_COLUMNS[:-1])
        nodes = [_node(row, result=results[row["id"]]) for row in tasks]
    return {
        "progress": final["tree_progress"] if final else 0.0,
        "completed_count": len(results),
        "nodes": nodes,
        "result": final["result"] if final else None,
        "executor_id": Task.objects.filter(id=run.target_id).values_list("executor_id", flat=True).first(),
    }


def message_of(question: Question, *, context_id: str) -> Json:
    """Return the question of a task as a message."""
    return question_message(
        question_id=question.id,
        text=question.text,
        options=question.options,
        schema=question.schema,
        node_id=question.task_id,
        run_id=question.run_id,
        context_id=context_id,
    )


def _open_question(run: Run, question: Json | None, messages: Sequence[Json]) -> Json | None:
    """Return the open question of a task, or the message that asked it again after a wrong answer.

    In a run without a tree it is the last message of this server: a question or a rejection.
    """
    if question is not None:
        return messages[-1] if messages and times_asked(question, messages[-1]) else question
    ours = [message for message in messages if message["role"] == "ROLE_AGENT"]
    return ours[-1] if run.is_reserved and ours else None
