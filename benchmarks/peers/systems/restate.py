"""Restate: its server, and the handlers of its SDK on hypercorn; the submitter calls a handler over HTTP.

A step is a `ctx.run` of a handler. The fan-out is a handler with all steps in flight, which Restate
does faster than a call of another handler for each step.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import Request, urlopen

import restate

from benchmarks.http import free_port
from benchmarks.peers.connections import Connections
from benchmarks.peers.work import WAITING_SECONDS, WAITING_STEPS, Sizes, Work, main

SERVER: Final = "node_modules/@restatedev/restate-server-*/bin/restate-server"
service = restate.Service("benchmark")
app = restate.app([service])


async def step() -> int:
    return 1


async def waiting_step() -> int:
    await asyncio.sleep(WAITING_SECONDS)
    return 1


@service.handler()
async def chain(context: restate.Context, steps: int) -> int:
    for _ in range(steps):
        await context.run_typed("step", step)
    return steps


@service.handler()
async def fan_out(context: restate.Context, steps: int) -> int:
    await restate.gather(*[context.run_typed("step", step) for _ in range(steps)])
    await context.run_typed("join", step)
    return steps


@service.handler()
async def waiting(context: restate.Context, steps: int) -> int:
    for _ in range(steps):
        await context.run_typed("step", waiting_step)
    return steps


@contextmanager
def running(*command: str, env: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """Start the server and the handlers. Yields the port at which handlers are called."""
    ingress, admin, node, handlers = (free_port() for _ in range(4))
    server = next(Path(sys.prefix).glob(SERVER))
    settings = {
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_BASE_DIR": str(folder / "restate"),
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_LOG_FILTER": "error",
    }
    hypercorn = (sys.executable, "-m", "hypercorn", "--worker-class", "uvloop", "--log-level", "error")
    with ExitStack() as stack:
        env = {**os.environ, **settings}
        stack.enter_context(running(str(server), "--no-logo", env=env, log=folder / "server.log"))
        bind = ("--bind", f"127.0.0.1:{handlers}", f"{__spec__.name}:app")
        stack.enter_context(running(*hypercorn, *bind, env=env, log=folder / "handlers.log"))
        until_answered(f"http://127.0.0.1:{admin}/deployments", {"uri": f"http://127.0.0.1:{handlers}"})
        until_answered(f"http://127.0.0.1:{ingress}/benchmark/chain", 1)
        yield ingress


def until_answered(address: str, body: object) -> None:
    request = Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    deadline = time.monotonic() + 60
    while True:
        try:
            urlopen(request, timeout=30).close()
        except (URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


@asynccontextmanager
async def system(sizes: Sizes) -> AsyncIterator[Work]:
    with serving(Path(os.environ["DATA_FOLDER"])) as port:
        connections = Connections(port)

        async def call(handler: str, steps: int) -> None:
            async with connections.one() as client:
                await client.ask("POST", f"/benchmark/{handler}", str(steps).encode())

        yield Work(
            one=lambda: call("chain", 1),
            chain=lambda: call("chain", sizes.chain),
            fan_out=lambda: call("fan_out", sizes.fan_out),
            waiting=lambda: call("waiting", WAITING_STEPS),
        )


if __name__ == "__main__":
    main(system)
