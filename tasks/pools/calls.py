"""The service of a worker for work that runs elsewhere: requests, and calls of models and MCP servers with the keys that only it has."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from aipartnerupflow.executors import Context, Json
from tasks.executors.llm.client import ask, check
from tasks.executors.llm.prompt import Prompt
from tasks.executors.mcp.calls import SERVERS
from tasks.executors.states import STATES


async def answer(
    name: str, arguments: Json, context: Context, *, heard: Callable[[str], None], spent: Callable[[Json], None]
) -> Any:
    """Do what the name says for the task of the context. Raises ExecutorError, Stopped."""
    match name:
        case "begin":
            return await context.begin()
        case "fetch":
            return await _fetch(context, **arguments)
        case "secret":
            return await context.secret(**arguments)
        case "ask":
            return asdict(await ask(_prompt(arguments, context), spent=spent, heard=heard))
        case "check":
            return await check(_prompt(arguments, context))
        case "tools_of_servers":
            return [asdict(each) for each in await SERVERS.get().named(**arguments)]
        case "call_tool":
            return await SERVERS.get().call(**arguments, log=heard)
        case "load_state":
            return await STATES.get().load()
        case "save_state":
            return await STATES.get().save(**arguments)
    raise LookupError(name)


async def _fetch(context: Context, **arguments: Any) -> Json:
    response = await context.fetch(**arguments)
    return {
        "url": response.url,
        "status_code": response.status_code,
        "headers": list(response.headers.items()),
        "body": response.body,
        "elapsed_ms": response.elapsed_ms,
    }


def _prompt(fields: Json, context: Context) -> Prompt:
    """Return the run and the user decide about the key, so they are not taken from the call."""
    return Prompt(
        model=fields["model"],
        messages=fields["messages"],
        options=fields["options"],
        streams=fields["streams"],
        api_base=fields["api_base"],
        run_id=context.run_id,
        user_id=context.user_id,
        agent=fields["agent"],
        crew_task=fields["crew_task"],
        step=fields["step"],
    )
