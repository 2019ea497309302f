"""A server that answers as the predecessor did when its tasks were recorded."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@contextmanager
def answering(tasks: object, *, status: int = 200) -> Iterator[tuple[str, list[Any]]]:
    """Yield the URL of a server that has these tasks, and the requests with their tokens, which it appends."""
    requests: list[Any] = []

    class Predecessor(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append((call["method"], call["params"], self.headers.get("Authorization")))
            reply = tasks if isinstance(tasks, dict | str) else {"jsonrpc": "2.0", "id": call["id"], "result": tasks}
            self.send_response(status)
            self.end_headers()
            self.wfile.write((reply if isinstance(reply, str) else json.dumps(reply)).encode())

        def log_message(self, *args: Any) -> None:
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Predecessor) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()
        thread.join()
