"""The connection of a worker process to a Ray cluster. Only here Ray is imported, when a task first needs it."""

import asyncio
import secrets
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from aipartnerupflow import __version__
from aipartnerupflow.executors import ExecutorError, on_a_thread
from tasks.rules.pools import Resources

MIB: Final = 2**20
TOKEN_BYTES: Final = 32
ARRIVAL_SECONDS: Final = 10.0
"""The seconds for a connection to show its token."""
NAMESPACE: Final = "aipartnerupflow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """A job that a node fetches from the worker: the reference to its end, and the connection that the node makes."""

    end: Any
    arrival: "asyncio.Future[socket.socket]"


class Cluster:
    """Create it with `connected`."""

    def __init__(self, ray: Any, environ: Mapping[str, str]) -> None:
        """`environ` has the settings that the nodes need, without secrets."""
        self.ray = ray
        self._host = ray.util.get_node_ip_address()
        self._loop = asyncio.get_running_loop()
        self._listener = socket.create_server((self._host, 0))
        self._listener.setblocking(False)
        self._expected: dict[bytes, asyncio.Future[socket.socket]] = {}
        self._arrivals: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.create_task(self._accept())
        self._entry = ray.remote(_entry(__version__, dict(environ)))
        self._remotes: dict[Resources, Any] = {}

    def call(self, job: bytes, resources: Resources) -> Any:
        """Start the plain function of a job; return the reference to its end."""
        return self._start(resources, "call", job)

    def serve(self, resources: Resources) -> Errand:
        """Start a process that fetches one job."""
        token = secrets.token_bytes(TOKEN_BYTES)
        arrival = self._expected[token] = self._loop.create_future()
        arrival.add_done_callback(lambda _: self._expected.pop(token, None))
        port = self._listener.getsockname()[1]
        return Errand(end=self._start(resources, "serve", self._host, port, token), arrival=arrival)

    def cancel(self, end: Any) -> None:
        """Kill the process, if it still runs."""
        with suppress(self.ray.exceptions.RayError):
            self.ray.cancel(end, force=True)

    async def close(self) -> None:
        self._accepting.cancel()
        await asyncio.wait([self._accepting, *self._arrivals])
        self._listener.close()
        self.ray.shutdown()

    def _start(self, resources: Resources, work: str, *arguments: Any) -> Any:
        if (remote := self._remotes.get(resources)) is None:
            needs: dict[str, Any] = {"num_cpus": resources.cpus or 1, "num_gpus": resources.gpus, "max_retries": 0}
            if resources.memory_mb:
                needs["memory"] = resources.memory_mb * MIB
            remote = self._remotes[resources] = self._entry.options(**needs)
        return remote.remote(work, *arguments)

    async def _accept(self) -> None:
        while True:
            line, _ = await self._loop.sock_accept(self._listener)
            arrival = asyncio.create_task(self._admit(line))
            self._arrivals.add(arrival)
            arrival.add_done_callback(self._arrivals.discard)

    async def _admit(self, line: socket.socket) -> None:
        """Hand the connection to the job whose token it shows."""
        line.setblocking(False)
        token = b""
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(ARRIVAL_SECONDS):
                while len(token) < TOKEN_BYTES and (part := await self._loop.sock_recv(line, TOKEN_BYTES - len(token))):
                    token += part
        arrival = self._expected.pop(token, None)
        if arrival is None or arrival.done():
            line.close()
        else:
            arrival.set_result(line)


async def connected(address: str, environ: Mapping[str, str]) -> Cluster:
    """Connect this process to the cluster. Raises ExecutorError."""
    ray = await asyncio.wrap_future(on_a_thread(lambda: _ray(address), name="connect to Ray"))
    return Cluster(ray, environ)


def _ray(address: str) -> Any:
    """Return the module, connected. It takes seconds."""
    ray = import_module("ray")
    try:
        ray.init(address, namespace=NAMESPACE, configure_logging=False, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ExecutorError(
            f"The Ray cluster {address} (pools.ray.address) cannot be reached: {error}. "
            "Start it, and make this machine a node of it: ray start --address=HOST:PORT"
        ) from error
    return ray


def _entry(version: str, environ: dict[str, str]) -> Callable[..., Any]:
    """Return the function that Ray sends to its nodes by value, once, since our packages are not importable there at first."""

    def run(work: str, *arguments: Any) -> Any:
        import os  # noqa: PLC0415  (imported on the node)
        import sys  # noqa: PLC0415
        import tempfile  # noqa: PLC0415
        from importlib import import_module  # noqa: PLC0415
        from pathlib import Path  # noqa: PLC0415

        module = sys.modules.get("tasks.pools.ray_node")
        if module is None:
            try:
                ours = import_module("aipartnerupflow")
            except ImportError:
                return f"aipartnerupflow {version}, which its workers have, is not installed"
            if ours.__version__ != version:
                return f"aipartnerupflow is {ours.__version__} there, and {version} on the worker"
            folder = Path(tempfile.gettempdir(), f"aipartnerupflow-on-ray-{os.getuid()}")
            os.environ |= {**environ, "AIPARTNERUPFLOW_DATA_DIR": str(folder)}
            ours.bootstrap()
            module = import_module("tasks.pools.ray_node")
        return getattr(module, work)(*arguments)

    return run
