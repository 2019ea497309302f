"""The pool `ray`: an existing Ray cluster, for those who need more processors than a machine has, or GPUs.

A plain function is a remote function of Ray. Any other executor runs in a process of Ray that connects to
its worker, and talks to it as the processes of the pool `process` do: keys of users stay in the worker.
"""

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from django.conf import settings

from aipartnerupflow import __version__
from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, on_a_thread
from tasks.executors.python import Python, is_plain
from tasks.pools import frames
from tasks.pools.base import Pool
from tasks.pools.fair_semaphore import FairSemaphore, Shares
from tasks.pools.line import Line, ProcessDied, job_of, outcome
from tasks.rules.pools import RAY, Resources, resources_of
from tasks.telemetry import metrics

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


class RayPool(Pool):
    """Create it on the loop of the worker. It connects when a task first needs it."""

    def __init__(self) -> None:
        self._config = settings.APFLOW.pools.ray
        self._places = FairSemaphore(self._config.size, share=Shares(self._config.size).of)
        self._connecting: asyncio.Task[Cluster] | None = None
        if self._config.address is not None:
            metrics.pool(RAY, self._config.size)

    @asynccontextmanager
    async def place(self, *, user_id: str, priority: int, resources: Resources) -> AsyncIterator[None]:
        async with self._places.turn(user_id, priority):
            with metrics.one_in_pool(RAY):
                yield

    async def execute(self, executor: Executor, inputs: Json, context: Context) -> Any:
        if self._config.address is None:  # the configuration has changed since the tree was stored
            raise ExecutorError("There is no Ray cluster here (pools.ray.address).", permanent=True)
        if self._connecting is None or (self._connecting.done() and self._connecting.exception()):
            self._connecting = asyncio.create_task(connected(self._config.address, settings.APFLOW_RAY_ENVIRONMENT))
        cluster = await asyncio.shield(self._connecting)
        job = job_of(executor, inputs, context, memory_bytes=0)
        try:
            if isinstance(executor, Python) and is_plain(inputs):
                await context.begin()
                return await _call(cluster, job, resources_of(context.params))
            return await _serve(cluster, job, context)
        except cluster.ray.exceptions.RayError as error:
            first, *_ = str(error).strip().splitlines() or [""]
            raise ExecutorError(f"Ray could not run the task to its end: {type(error).__name__}: {first}") from error

    async def close(self) -> None:
        if self._connecting is not None:
            await (await self._connecting).close()


async def _call(cluster: Cluster, job: frames.Job, resources: Resources) -> Any:
    reference = cluster.call(frames.ENCODER.encode(job), resources)
    end = _future(reference)
    try:
        answer = _answered(await asyncio.shield(end))
    except asyncio.CancelledError:
        cluster.cancel(reference)
        raise
    ended = frames.TO_WORKER.decode(answer)
    assert isinstance(ended, frames.Ended)  # noqa: S101  (a node says nothing else)
    return outcome(ended)


async def _serve(cluster: Cluster, job: frames.Job, context: Context) -> Any:
    errand = cluster.serve(resources_of(context.params))
    end = _future(errand.end)
    line: Line | None = None
    try:
        await asyncio.wait([end, errand.arrival], return_when=asyncio.FIRST_COMPLETED)
        if not errand.arrival.done():
            _answered(end.result())
            raise ExecutorError("The Ray node ended the task before it began.")
        line = Line(errand.arrival.result(), path=None, kill=lambda: cluster.cancel(errand.end))
        end.add_done_callback(line.lost_process)
        return await line.work(job, context)
    except ProcessDied:
        end.result()
        raise ExecutorError("The Ray node lost its connection to the worker.") from None
    finally:
        errand.arrival.cancel()
        if line is not None:
            line.close()
        else:
            cluster.cancel(errand.end)


def _future(reference: Any) -> "asyncio.Future[Any]":
    """Return a future for what the node returns or raises, which need not be awaited."""
    end = asyncio.wrap_future(reference.future())
    end.add_done_callback(lambda done: done.cancelled() or done.exception())
    return end


def _answered(answer: Any) -> Any:
    """Return the answer of a node. Raises ExecutorError if it is the reason why the node cannot work for us."""
    if isinstance(answer, str):
        raise ExecutorError(f"A Ray node cannot run the task: {answer}.", permanent=True)
    return answer
