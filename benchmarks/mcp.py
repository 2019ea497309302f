"""Benchmark of a quick call over MCP, beside the same work over JSON-RPC.

    python -m benchmarks.mcp [sqlite] [postgres] [--rounds 3]

Starts `aipartnerupflow serve` with authentication and a new database for each engine. One task that
echoes its input is run by `tasks.execute` with `wait`, and by a call of a tool in both eras of MCP.
The same client measures them in turns, round by round, for machines are shared and noisy. Prints
the medians of the calls per second, and the ratio to JSON-RPC.
"""

import argparse
import asyncio
import json
from collections.abc import Callable, Mapping
from statistics import median
from types import MappingProxyType
from typing import Any, Final

from benchmarks.http import WIDTHS, Client, access_token, per_second, serving_on, task

NATIVE: Final = "tasks.execute, wait"
TOOL: Final = "echo_executor"
SETTINGS: Final = MappingProxyType({"AIPARTNERUPFLOW_MCP_TOOLS": f"{TOOL}=read_only"})
MODERN: Final = "2026-07-28"
LEGACY: Final = "2025-11-25"
PREFIX: Final = "io.modelcontextprotocol/"
Json = dict[str, Any]
Figures = Mapping[str, Mapping[int, list[float]]]


class McpClient(Client):
    """A client that calls tools, in one era."""

    async def tool(self, version: str, name: str, arguments: Json) -> Json:
        params: Json = {"name": name, "arguments": arguments}
        headers = f"MCP-Protocol-Version: {version}\r\n"
        if version == MODERN:
            params["_meta"] = {f"{PREFIX}protocolVersion": version, f"{PREFIX}clientCapabilities": {}}
            headers += f"Mcp-Method: tools/call\r\nMcp-Name: {name}\r\n"
        plain, self._head = self._head, self._head + headers
        try:
            body = {"jsonrpc": "2.0", "method": "tools/call", "params": params, "id": 1}
            reply = json.loads(await self.ask("POST", "/mcp", json.dumps(body).encode()))
        finally:
            self._head = plain
        result: Json = reply["result"]
        assert result["structuredContent"]["status"] == "completed", reply
        return result


async def native(client: McpClient) -> None:
    reply = await client.rpc("tasks.execute", {"tasks": [task()], "wait": True})
    assert reply["status"] == "completed", reply


CALLS: Final[Mapping[str, Callable[[McpClient], Any]]] = MappingProxyType(
    {
        NATIVE: native,
        f"MCP {MODERN}, {TOOL}": lambda client: client.tool(MODERN, TOOL, task()["inputs"]),
        f"MCP {LEGACY}, {TOOL}": lambda client: client.tool(LEGACY, TOOL, task()["inputs"]),
        f"MCP {MODERN}, run_tree": lambda client: client.tool(MODERN, "run_tree", {"tasks": [task()]}),
    }
)


async def measure(port: int, *, rounds: int) -> Figures:
    """Calls per second by name and number in flight, one figure for each round."""
    token = await asyncio.to_thread(access_token, port)
    figures: dict[str, dict[int, list[float]]] = {name: {width: [] for width in WIDTHS} for name in CALLS}
    for _ in range(rounds):
        for width in WIDTHS:
            for name, call in CALLS.items():
                clients: list[Any] = [await McpClient.connected(port, token=token) for _ in range(width)]
                figures[name][width].append(await per_second(call, clients))  # type: ignore[arg-type]  # of this client
    return figures


def table(engine: str, figures: Figures) -> str:
    heads = " | ".join(f"{width} in flight" for width in WIDTHS)
    lines = [f"| {engine}, calls/s | {heads} |", "|---|" + "---:|" * len(WIDTHS)]
    for name, by_width in figures.items():
        cells = [f"{median(by_width[width]):,.0f} ({ratio(figures, name, width):.2f})" for width in WIDTHS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ratio(figures: Figures, name: str, width: int) -> float:
    """The median of the ratios to JSON-RPC in the same round."""
    pairs = zip(figures[name][width], figures[NATIVE][width], strict=True)
    return median(ours / theirs for ours, theirs in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("engines", nargs="*", default=["sqlite", "postgres"])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for engine in given.engines:
        with serving_on(engine, with_authentication=True, settings=SETTINGS) as port:
            print(table(engine, asyncio.run(measure(port, rounds=given.rounds))), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
