"""docs/how-to/webhooks.md: its receiver takes what the server sends, and refuses what it did not."""

import subprocess
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.curl import curl
from tests.documents import text
from tests.ports import free_port
from tests.servers import PYTHON, Server, until

PAGE = "docs/how-to/webhooks.md"
PROGRAM = text(PAGE, "Verify the signature", "python")
REQUEST = text(PAGE, "Webhooks", "bash")


@pytest.fixture(scope="module")
def server(private_webhooks_server: Server) -> Server:
    return private_webhooks_server


@pytest.fixture
def receiver() -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The program of the page, and its address."""
    port = free_port()
    program = PROGRAM.replace("9000", str(port))
    with subprocess.Popen(
        [PYTHON, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        url = f"http://127.0.0.1:{port}/hook"
        until(lambda: _status(url) == 403, seconds=60, what="the receiver")
        yield url, process
        process.terminate()


def _status(url: str, *, timestamp: int | None = None, signature: str = "sha256=0") -> int | None:
    headers = {"X-Apflow-Timestamp": str(timestamp or int(time.time())), "X-Apflow-Signature": signature}
    try:
        return httpx.post(url, content=b"{}", headers=headers, timeout=60).status_code
    except httpx.TransportError:
        return None


def test_the_receiver_of_the_page_believes_the_server(
    server: Server, receiver: tuple[str, "subprocess.Popen[str]"]
) -> None:
    url, process = receiver
    curl(REQUEST.replace("https://example.com/hook", url), base_url=server.url)
    assert process.stdout is not None
    assert [process.stdout.readline().strip() for _ in range(3)] == ["task_start", "task_completed", "final"]
