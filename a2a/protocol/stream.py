"""The stream of a run: the Task, then updates until the run ends."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

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
) -> AsyncGenerator[Json]:
    """Yield StreamResponses: the given Task, then updates (A2A 1.0, section 3.1.2).

    `after`: the updates begin after this number, and not after the given Task.

    Ends when the run ends or, without `through_questions`, when it waits for the client. Raises
    ShuttingDown when this process stops before that; a client that reconnects gets the current
    Task.
    """
    yield {"task": task}
    if after is None and _is_end(task["status"]["state"], through_questions=through_questions):
        return
    if after == run.last_seq and run.finished_at is not None:
        return
    nodes: dict[str, Node] = {}
    last: Json | None = None
    async with aclosing(events.follow(run.id, after=run.last_seq if after is None else after)) as log:
        async for event in log:
            if event["type"] == "final":
                last = event
                break
            if event["task_id"] not in nodes:
                nodes |= await pools.read(nodes_of, root_id=event["root_task_id"], skip=len(nodes))
            update = update_of(event, context_id=run.context_id, nodes=nodes, is_only=len(nodes) == 1)
            yield update
            state = update["statusUpdate"]["status"]["state"] if "statusUpdate" in update else ""
            if _is_end(state, through_questions=through_questions):
                return
    if last is None:
        raise ShuttingDown
    run, task = await pools.read(task_of, run_id=run.id, history_length=0, artifacts=Artifacts.RESULT)
    is_sent = await pools.read(has_sent_result, run, task)
    for update in last_updates(task, event=last, has_sent_result=is_sent):
        yield update


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
