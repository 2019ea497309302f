# mypy: ignore-errors
"""The official client of MCP for Python, 2.x: a whole day of work, and what it saw as JSON."""

import asyncio
import json
import sys

from mcp import Client


async def main(url: str) -> dict[str, object]:
    progress: list[float] = []

    async def note(reached: float, total: float | None, message: str | None) -> None:
        progress.append(reached)

    async with Client(url) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        quick = await client.call_tool("echo_executor", {"say": "hello"})
        slow = await client.call_tool("sleep_executor", {"seconds": 2, "steps": 4}, progress_callback=note)
        wrong = await client.call_tool("run_tree", {"tasks": []})
        asked = await client.call_tool("approval_executor", {"question": "Publish?", "options": ["yes", "no"]})
        waiting = asked.structured_content
        (question,) = waiting["questions"]
        answer = {"task_id": question["task_id"], "answer": "yes"}
        await client.call_tool("answer_question", answer)
        approved = await client.call_tool("get_run", {"run_id": waiting["run_id"], "wait_seconds": 45})
        long = (await client.call_tool("run_tree", {"tasks": [SLEEP]})).structured_content
        await client.call_tool("cancel_run", {"run_id": long["run_id"]})
        cancelled = await client.call_tool("get_run", {"run_id": long["run_id"], "wait_seconds": 45})
        resources = (await client.list_resources()).resources
        read = await client.read_resource(str(resources[0].uri))
        filed = await client.call_tool("echo_executor", {"file": {"$file": "data:image/png;base64,AAEC"}})
        link = next(each for each in filed.content if each.type == "resource_link")
        file = await client.read_resource(str(link.uri))
    return {
        "tools": tools,
        "quick": quick.structured_content["result"],
        "slow": slow.structured_content["status"],
        "progress": progress == sorted(set(progress)) and len(progress) > 2,
        "wrong": wrong.is_error,
        "asked": waiting["status"],
        "approved": approved.structured_content["status"],
        "long": long["status"],
        "cancelled": cancelled.structured_content["status"],
        "file": [*(each.type for each in filed.content), file.contents[0].blob],
        "resource": json.loads(read.contents[0].text)["run_id"] == str(resources[0].uri).removeprefix("task://"),
    }


SLEEP = {"name": "long", "schemas": {"method": "sleep_executor"}, "inputs": {"seconds": 600}}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1]))))
