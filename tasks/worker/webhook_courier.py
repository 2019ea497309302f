"""The courier: delivers webhooks in a worker process, on its own thread and event loop.

It sleeps while no webhook is open. The worker wakes it when a poll for work has seen an open one;
from then on notifications do, until all webhooks are closed.
"""

import asyncio
import logging
import threading
from contextlib import suppress
from functools import partial
from typing import Final

from django.db import DatabaseError

from apflow_site.db import pools
from llmkeys.cipher import CannotUnseal
from tasks import events
from tasks.models import Webhook
from tasks.queue import leases, notify
from tasks.queue.notify import Listener
from tasks.rules.strict_json import Json
from tasks.services.messages.webhook_requests import WebhookResponse, request_of, send, unreadable
from tasks.worker import webhook_deliveries

logger = logging.getLogger(__name__)

PAGE: Final = 100
"""The number of events of one webhook that are delivered before another webhook has its turn."""
LOOK_SECONDS: Final = 5.0
"""The seconds after which the courier reads the rows without a notification, in case one was lost."""
REST_SECONDS: Final = 0.01
"""The pause after each poll: notifications that arrive meanwhile share the next poll."""


class Courier:
    """Delivers the webhooks that this process has claimed."""

    def __init__(self) -> None:
        self._owner = leases.process_name()
        self._loop = asyncio.new_event_loop()
        self._wake_up = asyncio.Event()
        self._served: dict[Webhook, asyncio.Task[None]] = {}
        self._is_draining = False
        self._listener = Listener(notify.EVENTS, self.wake)
        threading.Thread(target=self._run, name="courier", daemon=True).start()

    def wake(self) -> None:
        """Check for deliveries. Callable from any thread; returns at once."""
        self._loop.call_soon_threadsafe(self._wake_up.set)

    def drain(self) -> None:
        """Begin no new delivery, and release each webhook after its current attempt.

        Callable from any thread.
        """
        self._is_draining = True
        self.wake()

    def _run(self) -> None:
        self._loop.run_until_complete(self._work())

    async def _work(self) -> None:
        while not self._is_draining:
            await self._wake_up.wait()
            with (
                suppress(DatabaseError),
                self._listener.attentive(),
            ):  # the database is unavailable: the next wake-up tries again
                await self._work_until_idle()
            await asyncio.sleep(REST_SECONDS)
        if self._served:
            await asyncio.wait(self._served.values())

    async def _work_until_idle(self) -> None:
        while not self._is_draining:
            self._wake_up.clear()  # before reading, so that a notification during the read is not missed
            seconds = await pools.read(webhook_deliveries.seconds_until_due, served=list(self._served))
            if seconds is None and not self._served:
                return
            room = webhook_deliveries.MAX_AT_ONCE - len(self._served)
            if seconds == 0 and room:
                await self._claim(room)
            else:
                await self._woken_within(min(seconds or LOOK_SECONDS, LOOK_SECONDS))
            await asyncio.sleep(REST_SECONDS)

    async def _claim(self, room: int) -> None:
        served = list(self._served)
        for webhook in await pools.write(webhook_deliveries.claim, owner=self._owner, limit=room, served=served):
            self._start(webhook)

    async def _woken_within(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake_up.wait()

    def _start(self, webhook: Webhook) -> None:
        serving = self._served[webhook] = asyncio.create_task(self._serve(webhook))
        serving.add_done_callback(partial(self._ended, webhook))

    def _ended(self, webhook: Webhook, serving: asyncio.Task[None]) -> None:
        del self._served[webhook]
        self._wake_up.set()
        if not serving.cancelled() and (error := serving.exception()):
            # The database is unavailable, or there is a bug: the claim expires, and the event is
            # sent again.
            logger.error(
                "Delivery to webhook %s failed unexpectedly",
                webhook.id,
                exc_info=error,
                extra={"event": "webhook.broken"},
            )

    async def _serve(self, webhook: Webhook) -> None:
        """Deliver the webhook's events, one after the other."""
        log = await pools.read(events.read, run_id=webhook.run_id, after=webhook.next_seq - 1, limit=PAGE)
        if not log:  # its events have been deleted
            await pools.write(webhook_deliveries.close, webhook, owner=self._owner)
        for event in log:
            if self._is_draining:
                break
            answer = await self._deliver(webhook, event)
            if not await pools.write(webhook_deliveries.record, webhook, event, answer, owner=self._owner):
                return
        await pools.write(webhook_deliveries.release, webhook, owner=self._owner)

    async def _deliver(self, webhook: Webhook, event: Json) -> WebhookResponse | None:
        """Deliver one event. None: the event is not for this webhook."""
        try:
            request = await pools.read(request_of, webhook, event)
        except CannotUnseal as error:
            return unreadable(error)
        return None if request is None else await send(webhook, request)
