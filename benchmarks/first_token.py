"""Benchmark of the first words of a model over `POST /responses`, beside the same flow over JSON-RPC.

    python -m benchmarks.first_token [sqlite | postgres] [ROUNDS]

Starts `aipartnerupflow serve` with a new database, and runs a flow with the demo model in turns over both. Prints the medians of the
times from the request to the first words, and of the differences and ratios of the turns.
"""

import sys
import time
from statistics import median
from typing import Any, Final

import httpx

from benchmarks.http import serving_on

WARM: Final = 5
TASK: Final = {"id": "say", "schemas": {"method": "llm_executor"}, "name": "say"}
INPUTS: Final = {"prompt": "{{run.inputs.prompt}}", "model": "demo/demo"}
FLOW: Final = {"name": "say", "tasks": [TASK | {"inputs": INPUTS}]}
RUN: Final = {"name": "say", "inputs": {"prompt": "hello"}, "use_streaming": True}


def call(method: str, params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def seconds_to(client: httpx.Client, path: str, body: Any, *, mark: str) -> float:
    """Return the time until the stream has a line with the mark, which is of the first words. The rest is read, too."""
    began, found = time.perf_counter(), 0.0
    with client.stream("POST", path, json=body) as response:
        for line in response.iter_lines():
            if not found and mark in line:
                found = time.perf_counter() - began
    assert found, f"{path} had no {mark}"
    return found


def main(engine: str = "sqlite", rounds: str = "50") -> None:
    native: list[float] = []
    responses: list[float] = []
    asked = {"model": "flow:say", "input": "hello", "stream": True}
    with serving_on(engine) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        client.post("/tasks", json=call("flows.save", FLOW)).raise_for_status()
        for _ in range(WARM + int(rounds)):
            native.append(seconds_to(client, "/tasks?tokens=true", call("flows.run", RUN), mark='"type":"token"'))
            responses.append(seconds_to(client, "/v1/responses", asked, mark="response.output_text.delta"))
    pairs = list(zip(native, responses, strict=True))[WARM:]
    print(f"JSON-RPC, ms: {median(one for one, _ in pairs) * 1e3:.1f}")
    print(f"/responses, ms: {median(other for _, other in pairs) * 1e3:.1f}")
    print(f"difference, ms: {median(other - one for one, other in pairs) * 1e3:.1f}")
    print(f"ratio: {median(other / one for one, other in pairs):.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
