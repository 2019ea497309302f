"""A page of another origin in a real browser, as the predecessor's web application is: calls, streams and WebSockets."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Error, Page

from tests.servers import Server

PROGRAM = """
async (server) => {
  const headers = {'Content-Type': 'application/json', 'Idempotency-Key': crypto.randomUUID(), 'X-LLM-API-KEY': 'openai:sk-0123456789'};
  const call = async (method, params) => {
    const body = JSON.stringify({jsonrpc: '2.0', id: 1, method, params});
    const response = await fetch(`${server}/tasks`, {method: 'POST', headers, body, credentials: 'include'});
    return [(await response.json()).result, response.headers.get('x-request-id')];
  };
  const [run, requestId] = await call('tasks.execute', {tasks: [{name: 'echo_executor'}], use_streaming: false, use_demo: false});
  const last = await new Promise((resolve, reject) => {
    const source = new EventSource(`${server}/tasks/${run.task_id}/events`);
    source.onerror = reject;
    source.onmessage = ({data}) => { const event = JSON.parse(data); if (event.type === 'final') { source.close(); resolve(event); } };
  });
  const counted = await new Promise((resolve, reject) => {
    const socket = new WebSocket(`${server.replace('http', 'ws')}/ws`);
    socket.onerror = reject;
    socket.onopen = () => socket.send(JSON.stringify({jsonrpc: '2.0', id: 7, method: 'tasks.count'}));
    socket.onmessage = ({data}) => { const message = JSON.parse(data); if (message.id === 7) { socket.close(); resolve(message.result); } };
  });
  return {status: last.status, requestId, total: counted.total};
}
"""


class EmptyPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Another origin</title>")

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""


@pytest.fixture
def other_origin() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), EmptyPage) as pages:
        thread = threading.Thread(target=pages.serve_forever)
        thread.start()
        yield f"http://localhost:{pages.server_port}"
        pages.shutdown()
        thread.join()


def test_a_page_of_this_machine_calls_follows_and_connects(open_server: Server, page: Page, other_origin: str) -> None:
    page.goto(other_origin)
    done = page.evaluate(PROGRAM, open_server.url)
    assert done["status"] == "completed"
    assert done["requestId"]
    assert done["total"] >= 1


def test_where_users_log_in_the_browser_lets_it_read_nothing(
    auth_server: Server, page: Page, other_origin: str
) -> None:
    page.goto(other_origin)
    with pytest.raises(Error, match="Failed to fetch"):
        page.evaluate(
            "(server) => fetch(`${server}/tasks`, {method: 'POST'}).then(response => response.text())", auth_server.url
        )
