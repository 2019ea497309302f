"""The stream of a run: the Task, then updates until the run ends."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial

from a2a.core.exceptions import ShuttingDown
from a2a.protocol.queries import Artifacts, has_sent_result, nodes_of, task_of
from a2a.protocol.serialize import Node
from a2a.protocol.updates import asks, last_updates, update_of
from apflow_site.db import pools
from tasks import events
from tasks.models import Run
from tasks.rules.a2a_versions import INTERRUPTED, TERMINAL
from tasks.rules.strict_json import Json


async def updates(
    run: Run, task: Json, *, through_questions: bool = True, after: int | None = None
) -> AsyncGenerator[list[Json]]:
    """Yield StreamResponses: the given Task, then updates (A2A 1.0, section 3.1.2). Updates may come together.

    `after`: the updates begin after this number, and not after the given Task.

    Ends when the run ends or, without `through_questions`, when it waits for the client. Raises
    ShuttingDown when this process stops before that; a client that reconnects gets the current
    Task.
    """
    yield [{"task": task}]
    if after is None and _is_end(task["status"]["state"], through_questions=through_questions):
        return
    if after == run.last_seq and run.finished_at is not None:
        return
    nodes: dict[str, Node] = {}
    last: Json = {}
    async with aclosing(events.pages(run.id, after=run.last_seq if after is None else after)) as log:
        async for page in log:
            last = page[-1]
            make = partial(_updates_of, page, context_id=run.context_id, nodes=nodes)
            is_small = len(page) <= events.FEW and all(event["task_id"] in nodes for event in page)
            made = make() if is_small else await pools.read(make)
            asked = None if through_questions else next((n for n, event in enumerate(page, 1) if asks(event)), None)
            if made:
                yield made[:asked]
            if asked is not None:
                return
    if last.get("type") != "final":
        raise ShuttingDown
    run, task = await pools.read(task_of, run_id=run.id, history_length=0, artifacts=Artifacts.RESULT)
    is_sent = await pools.read(has_sent_result, run, task)
    yield last_updates(task, event=last, has_sent_result=is_sent)


def _updates_of(page: Sequence[Json], *, context_id: str, nodes: dict[str, Node]) -> list[Json]:
    """Return the updates of events except `final`, and add to `nodes` the tasks of those that it lacks."""
    found = []
    for event in page:
        if event["type"] != "final":
            if event["task_id"] not in nodes:
                nodes.update(nodes_of(root_id=event["root_task_id"], skip=len(nodes)))
            found.append(update_of(event, context_id=context_id, nodes=nodes, is_only=len(nodes) == 1))
    return found


async def settled(run: Run) -> None:
    """Wait until the run ends or waits for the client."""
    run, task = await pools.read(task_of, run_id=run.id, history_length=0, artifacts=Artifacts.NONE)
    if _is_end(task["status"]["state"], through_questions=False):
        return
    async with aclosing(events.follow(run.id, after=run.last_seq)) as log:
        async for event in log:
            if asks(event):
                return


def _is_end(state: str, *, through_questions: bool) -> bool:
    return state in TERMINAL or (state in INTERRUPTED and not through_questions)
