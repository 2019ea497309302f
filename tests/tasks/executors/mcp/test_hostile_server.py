"""Servers that send what they should not: everything is bounded, and an error says what was wrong."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from pytest_django import Settings

from aipartnerupflow.executors import Context, ExecutorError
from apflow_site.config.mcp_servers import McpServer
from tasks.executors.http import event_stream
from tasks.executors.mcp import session
from tasks.executors.mcp.executor import Mcp
from tests.tasks.executors.conftest import Web
from tests.tasks.executors.mcp.conftest import configure

STREAM = "text/event-stream"
NOTICE = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}}
SECRET = "a-secret-of-the-operator"


def event(message: Any) -> bytes:
    return f"data: {json.dumps(message)}\n\n".encode()


def hello(**more: Any) -> dict[str, Any]:
    result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "x", "version": "1"}}
    return {"jsonrpc": "2.0", "id": 1, "result": result | more}


async def error_of(context: Context, web: Web, settings: Settings) -> ExecutorError:
    configure(settings, web=McpServer(url=web.url, headers={"X-Key": SECRET}))
    with pytest.raises(ExecutorError) as caught:
        await Mcp().execute({"server": "web", "tool": "add"}, context)
    assert str(caught.value).startswith("The MCP server 'web'")
    return caught.value


@pytest.mark.parametrize(
    ("content_type", "chunks", "message", "is_permanent"),
    [
        ("application/json", [b"{"], "sent something that is not JSON", False),
        ("text/html", [b"<h1>Hello</h1>"], "sent something that is not JSON", False),
        ("application/json", [b"[1]"], "no message of JSON-RPC 2.0", False),
        ("application/json", [b'{"jsonrpc": "2.0", "id": 1}'], "sent an invalid response", False),
        ("application/json", [b"[" * 100_000], "sent something that is not JSON", False),
        ("application/json", [json.dumps(hello(protocolVersion="1999-01-01")).encode()], "'1999-01-01' of MCP", True),
        ("application/json", [json.dumps(NOTICE).encode()], "ended before the answer to initialize", False),
        (STREAM, [event(NOTICE)], "ended before the answer to initialize", False),
        (STREAM, [b"data: x\n\n"], "sent something that is not JSON", False),
        ("application/json", [b" " * 2**20] * 5, "the response is longer than 4194304 bytes", True),
        (STREAM, [b"data: " + b"x" * 2**20] * 5, "the stream is longer than allowed", True),
        (STREAM, [b"data: x\n" * 2**17] * 5, "the stream is longer than allowed", True),
        (STREAM, [event(NOTICE) * 1_000] * 11, "sent more than 10,000 messages", True),
        (STREAM, [event(NOTICE | {"params": "x" * 2**20})] * 17, "sent more than 16,777,216 bytes", True),
    ],
)
async def test_an_answer_that_is_none_is_an_error(
    context: Context,
    settings: Settings,
    web: Web,
    logs: list[str],
    content_type: str,
    chunks: Sequence[bytes],
    message: str,
    is_permanent: bool,
) -> None:
    web.answer(200, Content_Type=content_type)
    web.chunks = list(chunks)
    error = await error_of(context, web, settings)
    assert message in str(error)
    assert error.permanent is is_permanent
    assert len(logs) <= session.MOST_LINES


async def test_a_stream_has_an_end(
    context: Context, settings: Settings, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "MAX_STREAM_BYTES", 10_000)
    web.answer(200, Content_Type=STREAM)
    web.chunks = [b": a comment\n" * 100] * 20
    assert "the stream is longer than allowed" in str(await error_of(context, web, settings))


@pytest.mark.parametrize(
    ("status", "body", "message", "is_permanent"),
    [
        (401, b"", "answered 401. It wants credentials: the operator sets executors.mcp.servers.web.headers.", True),
        (403, b"no", "answered 403. The credentials may not do that", True),
        (404, b"<html>", "answered 404. Check that the URL is that of its MCP endpoint.", True),
        (405, b"", "answered 405. It does not speak Streamable HTTP at this URL.", True),
        (307, b"", "answered 307. Redirects are not followed.", True),
        (400, b'{"error": {"code": 1, "message": "No."}}', "answered 400: No.", True),
        (400, f'{{"error": "{SECRET}"}}'.encode(), "answered 400: ….", True),
        (500, b"\xff", "answered 500.", False),
        (503, b"", "answered 503.", False),
        (429, b"", "answered 429.", False),
    ],
)
async def test_a_refusal_says_what_to_do(
    context: Context, settings: Settings, web: Web, status: int, body: bytes, message: str, is_permanent: bool
) -> None:
    web.answer(status, body, Retry_After="7", Location="http://127.0.0.1/else")
    error = await error_of(context, web, settings)
    assert message in str(error)
    assert error.permanent is is_permanent
    assert error.retry_after_seconds == 7
    assert len(web.received) == 1


async def test_a_url_of_a_task_says_how_to_give_credentials(context: Context, allow_loopback: None, web: Web) -> None:
    web.answer(401)
    with pytest.raises(ExecutorError, match=r"It wants credentials: give inputs\.auth or inputs\.headers\."):
        await Mcp().execute({"server": f"{web.url}/mcp?key=hidden", "tool": "add"}, context)


async def test_the_query_of_a_url_is_in_no_error(context: Context, allow_loopback: None, web: Web) -> None:
    web.answer(500)
    with pytest.raises(ExecutorError) as caught:
        await Mcp().execute({"server": f"{web.url}/mcp?key=hidden", "tool": "add"}, context)
    assert "hidden" not in str(caught.value)
