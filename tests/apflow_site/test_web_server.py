"""How a web process stops: at once, also where the kernel does not let it do all that it can do elsewhere."""

import logging
import os
import signal
import socket
import threading
from email.utils import parsedate_to_datetime

import pytest
import uvicorn

from apflow_site.web_server import WebServer, refuse_connections

SO_LOCK_FILTER = 44


def test_a_kernel_that_allows_no_filter_does_not_stop_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, SO_LOCK_FILTER, 1)  # no filter from now on, as for users of some kernels
        with caplog.at_level(logging.INFO, logger="apflow_site.web_server"):
            refuse_connections(listener)
        assert "may be reset" in caplog.text
        with socket.create_connection(listener.getsockname()), listener.accept()[0]:
            pass


def test_a_response_has_the_date_of_now_and_no_timer_renews_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = uvicorn.Config(
        "tests.apflow_site.test_web_server:SO_LOCK_FILTER", server_header=False, headers=[("x-name", "value")]
    )
    config.load()
    state = WebServer(config).server_state
    dates = []
    for now in (0.0, 0.9, 2.0, 1e9, 5.0):  # clocks may be set back
        monkeypatch.setattr("time.time", lambda now=now: now)
        (_, date), *others = state.default_headers
        assert others == [(b"x-name", b"value")]
        dates.append(parsedate_to_datetime(date.decode()).timestamp())
    assert dates == [0, 0, 2, 1e9, 5]


async def test_a_signal_ends_the_wait() -> None:
    """Without it, the wait has no end."""
    config = uvicorn.Config("tests.apflow_site.test_web_server:SO_LOCK_FILTER", log_config=None, loop="asyncio")
    config.load()
    server = WebServer(config)
    before = signal.signal(signal.SIGTERM, server.handle_exit)
    try:
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM]).start()
        await server.main_loop()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert server.should_exit
