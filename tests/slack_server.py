"""A fake Slack over HTTP: an incoming webhook, the buttons of its messages, and their `response_url`.

It checks what its documentation says of both sides: the shapes and limits of Block Kit in messages
(docs.slack.dev/reference/block-kit), and of the payload that a pressed button sends, signed, as a form
(docs.slack.dev/reference/interaction-payloads/block_actions-payload).
"""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import urlencode

import httpx

Json = dict[str, Any]
WEBHOOK = "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"
RESPONSE = "/actions/T00000000/1234/abcd"


@dataclass(slots=True)
class SlackServer:
    """`messages` are those in the channel, `replies` what came to the `response_url`, `refused` what Slack would not take.

    The next replies have the statuses in `answers`.
    """

    signing_secret: str
    port: int = 0
    messages: list[Json] = field(default_factory=list)
    replies: list[Json] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def url(self) -> str:
        """The address of the incoming webhook."""
        return f"http://127.0.0.1:{self.port}{WEBHOOK}"

    def take(self, path: str, kind: str, body: bytes) -> tuple[int, bytes]:
        """Take a message. A message that is not as documented gets what Slack answers: 400 and a word."""
        if kind != "application/json":
            return self._refuse("invalid_content_type")
        payload = json.loads(body)
        if (fault := _fault_of(payload)) is not None:
            return self._refuse(fault)
        if path == WEBHOOK:
            if set(payload) - {"text", "blocks"}:
                return self._refuse("unknown_field")
            self.messages.append(payload)
            return 200, b"ok"
        if path == RESPONSE:
            if set(payload) - {"text", "blocks", "replace_original", "delete_original", "response_type"}:
                return self._refuse("unknown_field")
            if self.answers:
                return self.answers.pop(0), b""
            self.replies.append(payload)
            if payload.get("replace_original") is True:
                self.messages[-1] = payload
            return 200, b"ok"
        return self._refuse("no_service")

    def _refuse(self, why: str) -> tuple[int, bytes]:
        self.refused.append(why)
        return 400, why.encode()

    def press(self, address: str, label: str, *, message: Json | None = None, **changes: Any) -> httpx.Response:
        """Press the button with this label of a message, the last one, as a person in the channel does."""
        shown = message or self.messages[-1]
        elements = [each for block in shown["blocks"] if block["type"] == "actions" for each in block["elements"]]
        (button,) = [each for each in elements if each["text"]["text"] == label]
        payload = {
            "type": "block_actions",
            "user": {"id": "U0ADA", "username": "ada", "name": "ada", "team_id": "T00000000"},
            "api_app_id": "A00000000",
            "token": "a-verification-token-of-old",
            "container": {"type": "message", "message_ts": "1548261231.000200", "channel_id": "C1"},
            "trigger_id": f"{next(self.numbers)}.12321.abcd",
            "team": {"id": "T00000000", "domain": "example"},
            "channel": {"id": "C1", "name": "approvals"},
            "message": {"type": "message", "ts": "1548261231.000200", "text": shown["text"]},
            "response_url": f"http://127.0.0.1:{self.port}{RESPONSE}",
            "actions": [
                {**button, "type": "button", "block_id": "b1", "action_ts": f"1548426417.{next(self.numbers):06}"}
            ],
        } | changes
        return self.send(address, payload)

    def send(self, address: str, payload: Json, *, at: float | None = None) -> httpx.Response:
        """Send an interaction to the app's address, signed: a form with the field `payload`."""
        body = urlencode({"payload": json.dumps(payload)}).encode()
        stamp = str(int(time.time() if at is None else at))
        mac = hmac.new(self.signing_secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256)
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Slack-Request-Timestamp": stamp,
            "X-Slack-Signature": f"v0={mac.hexdigest()}",
        }
        return httpx.post(address, content=body, headers=headers, timeout=120)


def _fault_of(payload: Json) -> str | None:
    """What is not as in the reference of Block Kit, if anything."""
    if not isinstance(payload.get("text"), str) or not payload["text"]:
        return "no_text"
    blocks = payload.get("blocks", [])
    if len(blocks) > 50:
        return "too_many_blocks"
    for block in blocks:
        match block.get("type"):
            case "section":
                text = block["text"]
                if set(block) - {"type", "text"} or text["type"] != "mrkdwn" or not 0 < len(text["text"]) <= 3000:
                    return "invalid_blocks: section"
            case "context":
                texts = block["elements"]
                if not 0 < len(texts) <= 10 or any(each["type"] != "mrkdwn" for each in texts):
                    return "invalid_blocks: context"
            case "actions":
                buttons = block["elements"]
                ids = [each["action_id"] for each in buttons]
                if not 0 < len(buttons) <= 25 or len(set(ids)) < len(ids):
                    return "invalid_blocks: actions"
                for each in buttons:
                    text = each["text"]
                    is_good = each["type"] == "button" and text["type"] == "plain_text" and 0 < len(text["text"]) <= 75
                    if not is_good or len(each["value"]) > 2000 or len(each["action_id"]) > 255:
                        return "invalid_blocks: button"
            case _:
                return "invalid_blocks: type"
    return None


@contextmanager
def slack_server(signing_secret: str) -> Iterator[SlackServer]:
    """A Slack on loopback, until the end of the block."""
    slack = SlackServer(signing_secret)

    class Requests(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = slack.take(self.path, self.headers["Content-Type"], body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    slack.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield slack
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
