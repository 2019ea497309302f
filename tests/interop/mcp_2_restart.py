# mypy: ignore-errors
"""The official client of MCP for Python, 2.x, beside a server that restarts: it says which run waits, and goes on after a line of input."""

import asyncio
import sys

from mcp import Client


async def main(url: str) -> None:
    async with Client(url) as client:
        asked = await client.call_tool("approval_executor", {"question": "Publish?", "options": ["yes", "no"]})
        waiting = asked.structured_content
        say(waiting["run_id"])
        await asyncio.to_thread(sys.stdin.readline)
        answer = {"task_id": waiting["questions"][0]["task_id"], "answer": "yes"}
        await client.call_tool("answer_question", answer)
        done = await client.call_tool("get_run", {"run_id": waiting["run_id"], "wait_seconds": 45})
    say(done.structured_content["status"])


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
