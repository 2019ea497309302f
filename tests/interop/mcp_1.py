# mypy: ignore-errors
"""The official client of MCP for Python, 1.x: a whole day of work, and what it saw as JSON."""

import asyncio
import json
import sys

import httpx
from mcp import ClientSession, types
from mcp.client.streamable_http import streamablehttp_client


async def main(url: str) -> dict[str, object]:
    progress: list[float] = []

    async def note(reached: float, total: float | None, message: str | None) -> None:
        progress.append(reached)

    async with (
        streamablehttp_client(url) as (incoming, outgoing, session_id),
        ClientSession(incoming, outgoing) as client,
    ):
        await client.initialize()
        session = {"Mcp-Session-Id": session_id()}
        tools = [tool.name for tool in (await client.list_tools()).tools]
        quick = await client.call_tool("echo_executor", {"say": "hello"})
        slow = await client.call_tool("sleep_executor", {"seconds": 2, "steps": 4}, progress_callback=note)
        wrong = await client.call_tool("run_tree", {"tasks": []})
        asked = await client.call_tool("approval_executor", {"question": "Publish?", "options": ["yes", "no"]})
        waiting = asked.structuredContent
        (question,) = waiting["questions"]
        answer = {"task_id": question["task_id"], "answer": "yes"}
        await client.call_tool("answer_question", answer)
        approved = await client.call_tool("get_run", {"run_id": waiting["run_id"], "wait_seconds": 45})
        long = (await client.call_tool("run_tree", {"tasks": [SLEEP]})).structuredContent
        await client.call_tool("cancel_run", {"run_id": long["run_id"]})
        cancelled = await client.call_tool("get_run", {"run_id": long["run_id"], "wait_seconds": 45})
        resources = (await client.list_resources()).resources
        read = await client.read_resource(resources[0].uri)
        filed = await client.call_tool("echo_executor", {"file": {"$file": "data:image/png;base64,AAEC"}})
        file = await client.read_resource(next(each for each in filed.content if each.type == "resource_link").uri)
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    async with httpx.AsyncClient(timeout=60) as http:
        ended = await http.post(url, json=ping, headers=session | {"Accept": "application/json"})
    async with (
        streamablehttp_client(url) as (incoming, outgoing, _),
        ClientSession(incoming, outgoing, elicitation_callback=fill_in) as client,
    ):
        await client.initialize()
        elicited = await client.call_tool("approval_executor", {"question": "Publish?", "options": ["yes", "no"]})
    return {
        "ended": ended.status_code,
        "elicited": elicited.structuredContent["result"]["answer"],
        "tools": tools,
        "quick": quick.structuredContent["result"],
        "slow": slow.structuredContent["status"],
        "progress": progress == sorted(set(progress)) and len(progress) > 2,
        "wrong": wrong.isError,
        "asked": waiting["status"],
        "approved": approved.structuredContent["status"],
        "long": long["status"],
        "cancelled": cancelled.structuredContent["status"],
        "file": [*(each.type for each in filed.content), file.contents[0].blob],
        "resource": json.loads(read.contents[0].text)["run_id"] == str(resources[0].uri).removeprefix("task://"),
    }


async def fill_in(context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
    """The user of a host: fill in the form."""
    return types.ElicitResult(
        action="accept", content={"answer": params.requestedSchema["properties"]["answer"]["enum"][0]}
    )


SLEEP = {"name": "long", "schemas": {"method": "sleep_executor"}, "inputs": {"seconds": 600}}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1]))))
