"""The ASGI application: HTTP by Django, WebSockets by Channels, and a lifespan that keeps a worker cluster beside the web process."""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import django
from channels.routing import ProtocolTypeRouter

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "apflow_site.settings")
django.setup(set_prefix=False)

from a2a.endpoints.routing import websockets  # noqa: E402  (Django's apps must be loaded first)
from apflow_site.edge import Http, Receive, Scope, Send, is_own_host, is_own_origin  # noqa: E402
from apflow_site.embedded_worker import EmbeddedWorker  # noqa: E402
from apflow_site.grpc import GrpcDoor  # noqa: E402
from apflow_site.prepare import prepare  # noqa: E402
from tasks.events.hub import this_hub  # noqa: E402

#: Set by `aipartnerupflow serve`, which has prepared the database before its web processes start.
PREPARED_VARIABLE = "APFLOW_INTERNAL_PREPARED"
FOREIGN_HOST = 4400
FOREIGN_ORIGIN = 4403

App = Callable[[Scope, Receive, Send], Awaitable[None]]


def own_only(app: App) -> App:
    """WebSockets of foreign hosts and origins are closed. A browser sees the code only of one that was opened first."""

    async def check(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if not is_own_host(host):
            await _close(send, FOREIGN_HOST, f"Host {host!r} is not allowed")
        elif origin and not is_own_origin(origin, host=host):
            await _close(send, FOREIGN_ORIGIN, f"Origin {origin!r} is not this server")
        else:
            await app(scope, receive, send)

    return check


async def _close(send: Send, code: int, reason: str) -> None:
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": code, "reason": reason[:100]})


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Start the embedded worker with the server and drain it at the end (ASGI lifespan, version 2)."""
    embedded = EmbeddedWorker()
    grpc_door = GrpcDoor()
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            if PREPARED_VARIABLE not in os.environ:
                await asyncio.to_thread(prepare)
            await grpc_door.open()
            embedded.start()
            _act_on_signals(embedded)
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await grpc_door.close()
            await embedded.stop_gracefully()
            await send({"type": "lifespan.shutdown.complete"})
            return


def _act_on_signals(embedded: EmbeddedWorker) -> None:
    """Before the server does: it waits for its connections until it ends the lifespan, where nobody can interrupt it any more;
    and a stream ends by itself only with its run."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _also(this_hub().close, loop, signal.getsignal(number)))
    signal.signal(signal.SIGINT, _also(embedded.interrupt, loop, signal.getsignal(signal.SIGINT)))


def _also(action: Callable[[], None], loop: asyncio.AbstractEventLoop, handler: Any) -> Callable[..., None]:
    """A signal handler that does what was done before, and the action on the loop: a handler may find locks taken."""

    def handle(number: int, frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(action)
        if callable(handler):
            handler(number, frame)

    return handle


application = ProtocolTypeRouter({"http": Http(), "websocket": own_only(websockets), "lifespan": lifespan})
