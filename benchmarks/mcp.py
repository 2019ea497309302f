"""Benchmark of a quick call over MCP, beside the same work over JSON-RPC.

    python -m benchmarks.mcp [sqlite] [postgres] [--rounds 3]

Starts `aipartnerupflow serve` with authentication and a new database for each engine. One task that
echoes its input is run by `tasks.execute` with `wait`, and by a call of a tool in both eras of MCP.
`wrk` asks for them in turns, round by round, for machines are shared and noisy. Prints
the medians of the calls per second, and the ratio to JSON-RPC.
"""

import argparse
import json
from collections.abc import Mapping
from statistics import median
from types import MappingProxyType
from typing import Any, Final

from benchmarks.http import WIDTHS, Call, access_token, requests_per_second, require_wrk, rpc, serving_on, task

NATIVE: Final = "tasks.execute, wait"
TOOL: Final = "echo_executor"
SETTINGS: Final = MappingProxyType({"AIPARTNERUPFLOW_MCP_TOOLS": f"{TOOL}=read_only"})
MODERN: Final = "2026-07-28"
LEGACY: Final = "2025-11-25"
PREFIX: Final = "io.modelcontextprotocol/"
Json = dict[str, Any]
Figures = Mapping[str, Mapping[int, list[float]]]


def tool(version: str, name: str, arguments: Json, *, token: str) -> Call:
    """Return the call of a tool in one era."""
    params: Json = {"name": name, "arguments": arguments}
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Authorization": f"Bearer {token}",
        "MCP-Protocol-Version": version,
    }
    if version == MODERN:
        params["_meta"] = {f"{PREFIX}protocolVersion": version, f"{PREFIX}clientCapabilities": {}}
        headers |= {"Mcp-Method": "tools/call", "Mcp-Name": name}
    body = json.dumps({"jsonrpc": "2.0", "method": "tools/call", "params": params, "id": 1})
    return Call(path="/mcp", bodies=[body], headers=headers, is_right=has_completed)


def has_completed(reply: Json) -> bool:
    return bool(reply["result"]["structuredContent"]["status"] == "completed")


def measure(port: int, *, rounds: int) -> Figures:
    """Calls per second by name and number in flight, one figure for each round."""
    token = access_token(port)
    native = {"tasks": [task()], "wait": True}
    calls = {
        NATIVE: rpc("tasks.execute", native, token=token, is_right=lambda it: it["status"] == "completed"),
        f"MCP {MODERN}, {TOOL}": tool(MODERN, TOOL, task()["inputs"], token=token),
        f"MCP {LEGACY}, {TOOL}": tool(LEGACY, TOOL, task()["inputs"], token=token),
        f"MCP {MODERN}, run_tree": tool(MODERN, "run_tree", {"tasks": [task()]}, token=token),
    }
    figures: dict[str, dict[int, list[float]]] = {name: {width: [] for width in WIDTHS} for name in calls}
    for _ in range(rounds):
        for width in WIDTHS:
            for name, call in calls.items():
                figures[name][width].append(requests_per_second(port, call, width=width)[0])
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
    require_wrk()
    for engine in given.engines:
        with serving_on(engine, with_authentication=True, settings=SETTINGS) as port:
            print(table(engine, measure(port, rounds=given.rounds)), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
