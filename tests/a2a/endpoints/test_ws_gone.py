"""A WebSocket whose client has gone while a reply was on its way."""

import asyncio
import logging
from typing import Any

import pytest
from django.conf import LazySettings

from a2a.endpoints.consumers import Socket
from tests.a2a.protocol.test_agent_card import configure


class Gone(OSError):
    """What the web server raises."""


@pytest.mark.django_db(transaction=True)
async def test_a_client_that_has_gone_is_no_internal_error(
    settings: LazySettings, caplog: pytest.LogCaptureFixture
) -> None:
    configure(settings, auth={"enabled": True, "jwt_secret": "correct-horse-battery-staple-0123456789"})
    messages = iter(
        [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": '{"action": "auth", "token": "x"}'}]
    )

    async def receive() -> Any:
        return next(messages, None) or await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] != "websocket.accept":
            raise Gone

    scope = {"type": "websocket", "path": "/ws", "headers": [], "subprotocols": [], "client": ("127.0.0.1", 1)}
    app: Any = Socket
    with pytest.raises(Gone):
        await app.as_asgi()(scope | {"query_string": b""}, receive, send)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
