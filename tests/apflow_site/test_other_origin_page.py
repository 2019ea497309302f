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

WEB_APPLICATION = """
async (server) => {
  const headers = {Accept: 'application/json, text/plain, */*', 'Content-Type': 'application/json', 'X-LLM-API-KEY': 'sk-ant-0123456789'};
  const post = (path, body, more = {}) =>
    fetch(`${server}${path}`, {method: 'POST', headers: {...headers, ...more}, body: JSON.stringify(body), credentials: 'include'});
  let id = 0;
  const rpc = async (path, method, params) => {
    const {result, error} = await (await post(path, {jsonrpc: '2.0', method, params, id: ++id})).json();
    if (error) throw new Error(String(error.data || error.message));
    return result;
  };
  const fails = (promise) => promise.then(() => 'no error', (error) => error.message);
  const watch = async (response) => {
    const reader = response.body.getReader(), decoder = new TextDecoder(), types = [];
    for (let buffer = '', chunk; !(chunk = await reader.read()).done;) {
      const lines = (buffer + decoder.decode(chunk.value, {stream: true})).split('\\n');
      buffer = lines.pop();
      for (const line of lines) if (line.startsWith('data: ')) types.push(JSON.parse(line.slice(6)).type);
    }
    return types;
  };

  const created = await rpc('/tasks', 'tasks.create', [
    {name: 'Root', user_id: null, status: 'pending', priority: 1, dependencies: [{name: 'Child', required: true}], inputs: {}, params: null, schemas: {method: 'aggregate_results_executor'}},
    {name: 'Child', parent_id: 'Root', user_id: null, status: 'pending', dependencies: null, inputs: {x: 1}, params: null, schemas: {method: 'echo_executor'}},
  ]);
  const named = {task_id: created.id};
  const listed = await rpc('/tasks', 'tasks.list', {user_id: undefined, status: undefined, root_only: true, limit: 100, offset: 0});
  const running = await rpc('/tasks', 'tasks.running.count', {});
  const streamed = await watch(await post('/tasks', {jsonrpc: '2.0', method: 'tasks.execute', params: {...named, use_streaming: true, use_demo: false}, id: ++id}, {Accept: 'text/event-stream'}));
  const tree = await rpc('/tasks', 'tasks.tree', named);
  const detail = await rpc('/tasks', 'tasks.detail', named);
  const key = await rpc('/system', 'config.llm_key.set', {api_key: 'sk-ant-0123456789abcdef', provider: undefined});
  const keys = await rpc('/system', 'config.llm_key.get', {provider: 'anthropic'});
  const completed = await fails(rpc('/tasks', 'tasks.delete', named));
  const draft = await rpc('/tasks', 'tasks.create', [{name: 'Draft', user_id: null}]);
  const deleted = await rpc('/tasks', 'tasks.delete', {task_id: draft.id});
  const invalid = await fails(rpc('/tasks', 'tasks.create', [{name: 'Draft', priority: 9, inputs: 7}]));
  const modules = await (await post('/modules/apflow.task.list', {limit: 50, offset: 0})).json();
  const again = await watch(await post('/modules/apflow.task.execute', named, {Accept: 'text/event-stream'}));
  const health = await (await fetch(`${server}/healthz`, {headers})).json();
  return {
    listed: listed.some((task) => task.id === created.id), running: running.count >= 0, streamed, again,
    tree: [tree.task.status, tree.children.map((child) => child.task.name)], detail: detail.status,
    key: [key.provider, keys.has_key], completed, deleted: deleted.deleted_count, invalid,
    modules: modules.tasks.length === modules.count && modules.count > 0, health: health.status,
  };
}
"""
"""The calls of apflow's web application 0.2.0, and of its newest version, as it sends them and reads the answers."""


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


def test_the_predecessors_web_application_does_all_it_does(open_server: Server, page: Page, other_origin: str) -> None:
    page.goto(other_origin)
    done = page.evaluate(WEB_APPLICATION, open_server.url)
    assert done.pop("completed").startswith("Task '")
    assert done.pop("invalid").startswith(
        "Invalid params: tasks[0].priority: must be an integer from 0 to 3, not 9; tasks[0]"
    )
    streamed, again = done.pop("streamed"), done.pop("again")
    assert streamed[-2:] == again[-2:] == ["final", "stream_end"]
    assert "task_completed" in streamed
    assert done == {
        "listed": True,
        "running": True,
        "tree": ["completed", ["Child"]],
        "detail": "completed",
        "key": ["anthropic", True],
        "deleted": 1,
        "modules": True,
        "health": "ok",
    }


def test_where_users_log_in_the_browser_lets_it_read_nothing(
    auth_server: Server, page: Page, other_origin: str
) -> None:
    page.goto(other_origin)
    with pytest.raises(Error, match="Failed to fetch"):
        page.evaluate(
            "(server) => fetch(`${server}/tasks`, {method: 'POST'}).then(response => response.text())", auth_server.url
        )
