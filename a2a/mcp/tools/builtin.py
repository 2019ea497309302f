"""The server's own tools."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache, partial
from inspect import iscoroutinefunction
from types import MappingProxyType
from typing import Annotated, Any, Final

from msgspec import Meta, json

from a2a.core.parsing import Params, Text
from a2a.mcp import calls
from a2a.mcp.eras import Exchange
from a2a.mcp.messages import Messages, Result, tool_result
from a2a.mcp.tools.app import SHOWN, app_tools
from a2a.mcp.tools.outcomes import outcome_schema
from a2a.mcp.tools.running import RunTool, Start, followed, outcome
from a2a.mcp.tools.tool import DEFINITIONS, READS, Hints, Tool, short_schema_of
from a2a.methods import METHODS, system
from a2a.methods.generate import task_that_writes
from a2a.methods.method import Method
from a2a.methods.method import Tool as Declared
from a2a.methods.params import FlowReference, Nothing, Tags, Version
from a2a.methods.task_schemas import NewTask, TaskParams
from accounts.callers import Caller, Role
from apflow_site.db import pools
from tasks.executors import describe
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json
from tasks.services import flows, history, trees
from tasks.services.runs.cancels import cancel_tasks
from tasks.services.runs.run_inputs import with_inputs, with_tags
from tasks.services.trees import Execution
from tasks.services.upkeep.demo import as_demo

Answered = Callable[[Caller, Any], Any]


@dataclass(frozen=True, slots=True)
class Direct:
    """The call of a tool that returns data: `function` gets the caller and the parsed arguments.

    `without` are parameters of the method that the tool does not have, each with what to do instead.
    """

    params: type[Params]
    function: Answered
    without: Mapping[str, str]
    takes_url: bool = False

    async def __call__(self, exchange: Exchange, arguments: Json) -> Messages:
        if absent := [(name, reason) for name, reason in self.without.items() if name in arguments]:
            raise InvalidParams(absent)
        url = {"url": exchange.headers.url} if self.takes_url else {}
        call = partial(self.function, exchange.caller, self.params.parse(arguments), **url)
        if iscoroutinefunction(self.function):
            yield Result(value=_shown(await call()))
        else:
            yield Result(value=await pools.read(lambda: _shown(call())))


def _shown(found: Any) -> Json:
    return tool_result(found if isinstance(found, dict) else found.native)


def direct(
    name: str,
    title: str,
    description: str,
    function: Answered,
    *,
    given: type[Params],
    without: Mapping[str, str] = MappingProxyType({}),
    takes_url: bool = False,
    **more: Any,
) -> Tool:
    """Return the tool that calls the function. Models do without the schemas of results, which are longer than all else."""
    schema = short_schema_of(given)
    schema["properties"] = {key: value for key, value in schema["properties"].items() if key not in without}
    return Tool(
        name=name,
        title=title,
        description=description,
        input_schema=schema,
        call=Direct(given, function, without, takes_url),
        **more,
    )


def tool_of(method: Method, tool: Declared) -> Tool:
    """Return the tool as which a method is declared."""
    changes = Hints(destroys=tool.destroys, is_idempotent=tool.is_idempotent, reaches_out=tool.reaches_out)
    return direct(
        tool.name,
        tool.title,
        tool.description,
        method.function,
        given=method.params,
        without=tool.without,
        takes_url=method.takes_url,
        hints=changes if method.is_async else READS,
        role=method.role,
    )


MOST_SECONDS: Final = 45
TASK: Final[Json] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string"},
        "parent_id": {"type": "string"},
        "dependencies": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "object"}]}},
        "schemas": {"type": "object", "properties": {"method": {"type": "string"}}},
        "inputs": {"type": "object"},
        "params": {
            "type": "object",
            "description": f"{', '.join(TaskParams.__struct_fields__)}: see with_task_schema.",
        },
    },
    "required": ["name"],
}
"""The fields of tasks that most trees need. The schema with all rules is thirty times as long: `list_executors` returns it."""
NewTasks = Annotated[Any, Meta(extra_json_schema={"anyOf": [{"type": "array", "items": TASK, "minItems": 1}, TASK]})]
"""Tasks in a request. The rules for tasks validate them; this is the schema that models get."""


class RunTree(Params, frozen=True, kw_only=True):
    """run_tree"""

    tasks: NewTasks
    run_inputs: Json | None = None
    """Values for `{{run.inputs.topic}}` in the tree, for this run."""
    tags: Tags | None = None
    use_demo: bool = False


class RunFlow(Params, frozen=True, kw_only=True):
    """run_flow"""

    name: FlowReference
    version: Version | None = None
    inputs: Json | None = None
    share_key: Text | None = None
    tags: Tags | None = None
    use_demo: bool = False


class GenerateTree(Params, frozen=True, kw_only=True):
    """generate_tree"""

    requirement: Annotated[str, Meta(min_length=1, max_length=20_000)]
    model: Text | None = None


class GetRun(Params, frozen=True, kw_only=True):
    """get_run"""

    run_id: Text
    wait_seconds: Annotated[float, Meta(ge=0, le=MOST_SECONDS)] = 0
    """The seconds to wait for the end of the run."""
    with_tree: bool = True


class CancelRun(Params, frozen=True, kw_only=True):
    """cancel_run"""

    run_id: Text
    force: bool = False


class ListExecutors(Params, frozen=True, kw_only=True):
    """list_executors"""

    ids: Annotated[list[Text], Meta(max_length=100)] | None = None
    with_task_schema: bool = False


RUNS: Final = Hints(reaches_out=True)
ENDED: Final = "The run had ended before: {status}."


# --- tools that run something ---


async def run_tree(exchange: Exchange, arguments: Json) -> Callable[[], Execution]:
    """Return what stores new tasks and queues their run."""
    given = RunTree.parse(arguments)
    verb: Callable[..., Execution] = trees.execute_tree
    if given.use_demo:
        verb = partial(as_demo, verb)
    if given.run_inputs is not None:
        verb = partial(with_inputs, verb, given.run_inputs)
    if given.tags is not None:
        verb = partial(with_tags, verb, given.tags)
    llm_key = exchange.headers.sent_key()
    return partial(verb, caller=exchange.caller, tasks=given.tasks, llm_key=llm_key)


async def run_flow(exchange: Exchange, arguments: Json) -> Callable[[], Execution]:
    """Return what queues a run of a flow of the caller."""
    given = RunFlow.parse(arguments)
    verb: Callable[..., Execution] = partial(as_demo, flows.run_flow) if given.use_demo else flows.run_flow
    if given.tags is not None:
        verb = partial(with_tags, verb, given.tags)
    start = partial(
        verb, caller=exchange.caller, name=given.name, version=given.version, inputs=given.inputs, key=given.share_key
    )
    return partial(start, llm_key=exchange.headers.sent_key())


async def generate_tree(exchange: Exchange, arguments: Json) -> Callable[[], Execution]:
    """Return what queues a run in which a model writes a tree."""
    given = GenerateTree.parse(arguments)
    task = await task_that_writes(exchange.caller, requirement=given.requirement, model=given.model)
    return partial(trees.execute_tree, caller=exchange.caller, tasks=task, llm_key=exchange.headers.sent_key())


# --- tools that answer at once ---


def list_executors(caller: Caller, given: ListExecutors) -> Json:
    """Return executors with the schemas of their inputs and results, and if asked the schema of a task. Raises ExecutorNotFound."""
    if given.ids is None:
        found = system.executors(caller, Nothing()).native
    else:
        found = [describe(each) for each in dict.fromkeys(given.ids)]
    return {"executors": found} | ({"task_schema": task_schema()} if given.with_task_schema else {})


@cache
def task_schema() -> Json:
    """Return the schema of a task in a request, without the fields that the server sets."""
    _, parts = json.schema_components([NewTask], ref_template=DEFINITIONS)
    whole: Json = parts.pop("NewTask")
    for name in ("user_id", "status", "progress", "result", "error"):
        whole["properties"].pop(name)
    return whole | {"$defs": parts}


async def cancel_run(caller: Caller, given: CancelRun) -> Json:
    """Stop a run, unless it has ended."""
    run = await pools.read(history.own_run, caller=caller, run_id=given.run_id)
    if run.finished_at is not None:
        return {"run_id": run.id, "status": run.status, "message": ENDED.format(status=run.status)}
    (answer,) = await cancel_tasks(caller, task_ids=[run.target_id], force=given.force)
    run = await pools.read(history.own_run, caller=caller, run_id=given.run_id)
    return {"run_id": run.id, "status": run.status, "message": answer["message"]}


async def get_run(exchange: Exchange, arguments: Json) -> Messages:
    """Return a run; with `wait_seconds` when it has ended, a task asks a person, or the time is over."""
    given = GetRun.parse(arguments)
    run = await pools.read(history.own_run, caller=exchange.caller, run_id=given.run_id)
    found = await outcome(exchange.caller, run.id, with_tree=given.with_tree)
    if run.finished_at is not None or found["structuredContent"]["questions"] or not given.wait_seconds:
        yield Result(value=found)
        return
    call = None
    if exchange.session is not None:
        call = await pools.write(calls.store, exchange, run, starts_run=False, with_tree=given.with_tree)
    wait = partial(followed, exchange, run, with_tree=given.with_tree, call=call)
    async with aclosing(wait(seconds=given.wait_seconds, is_kept=True)) as messages:
        async for message in messages:
            yield message


# --- the table ---


def _run(
    name: str, title: str, description: str, start: Start, given: type[Params], *, with_tree: bool, has_app: bool
) -> Tool:
    return Tool(
        name=name,
        title=title,
        description=description,
        input_schema=short_schema_of(given),
        output_schema=outcome_schema(),
        call=RunTool(start, with_tree=with_tree, has_app=has_app),
        hints=RUNS,
        ui=SHOWN if has_app else None,
    )


@cache
def builtin_tools() -> Sequence[Tool]:
    """Return the server's own tools."""
    run_tree_tool = Tool(
        name="run_tree",
        title="Run a tree of tasks",
        description=RUN_TREE,
        input_schema=short_schema_of(RunTree),
        output_schema=outcome_schema(),
        call=RunTool(run_tree, with_tree=True, has_app=True),
        hints=RUNS,
        ui=SHOWN,
    )
    get_run_tool = Tool(
        name="get_run",
        title="Get a run",
        description=GET_RUN,
        input_schema=short_schema_of(GetRun),
        output_schema=outcome_schema(),
        call=get_run,
        hints=READS,
        role=Role.VIEWER,
    )
    return (
        run_tree_tool,
        get_run_tool,
        _run("run_flow", "Run a flow", RUN_FLOW, run_flow, RunFlow, with_tree=True, has_app=True),
        _run("generate_tree", "Write a tree", GENERATE, generate_tree, GenerateTree, with_tree=False, has_app=False),
        direct(
            "list_executors",
            "List executors",
            "List the executors that tasks can name in schemas.method, with the schemas of their inputs and results; with ids only "
            "these. with_task_schema adds the schema of a task with all its params: conditions, maps, loops, retries and budgets.",
            list_executors,
            given=ListExecutors,
            hints=READS,
            role=Role.VIEWER,
        ),
        direct(
            "cancel_run",
            "Cancel a run",
            "Stop a run: tasks that are running are stopped, and no further ones start. What has ended stays.",
            cancel_run,
            given=CancelRun,
            hints=Hints(destroys=True, is_idempotent=True),
        ),
        *app_tools(),
        *(tool_of(method, method.tool) for method in METHODS.values() if method.tool is not None),
    )


RUN_TREE: Final = (
    "Run tasks, each with an executor (schemas.method; list_executors shows them) and inputs. Independent tasks run at the same "
    "time, each after its dependencies; exactly one task has no parent_id: the root. {{id.path}} in the inputs stands for a value "
    "in the result of the dependency with that id. Returns the tree with all results or, if the run takes long, its run_id."
)
RUN_FLOW: Final = "Run a saved flow with inputs that fit its schema. Returns the tree with all results or, if the run takes long, its run_id."
GENERATE: Final = "Let a language model write a tree of tasks for a requirement. The tree is not run: pass the tasks of the result to run_tree."
GET_RUN: Final = "Get the status of a run, its open questions and, once it has ended, its result and its tree. With wait_seconds, wait for its end."
