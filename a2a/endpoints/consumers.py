"""The WebSocket at `/ws`: live events of the caller's tasks, and JSON-RPC."""

import asyncio
import logging
import re
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs

import orjson
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from django.conf import settings
from django.db import Error
from django.urls import re_path
from django.utils.datastructures import CaseInsensitiveMapping

from a2a.core import jsonrpc
from a2a.core.errors import failure_of
from a2a.core.http import BOOLEANS, TOKENS, Headers, decoded_message
from a2a.core.jsonrpc import Request
from a2a.core.metrics import stream_client
from a2a.core.parsing import EventId
from a2a.live import stream_limits
from a2a.live.sse import open_stream
from a2a.live.stream_limits import Allowance, TooMany
from a2a.methods import messages
from a2a.methods.dispatch import NATIVE, Outcome, carry_out, replies_to
from a2a.methods.messages import Auth, Ping, Subscribe, Unsubscribe
from accounts.auth import AuthenticationFailed, caller_now, token_in
from accounts.callers import LOCAL, Caller
from apflow_site.db import pools
from tasks.events import FEW, Event, following
from tasks.events.pruning import is_pruned
from tasks.events.subscription import Subscription
from tasks.models import Run
from tasks.rules.exceptions import LimitReached, TaskNotFound
from tasks.rules.strict_json import Json, MalformedJson
from tasks.rules.words import as_sent
from tasks.services.trees import queries
from tasks.services.trees.queries import StatusReport
from tasks.storage.loads import limited_loads

SUBPROTOCOL: Final = "bearer"
FIRST_WORD_SECONDS: Final = 0.05
"""The seconds that events wait for a first message, which may narrow them, of a client without a query."""
NAMES: Final = frozenset({"task_id", "run_id"})
FILTERS: Final = (*NAMES, "after", TOKENS)
"""The parameters of the URL, as in the action `subscribe`."""
BEFORE_LOGIN_BYTES: Final = 16 * 1024
"""The size of a message of a client that has not logged in: it may only be `auth`."""
LARGE_MESSAGES: Final = "apflow.large_messages"
"""The extension of the ASGI scope by which uvicorn is asked to accept messages of `limits.body_bytes`."""
AUTH_SECONDS = 5.0
"""Time limit for the message `auth` of a client that sent no token with the handshake."""
OPEN_SECONDS: Final = 5.0
"""Time limit for the subscription to events. It expires only if the database is not available."""
MAX_CALLS: Final = 32
"""The maximum number of concurrent JSON-RPC calls of one client."""
TOO_BIG: Final = 1009
BROKEN: Final = 1011
RESTART: Final = 1012
TRY_LATER: Final = 1013
UNAUTHENTICATED: Final = 4401
NOT_FOUND: Final = 4404
AUTH_TIMEOUT: Final = 4408
TOO_MANY: Final = 4429
log = logging.getLogger(__name__)


class SubscriptionFilter:
    """The subscriptions of a client: the events of all trees, until it subscribes to single ones."""

    def __init__(self) -> None:
        self._is_everything = True
        self._named: set[str] = set()
        self._unwanted: set[str] = set()

    @property
    def is_narrowed(self) -> bool:
        """Whether the client has subscribed to single trees."""
        return not self._is_everything

    def wants(self, event: Event) -> bool:
        root_id = event["root_task_id"]
        return root_id in self._named or (self._is_everything and root_id not in self._unwanted)

    def add(self, root_id: str) -> None:
        self._is_everything = False
        self._named.add(root_id)

    def keep(self, root_id: str) -> None:
        """Add this tree without changing the rest of the filter."""
        self._unwanted.discard(root_id)
        self._named.add(root_id)

    def drop(self, root_id: str) -> None:
        self._named.discard(root_id)
        self._unwanted.add(root_id)

    def set_all(self, is_everything: bool) -> None:
        self._is_everything = is_everything
        self._named.clear()
        self._unwanted.clear()


class Socket(AsyncWebsocketConsumer):
    """One WebSocket connection. The asyncio tasks that it starts end with it."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self._caller: Caller | None = None
        self._token = ""
        self._handshake = CaseInsensitiveMapping(
            {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        )
        # These two headers apply to one request, but a connection has many.
        self._headers = replace(Headers.of(self._handshake), last_event_id=None, idempotency_key=None)
        self._allowance = Allowance(settings.APFLOW.limits.messages_per_second)
        self._interest = SubscriptionFilter()
        self._inbox: Subscription | None = None
        self._streamed: set[str] = set()
        self._has_tokens = False
        self._has_spoken = False
        # Set once it is known which events the client wants: see `_begin`.
        self._may_send = asyncio.Event()
        self._calls = 0
        self._is_closed = False
        # Held while messages are sent that must not be interleaved: a page of events, or a reply
        # that must precede the events of its run.
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        with ExitStack() as self._unknown, ExitStack() as self._counted:
            try:
                await super().__call__(scope, receive, send)
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    async def dispatch(self, message: Json) -> None:
        """Dispatch a message without closing old database connections, as Channels does.

        `apflow_site.db.pools` manages our connections.
        """
        match message["type"]:
            case "websocket.connect":
                await self.connect()
            case "websocket.receive":
                await self._receive((message.get("text") or "").encode() or message.get("bytes") or b"")
            case "websocket.disconnect":
                raise StopConsumer

    # --- authentication ---

    async def connect(self) -> None:
        """Accept the connection, and authenticate it if the handshake has a token.

        Without a token, the client has AUTH_SECONDS to send the message `auth`.
        """
        subprotocols = self.scope["subprotocols"]
        try:
            self._token = token_in(self._handshake)
        except AuthenticationFailed:  # browsers can send it only as a subprotocol
            is_sent = len(subprotocols) == 2 and subprotocols[0] == SUBPROTOCOL
            self._token = subprotocols[1] if is_sent else ""
        code = None
        if self._token or not settings.APFLOW.auth.is_on:
            code = await self._enter()
        else:  # it will log in by a message
            client = self.scope.get("client") or ("",)
            try:
                self._unknown.enter_context(stream_limits.open_streams().one_of_unknown(client[0]))
            except TooMany:
                code = TRY_LATER
        await self.accept(SUBPROTOCOL if SUBPROTOCOL in subprotocols else None)

        async def close_unless_authenticated() -> None:
            await asyncio.sleep(AUTH_SECONDS)
            if self._caller is None:
                await self.close(AUTH_TIMEOUT)

        if code is not None:
            await self.close(code)
        elif self._caller is None:
            self._spawn(close_unless_authenticated())
        else:
            await self._begin()

    async def _enter(self) -> int | None:
        """Authenticate the caller and subscribe to events. Returns a close code if that is refused."""
        try:
            caller = await self._who_is_it()
            # Check and count without an await in between: many clients may connect at once.
            self._counted.enter_context(stream_limits.open_streams().one_of(caller))
        except AuthenticationFailed:
            return UNAUTHENTICATED
        except TooMany:
            return TRY_LATER
        except LimitReached:
            return TOO_MANY
        ready = asyncio.Event()
        self._spawn(self._follow(caller, ready))
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await ready.wait()
        except TimeoutError:
            return TRY_LATER
        self._caller = caller
        self._unknown.close()
        if allow_large_messages := self.scope.get("extensions", {}).get(LARGE_MESSAGES):
            allow_large_messages()

        async def close_when_revoked() -> None:
            await stream_limits.until_revoked(caller, self._who_is_it)
            await self.close(UNAUTHENTICATED)

        self._spawn(close_when_revoked())
        return None

    async def _begin(self) -> None:
        """Send events: those of the tree that the URL names, or all that no first message narrows.

        Events of other trees are never sent before that, so a client that resumes gets none twice.
        """
        if asked := _filter_in(self.scope["query_string"]):
            await self._act(asked)
            if self._interest.is_narrowed or (asked.keys() <= {"action", TOKENS} and asked[TOKENS] in (True, False)):
                self._may_send.set()
            else:
                await self.close(NOT_FOUND)
        else:

            async def begin_unless_narrowed() -> None:
                await asyncio.sleep(FIRST_WORD_SECONDS)
                if not self._has_spoken:
                    self._may_send.set()

            self._spawn(begin_unless_narrowed())

    async def _is_still_in(self) -> bool:
        """Re-authenticate. Closes the connection if the caller or its permissions have changed.

        Raises django.db.Error if the database is not available.
        """
        with suppress(AuthenticationFailed):
            if await self._who_is_it() == self._caller:
                return True
        await self.close(UNAUTHENTICATED)
        return False

    async def _who_is_it(self) -> Caller:
        if not settings.APFLOW.auth.is_on:
            return LOCAL
        return await caller_now(self._token)

    async def close(self, code: int | bool | None = None, reason: str | None = None) -> None:
        """Close the connection, once: several asyncio tasks may find a reason at the same time."""
        if not self._is_closed:
            self._is_closed = True
            await super().close(code, reason)

    # --- server to client ---

    async def _follow(self, caller: Caller, ready: asyncio.Event) -> None:
        """Send all events that match the client's filter."""
        with stream_client("websocket"):
            async with following(caller) as inbox:
                self._inbox = inbox
                inbox.wants = self._interest.wants
                ready.set()
                await self._may_send.wait()
                while events := await inbox.next():
                    are_many = len(events) > FEW
                    texts = await pools.read(self._texts_of, events) if are_many else self._texts_of(events)
                    async with self._turn:
                        for event, text in zip(events, texts, strict=True):
                            # The filter may have changed since the event was buffered.
                            if self._interest.wants(event) and inbox.is_due(event):
                                await self._send_event(event, text)
                            if are_many:  # a connection that is fast enough never waits for its client
                                await asyncio.sleep(0)
        await self.close(RESTART)

    def _texts_of(self, events: Sequence[Event]) -> list[str]:
        return [messages.of_event(as_sent(event, has_tokens=self._has_tokens)) for event in events]

    async def _send_event(self, event: Event, text: str) -> None:
        await self.send(text)
        if event["type"] == "final" and event["run_id"] in self._streamed:
            self._streamed.discard(event["run_id"])
            await self.send(messages.of_event(event | {"type": "stream_end", "seq": event["seq"] + 1}))

    # --- client to server ---

    async def _receive(self, body: bytes) -> None:
        limits = settings.APFLOW.limits
        if len(body) > (limits.body_bytes if self._caller is not None else BEFORE_LOGIN_BYTES):
            await self.close(TOO_BIG)
            return
        if not self._allowance.take():
            await self.close(TOO_MANY)
            return
        try:
            message = await decoded_message(body, self._caller)
        except MalformedJson as error:
            await self._send_json(failure_of(error).to_json())
            return
        is_first_word = self._caller is not None and not self._has_spoken
        is_action = isinstance(message, dict) and "action" in message
        if self._caller is None and not (is_action and message["action"] == "auth"):
            await self.close(UNAUTHENTICATED)
            return
        self._has_spoken = self._caller is not None
        if is_action:
            await self._act(message)
        else:
            parsed = jsonrpc.parse(message, batch_limit=settings.APFLOW.limits.batch)
            self._spawn(self._answer(parsed))
        if is_first_word:
            self._may_send.set()

    async def _act(self, message: Json) -> None:
        try:
            match messages.action_of(message):
                case Ping():
                    await self.send(messages.plain("pong"))
                case Auth() if self._caller is not None:
                    await self.send(messages.plain("authenticated"))
                case Auth() as given:
                    self._token = given.token
                    if code := await self._enter():
                        await self.close(code)
                    else:
                        await self.send(messages.plain("authenticated"))
                        await self._begin()
                case Subscribe() as given if await self._is_still_in():
                    await self._subscribe(given)
                case Unsubscribe() as given if await self._is_still_in():
                    await self._unsubscribe(given)
        except OSError:  # the client has gone
            raise
        except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
            await self.send(messages.of_error(error, message))

    async def _subscribe(self, given: Subscribe) -> None:
        """Subscribe to the tree of a task or run, or to all trees.

        Sends the events after `after` of the run, or of the task's latest run; default: those that
        this client has not received. The later runs of a run's tree follow. Raises TaskNotFound, or
        EventsPruned if events after `after` have been deleted.
        """
        assert self._inbox is not None  # noqa: S101
        assert self._caller is not None  # noqa: S101
        run: Run | None
        self._has_tokens = self._has_tokens if given.tokens is None else given.tokens
        if given.run_id is not None:
            named = await pools.read(queries.run_of, caller=self._caller, run_id=given.run_id)
            standing, run = replace(await self._standing(named.root_id), run=named), named
        elif given.task_id is not None:
            standing = await self._standing(given.task_id)
            run = standing.run
        else:
            self._interest.set_all(True)
            await self.send(messages.plain("subscribed"))
            return
        after, pruned = await self._place_in(run, given.after)
        async with self._turn:
            self._interest.add(_root_of(standing))
            later: list[Run] = []
            if given.run_id is not None and run is not None:
                later = await pools.read(queries.later_runs, caller=self._caller, run=run)
            await self.send(messages.of_standing("subscribed", standing, pruned=pruned))
            for each in reversed(later):  # the last one is read first
                self._inbox.rewind(each.id)
            if run is not None and not pruned:
                self._inbox.rewind(run.id, after=after)

    async def _place_in(self, run: Run | None, after: int | None) -> tuple[int | None, bool]:
        """Return the number after which the events of a run are sent, and whether the next ones are deleted.

        Raises EventsPruned if they are, and the client named the number.
        """
        assert self._inbox is not None  # noqa: S101
        if run is None:
            return None, False
        if after is not None:
            return (await open_stream(run, after=EventId(seq=after, run_id=run.id))).after, False
        return None, await pools.read(is_pruned, run, after=self._inbox.reached(run.id))

    async def _unsubscribe(self, given: Unsubscribe) -> None:
        if given.task_id is None:
            self._interest.set_all(False)
            await self.send(messages.plain("unsubscribed"))
            return
        standing = await self._standing(given.task_id)
        self._interest.drop(_root_of(standing))
        await self.send(messages.of_standing("unsubscribed", standing))

    async def _standing(self, task_id: str) -> StatusReport:
        """Raise TaskNotFound."""
        assert self._caller is not None  # noqa: S101
        (standing,) = await pools.read(queries.running_status, caller=self._caller, task_ids=[task_id])
        if standing.task is None:
            raise TaskNotFound(task_id)
        return standing

    # --- JSON-RPC ---

    async def _answer(self, request: Request | list[Request]) -> None:
        with limited_loads():
            if isinstance(request, list):
                if body := await replies_to(request, partial(self._carry_out, is_single=False)):
                    await self.send(body.decode())
            elif isinstance(request, jsonrpc.Call) and _param(request, "use_streaming") is True:
                async with self._turn:  # the reply must precede the events of the run
                    await self._reply_to(request)
            else:
                await self._reply_to(request)

    async def _reply_to(self, request: Request) -> None:
        """Send the reply to a request, and then the events of the run that it streams."""
        outcome = await self._carry_out(request, is_single=True)
        if outcome.answer is not None:
            await self._send_json(outcome.answer.to_json())
        if outcome.stream is not None and isinstance(request, jsonrpc.Call):
            assert self._inbox is not None  # noqa: S101
            run, after = outcome.stream.run, outcome.stream.after
            if run.finished_at is not None:  # its last event is sent again even if the client has it, for `stream_end`
                after = min(after, run.last_seq - 1)
            self._interest.keep(run.root_id)
            self._streamed.add(run.id)
            self._inbox.rewind(run.id, after=None if _param(request, "last_event_id") is None else after)

    async def _carry_out(self, request: Request, *, is_single: bool) -> Outcome:
        assert self._caller is not None  # noqa: S101
        if self._calls >= MAX_CALLS:
            error = LimitReached(
                f"This connection has {MAX_CALLS} concurrent requests, the maximum. Wait for a reply before the next one."
            )
            return Outcome(answer=failure_of(error, call_id=request.id))
        self._calls += 1
        try:
            if not await self._is_still_in():
                return Outcome(answer=None)
            headers = replace(self._headers, is_single=is_single)
            return await carry_out(request, caller=self._caller, dialect=NATIVE, headers=headers)
        except Error as error:
            return Outcome(answer=failure_of(error, call_id=request.id))
        finally:
            self._calls -= 1

    async def _send_json(self, value: Any) -> None:
        await self.send(orjson.dumps(value).decode())

    # --- tasks of this connection ---

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        async def guard() -> None:
            try:
                await work
            except OSError:
                pass  # the client has gone
            except Exception:  # the protocol edge: a bug ends the connection; details go to the log only
                log.exception("A WebSocket broke", extra={"event": "socket.error"})
                await self.close(BROKEN)

        task = asyncio.create_task(guard())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Nowhere(AsyncWebsocketConsumer):
    """Accepts and closes (4404) WebSockets at unknown URLs."""

    async def connect(self) -> None:
        await self.accept()
        await self.close(NOT_FOUND)


def _filter_in(query_string: bytes) -> Json | None:
    """Return the subscription that the URL names, as an action; None if it names none."""
    query = parse_qs(query_string.decode("latin-1"), keep_blank_values=True)
    if not (NAMES | {TOKENS}) & query.keys():
        return None
    asked: Json = {"action": "subscribe"} | {name: query[name][-1] for name in FILTERS if name in query}
    if re.fullmatch("[0-9]{1,18}", asked.get("after", "")):
        asked["after"] = int(asked["after"])
    if TOKENS in asked:
        asked[TOKENS] = BOOLEANS.get(asked[TOKENS], asked[TOKENS])
    return asked


def _root_of(standing: StatusReport) -> str:
    assert standing.task is not None  # noqa: S101
    return standing.task.root_id


def _param(call: jsonrpc.Call, name: str) -> Any:
    return call.params.get(name) if isinstance(call.params, dict) else None


websockets = URLRouter([re_path(r"^ws/?\Z", Socket.as_asgi()), re_path("", Nowhere.as_asgi())])
