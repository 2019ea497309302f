"""The ASGI application: HTTP (Django), WebSockets (Channels), gRPC for A2A, and the lifespan of the worker."""

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

import django
from channels.routing import ProtocolTypeRouter

from tasks.own_process import hide_memory, keep_secrets

hide_memory()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "apflow_site.settings")
gc.disable()  # while modules are imported, nothing becomes garbage
django.setup(set_prefix=False)
keep_secrets()

from django.conf import settings  # noqa: E402
from django.core.exceptions import ImproperlyConfigured  # noqa: E402
from django.db import DatabaseError  # noqa: E402

from a2a.core.process import this_drain  # noqa: E402
from a2a.endpoints.consumers import websockets  # noqa: E402  (Django's apps must be loaded first)
from a2a.protocol.agent_card import signing_key  # noqa: E402
from a2a.protocol.message_handler import message_handler  # noqa: E402
from apflow_site.config import ConfigError  # noqa: E402
from apflow_site.db import pools  # noqa: E402
from apflow_site.db.advice import advice_for  # noqa: E402
from apflow_site.db.connections import name_sessions  # noqa: E402
from apflow_site.db.schema import SchemaMismatch  # noqa: E402
from apflow_site.edge.bodies import Receive, Scope, Send  # noqa: E402
from apflow_site.edge.handler import Http, load_views  # noqa: E402
from apflow_site.edge.hosts import is_own_host  # noqa: E402
from apflow_site.embedded_worker import EmbeddedWorker  # noqa: E402
from apflow_site.logs import flush_requests  # noqa: E402
from apflow_site.metrics import begin_at_zero  # noqa: E402
from apflow_site.origins import is_allowed_origin, is_own_origin  # noqa: E402
from apflow_site.prepare import PREPARED_VARIABLE, await_database, prepare  # noqa: E402
from apflow_site.uvicorn_limits import limit_connections  # noqa: E402
from tasks.events.hub import this_hub  # noqa: E402
from tasks.executors import executor_ids  # noqa: E402
from tasks.services.secrets.shared_secrets import SecretsDiffer, join  # noqa: E402
from tasks.telemetry import metrics  # noqa: E402

SWITCH_SECONDS = 0.0005
"""The seconds that the event loop may keep a database thread with a result waiting. Python's 5 ms cost a third of the reads."""
GRPC_STOP_SECONDS = 5.0
FOREIGN_HOST = 4400
FOREIGN_ORIGIN = 4403
SERVER_ERROR = 1011
NOT_STARTED = (
    "Not started: the web server does not send the ASGI lifespan events, which start the workers and apply the limits. "
    "Start it with `aipartnerupflow serve`, or `uvicorn aipartnerupflow.api.main:app` without `--lifespan off`."
)
logger = logging.getLogger(__name__)

App = Callable[[Scope, Receive, Send], Awaitable[None]]


def own_only(app: App) -> App:
    """Close WebSockets from foreign hosts (4400) and origins (4403).

    They are accepted first: browsers report the close code only of an open WebSocket.
    """

    async def check(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"host")
        origin = headers.get(b"origin")
        if not is_own_host(host):
            await _close(send, FOREIGN_HOST, f"Host {host!r} is not in server.allowed_hosts")
        elif origin and not is_own_origin(origin, host=host) and not is_allowed_origin(origin):
            await _close(send, FOREIGN_ORIGIN, f"Origin {origin!r} is not in server.allowed_origins")
        else:
            await app(scope, receive, send)

    return check


async def _close(send: Send, code: int, reason: str) -> None:
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": code, "reason": reason[:100]})


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse to serve with neither workers nor limits: answer 503, and say how to start the server."""
    _log_refusal()
    if scope["type"] == "websocket":
        await _close(send, SERVER_ERROR, NOT_STARTED)
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": f"{NOT_STARTED}\n".encode()})


@cache
def _log_refusal() -> None:
    logger.error("%s", NOT_STARTED, extra={"event": "server.not_started"})


def answer_requests() -> None:
    """Serve from now on, since the embedded worker and the limits are there."""
    application.application_mapping |= {"http": Http(), "websocket": own_only(websockets)}


class GrpcServer:
    """The gRPC server of a web process, if `a2a.grpc_port` is set. gRPC is an optional extra, so it is imported only if used."""

    def __init__(self) -> None:
        self._server: Any = None

    async def open(self) -> None:
        """Start the server, if a port is set.

        Raises ImproperlyConfigured if the port cannot be opened.
        """
        port = settings.APFLOW.a2a.grpc_port
        if port is None:
            return
        try:
            self._server = await import_module("a2a.protocol.bindings.grpc_server").start()
        except (OSError, RuntimeError) as error:
            raise ImproperlyConfigured(f"a2a.grpc_port: cannot serve on port {port}: {error}") from error

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop(GRPC_STOP_SECONDS)


def end_with_parent() -> None:
    """Kill this process as soon as the process that started it has ended. A first process has none.

    `serve --workers 2` and `--reload` start web processes. If the first process is killed, the others would serve forever
    and hold the port, and no further server could start.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=[parent], name="lifeline", daemon=True).start()


def _watch(parent: BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Start and stop the gRPC server and the embedded worker with the web process, and limit its connections.

    ASGI lifespan, version 2.0.
    """
    embedded = EmbeddedWorker()
    grpc_server = GrpcServer()
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                end_with_parent()
                limit_connections(receive)
                name_sessions("web")
                if PREPARED_VARIABLE not in os.environ:
                    await asyncio.to_thread(_prepare_alone)
                await grpc_server.open()
                await asyncio.to_thread(begin_at_zero)
                await asyncio.to_thread(load_views)
            except Exception as error:  # noqa: BLE001  uvicorn takes one for an app without lifespan, and serves it
                await send({"type": "lifespan.startup.failed", "message": _reason(error)})
                return
            embedded.start()
            _act_on_signals(embedded)
            answer_requests()
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await grpc_server.close()
            await embedded.stop_gracefully()
            flush_requests()  # a signal that uvicorn raises again may end the process without Python's own end
            await send({"type": "lifespan.shutdown.complete"})
            return


def _prepare_alone() -> None:
    """Do what `aipartnerupflow serve` does before its web processes start. Raises ImproperlyConfigured and SecretsDiffer."""
    await_database()
    prepare()
    executor_ids()
    message_handler()
    if settings.APFLOW.a2a.signing_key is not None:
        signing_key(settings.APFLOW.a2a.signing_key)
    join()


def _reason(error: Exception) -> str:
    """Return why the server does not start, without secrets; of an error in a program, where it happened."""
    if isinstance(error, DatabaseError):
        return " ".join(advice_for(error))
    known = (ConfigError, ImproperlyConfigured, SchemaMismatch, SecretsDiffer)
    return str(error) if isinstance(error, known) else "".join(traceback.format_exception(error))


def _act_on_signals(embedded: EmbeddedWorker) -> None:
    """End streams and, on SIGINT, drain the worker as soon as a signal arrives.

    The web server sends the lifespan event only after its connections have closed, and a stream
    closes by itself only when its run ends.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _also(this_hub().close, loop, signal.getsignal(number)))
    signal.signal(signal.SIGINT, _also(embedded.interrupt, loop, signal.getsignal(signal.SIGINT)))
    if settings.APFLOW.server.drain_seconds:
        signal.signal(signal.SIGTERM, _after_drain(loop, signal.getsignal(signal.SIGTERM)))


def _after_drain(loop: asyncio.AbstractEventLoop, handler: Any) -> Callable[..., None]:
    """Return a handler of SIGTERM that drains this process for `server.drain_seconds` before it calls `handler`.

    A service manager may send the signal to all processes, and their parent sends it again, so a
    second one does not shorten the drain. SIGINT does.
    """
    drain = this_drain()

    def finish() -> None:
        drain.is_over = True
        signal.raise_signal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        if drain.is_over:
            handler(number, frame)
        elif not drain.is_on:
            drain.is_on = True
            loop.call_soon_threadsafe(loop.call_later, settings.APFLOW.server.drain_seconds, finish)

    return handle


def _also(action: Callable[[], None], loop: asyncio.AbstractEventLoop, handler: Any) -> Callable[..., None]:
    """Return a signal handler that schedules the action on the loop, then calls the previous handler.

    The action does not run in the handler itself: the interrupted code may hold locks.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(action)
        if callable(handler):
            handler(number, frame)

    return handle


application = ProtocolTypeRouter({"http": refuse, "websocket": refuse, "lifespan": lifespan})
# What is imported lives as long as the process: looking for garbage in it would take a tenth of the
# start and a third of a second at the end.
gc.freeze()
gc.enable()
sys.setswitchinterval(SWITCH_SECONDS)
pools.watch(metrics.database_call)
