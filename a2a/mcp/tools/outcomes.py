"""The result of the tools that run something: the same object for each, at the end of the run and before it."""

from functools import cache
from typing import Any, Final, Literal

import orjson

from a2a.core.mapping import native_open_question, native_tree
from a2a.mcp.messages import text, tool_result
from a2a.mcp.tools.file_blocks import blocks_of
from a2a.mcp.tools.tool import schema_of
from a2a.methods.method import Response
from accounts.callers import Caller
from tasks.executors import answer_in
from tasks.models import Run, Task
from tasks.rules.exceptions import ResponseTooLarge
from tasks.rules.strict_json import TEXT, Json
from tasks.services import history
from tasks.services.history.past_trees import past_tree
from tasks.services.trees import queries
from tasks.services.waits import questions
from tasks.status import Status

RESULT_TEXT: Final = f"result{TEXT}"
"""The name of the result of a task that was loaded with texts."""
SCHEME: Final = "task://"
TOO_LARGE: Final = "The tree is too large for one reply (limits.response_bytes). Read its tasks one by one."
CONTINUES: Final = "The run {run_id} continues. Call get_run with this run_id for its result."
WAITS: Final = (
    "The run {run_id} waits for an answer to: {asked} Call answer_question with the task_id of the question, "
    "and then get_run with this run_id."
)


class Outcome(Response, frozen=True, kw_only=True):
    """A run. `result` is that of its root, `tree` all its tasks; both are null while the run continues."""

    run_id: str
    task_id: str
    status: Literal["pending", "in_progress", "completed", "failed", "cancelled"]
    result: Any
    error: str | None
    tree: Json | None
    questions: list[Json]


@cache
def outcome_schema() -> Json:
    """Return the schema of what each tool that runs something returns."""
    return schema_of(Outcome)


def schema_with_result(schema: Json) -> Json:
    """Return the schema of an outcome, with this schema for its result."""
    whole = outcome_schema()
    if not schema:
        return whole
    own = {name: rule for name, rule in schema.items() if name != "$defs"}
    result = {"anyOf": [own, {"type": "null"}]}
    defs = {"$defs": schema["$defs"]} if "$defs" in schema else {}  # its references begin at the root
    return whole | {"properties": whole["properties"] | {"result": result}} | defs


def outcome_of(*, caller: Caller, run_id: str, with_tree: bool) -> Json:
    """Return the result of a tool for a run as it is now. Raises RunNotFound or ResponseTooLarge."""
    run = history.own_run(caller=caller, run_id=run_id)
    if run.finished_at is None:
        asked = questions.open_questions(caller, run_ids=[run.id])
        shown = [native_open_question(question, answer_url=None) for question in asked]
        state = WAITS.format(run_id=run.id, asked=asked[0].text) if asked else CONTINUES.format(run_id=run.id)
        return tool_result(_data(run, questions=shown), text(state), link_to(run))
    tasks, note = _tasks(caller, run, with_tree=with_tree)
    root = next(task for task in tasks if task.id == run.target_id)
    tree = native_tree(tasks) if with_tree and note is None else None
    result = root.result if RESULT_TEXT not in vars(root) else orjson.loads(vars(root)[RESULT_TEXT] or "null")
    error = next((failure.error for failure in history.failures_of(run)), root.error)
    data = _data(run, result=result, error=None if run.status == Status.COMPLETED else error, tree=tree)
    answer = answer_in(result, executor_id=root.executor_id)
    said = [text(data if tree is not None else result if answer is None else answer)]
    said += [] if note is None else [text(note)]
    if run.status == Status.COMPLETED:
        return tool_result(data, *said, *blocks_of(result, caller=caller))
    return tool_result(
        data, text(data["error"] or f"The run is {run.status}."), *said[with_tree is False :], is_error=True
    )


def _tasks(caller: Caller, run: Run, *, with_tree: bool) -> tuple[list[Task], str | None]:
    """Return the tasks of the reply as they were at the end of the run, and a note if these are not all."""
    if not history.is_latest(run):
        return past_tree(caller=caller, run_id=run.id).tasks, None
    if with_tree:
        try:
            return queries.get_tree(caller=caller, task_id=run.target_id, times=2), None
        except ResponseTooLarge:
            return [queries.get_task(caller=caller, task_id=run.target_id)], TOO_LARGE
    return [queries.get_task(caller=caller, task_id=run.target_id)], None


def _data(run: Run, *, result: Any = None, error: str | None = None, tree: Json | None = None, **more: Any) -> Json:
    return {
        "run_id": run.id,
        "task_id": run.target_id,
        "status": run.status,
        "result": result,
        "error": error,
        "tree": tree,
        "questions": [],
    } | more


def link_to(run: Run) -> Json:
    """Return a block of content that names the run as a resource."""
    return {
        "type": "resource_link",
        "uri": f"{SCHEME}{run.id}",
        "name": f"run {run.id}",
        "mimeType": "application/json",
    }
