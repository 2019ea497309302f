"""The checks of a task that its executor can honour: the rules of `params.checks` beyond their shape."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Final

from aipartnerupflow.executors import Json
from tasks.executors import get_executor
from tasks.executors.placement import chosen_pool
from tasks.executors.plugins import plugins
from tasks.rules.checks import ADDRESSES, OF_TOOLS, SECRETS, On, Then, kind_of
from tasks.rules.places import SECRET, places_in, source_of
from tasks.rules.pools import LOOP
from tasks.rules.specs import TaskSpec

Problem = tuple[str, str]
CHAT: Final = "llm_executor"
TREES: Final = "generate_executor"


def problems(task: TaskSpec) -> Iterator[Problem]:
    """Yield what the executor of the task cannot honour: the place below the task, and the reason."""
    params = task.params or {}
    executor_id = task.executor_id
    if executor_id is None:
        yield "params.checks", "is for tasks with an executor; this one runs no code"
        return
    if is_workflow(executor_id):
        yield "params.checks", "cannot be on a workflow, whose code calls others. Put it on the tasks of its steps"
        return
    for field in ("repeat", "for_each"):
        if field in params:
            yield (
                "params.checks",
                f"and params.{field} cannot be on the same task. Put the checks on the tasks below it",
            )
            return
    for index, check in enumerate(params["checks"]):
        place = f"params.checks[{index}]"
        if (reason := _fault_of_place(On(check["on"]), executor_id, task)) is not None:
            yield f"{place}.on", reason
        elif (
            check.get("then") == Then.RETRY
            and (reason := _fault_of_retry(On(check["on"]), executor_id, params)) is not None
        ):
            yield f"{place}.then", reason
        kind, given = kind_of(check["with"])
        if kind == "code" and (reason := _fault_of_code(given)) is not None:
            yield f"{place}.with", reason


def is_workflow(executor_id: str) -> bool:
    """Return whether the executor is the code of a workflow."""
    return executor_id.startswith("workflow:")


def _fault_of_place(on: On, executor_id: str, task: TaskSpec) -> str | None:
    params = task.params or {}
    if on in OF_TOOLS:
        tools: Any = task.inputs.get("tools")
        if executor_id != CHAT:
            return f"cannot be '{on}': {executor_id} does not call tools as tasks. {CHAT} with tools by name does"
        if isinstance(tools, list) and not any(isinstance(each, str) for each in tools):
            return f"cannot be '{on}': inputs.tools names no tool that the server calls"
        return f"cannot be '{on}': the task has no inputs.tools" if tools is None else None
    if on is On.INPUT and any(source_of(path) == SECRET for _, path in places_in(task.inputs, "")):
        return "cannot be 'input': the inputs have a named secret, which no check may see"
    if on is On.INPUT and executor_id != CHAT and get_executor(executor_id).templates:
        return f"cannot be 'input': {executor_id} fills texts itself, after the check"
    if on is On.OUTPUT and ("spawn" in params or (executor_id == TREES and task.inputs.get("run"))):
        return "cannot be 'output': the task adds others, whose results are its own. Check their outputs"
    return None


def _fault_of_retry(on: On, executor_id: str, params: Json) -> str | None:
    if on is not On.OUTPUT:
        return None
    if executor_id != CHAT:
        return (
            f"cannot be 'retry': {executor_id} takes no answer back. Use 'fail' with params.retry, which runs it again"
        )
    if (pool := chosen_pool(CHAT, params) or LOOP) != LOOP:
        return f"'retry' needs the pool '{LOOP}', and the task runs in '{pool}'"
    return None


def _fault_of_code(name: str) -> str | None:
    """Return why this is the name of no check; None if it is that of a function or an executor of a plug-in."""
    functions, executors = plugins().functions, plugins().executors
    if name in functions or (name in executors and not is_workflow(name)):
        return None
    known = [SECRETS, ADDRESSES, *functions, *(each for each in executors if not is_workflow(each))]
    close = get_close_matches(name[:100], known, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return (
        f"there is no check '{name[:100]}'.{hint} A check is {SECRETS}, {ADDRESSES}, flow:NAME, a function with @python_function or "
        "an executor in executors.modules, or an object with a schema, an expression, a length, addresses or a judge"
    )
