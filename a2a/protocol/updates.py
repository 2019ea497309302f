"""The stream of a run: the Task, then an update for each event until the run ends.

An update is an artifact for a completed task with a result, else a status. The event `final` has too few fields for the
last status, which comes from the rows (`last_updates`).
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from a2a.core.exceptions import ShuttingDown
from a2a.protocol.queries import Artifacts, has_sent_result, nodes_of, task_of
from a2a.protocol.serialize import RESULT, WORKING, Node, agent_message, artifact_of, question_message, utc
from apflow_site.db import pools
from tasks import events
from tasks.models import Run
from tasks.rules.a2a_versions import AUTH_REQUIRED, INPUT_REQUIRED, INTERRUPTED, TERMINAL
from tasks.rules.strict_json import Json
from tasks.rules.words import REASONING, TOKEN, is_reasoning
from tasks.services.trees.pending_runs import CREDENTIALS, INPUT

REQUIRED_STATES: Mapping[str, str] = MappingProxyType({INPUT: INPUT_REQUIRED, CREDENTIALS: AUTH_REQUIRED})


def update_of(event: Json, *, context_id: str, nodes: Mapping[str, Node], is_only: bool) -> Json:
    """Return the StreamResponse of any event except `final`.

    `nodes` are tasks of the tree by id; `is_only`: the tree has one task.
    """
    if has_result(event):
        node = replace(nodes[event["task_id"]], result=event["result"])
        return artifact_update(artifact_of(node, is_only=is_only), event=event, context_id=context_id)
    state = REQUIRED_STATES[event["result"]["required"]] if asks(event) else WORKING
    status: Json = {"state": state, "timestamp": utc(datetime.fromisoformat(event["timestamp"]))}
    run_id = event["run_id"]
    if asks(event):
        names = ("question_id", "text", "options", "schema")
        known = {name: event["result"].get(name) for name in names}  # older events have no schema
        node_id = None if event["task_id"] == run_id else event["task_id"]
        status["message"] = question_message(**known, node_id=node_id, run_id=run_id, context_id=context_id)
    elif text := "" if is_reasoning(event) else event["message"] or event["error"]:
        message_id = f"{run_id}-{event['seq']}"
        status["message"] = agent_message(text, message_id=message_id, run_id=run_id, context_id=context_id)
    return status_update(status, event=event, context_id=context_id)


def status_update(status: Json, *, event: Json, context_id: str) -> Json:
    return {"statusUpdate": _about(event, context_id) | {"status": status, "metadata": _metadata(event)}}


def artifact_update(artifact: Json, *, event: Json, context_id: str) -> Json:
    """Return an update with a whole artifact; this server does not send artifacts in chunks."""
    shown = {"artifact": artifact, "append": False, "lastChunk": True, "metadata": _metadata(event)}
    return {"artifactUpdate": _about(event, context_id) | shown}


def has_result(event: Json) -> bool:
    """Return whether the update of this event is an artifact."""
    return event["type"] == "task_completed" and event["result"] is not None


def last_updates(task: Json, *, event: Json, has_sent_result: bool) -> list[Json]:
    """Return the updates at the end of a run: its result, unless it was sent before, and its final status.

    `task` is the finished Task.
    """
    context_id = task["contextId"]
    updates = [
        artifact_update(artifact, event=event, context_id=context_id)
        for artifact in task.get("artifacts", [])[-1:]
        if artifact["artifactId"] == RESULT and not has_sent_result
    ]
    return [*updates, status_update(task["status"], event=event, context_id=context_id)]


def asks(event: Json) -> bool:
    """Return whether the run waits for the client after this event."""
    return event["type"] == "log" and isinstance(event["result"], dict) and "required" in event["result"]


def _about(event: Json, context_id: str) -> Json:
    return {"taskId": event["run_id"], "contextId": context_id}


def _metadata(event: Json) -> dict[str, Any]:
    words = {"agent": event["result"]["agent"], "callId": event["result"]["call_id"]} if event["type"] == TOKEN else {}
    if is_reasoning(event):
        words["kind"] = REASONING
    return words | {
        "event": event["type"],
        "seq": event["seq"],
        "nodeId": event["task_id"],
        "nodeStatus": event["status"],
        "progress": event["tree_progress"],
    }


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

    def make(page: Sequence[Json]) -> list[Json]:
        """Return the updates of events except `final`, and add to `nodes` the tasks of those that it lacks."""
        found = []
        for event in page:
            if event["type"] != "final":
                if event["task_id"] not in nodes:
                    nodes.update(nodes_of(root_id=event["root_task_id"], skip=len(nodes)))
                found.append(update_of(event, context_id=run.context_id, nodes=nodes, is_only=len(nodes) == 1))
        return found

    last: Json = {}
    async with aclosing(events.pages(run.id, after=run.last_seq if after is None else after)) as log:
        async for page in log:
            last = page[-1]
            is_small = len(page) <= events.FEW and all(event["task_id"] in nodes for event in page)
            made = make(page) if is_small else await pools.read(make, page)
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
