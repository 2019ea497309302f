"""How a web process stops, where the kernel does not let it do all that it can do elsewhere."""

import logging
import socket

import pytest

from apflow_site.web_server import refuse_connections

SO_LOCK_FILTER = 44


def test_a_kernel_that_allows_no_filter_does_not_stop_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, SO_LOCK_FILTER, 1)  # no filter from now on, as for users of some kernels
        with caplog.at_level(logging.INFO, logger="apflow_site.web_server"):
            refuse_connections(listener)
        assert "may be reset" in caplog.text
        with socket.create_connection(listener.getsockname()), listener.accept()[0]:
            pass
