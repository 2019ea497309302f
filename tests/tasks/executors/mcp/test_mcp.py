"""Calls of a server by the official SDK, over HTTP and over pipes."""

import asyncio
import base64
import os
import signal
import sys
from dataclasses import replace
from typing import Any

import psutil
import pytest
from jsonschema import Draft202012Validator
from pytest_django import Settings

from aipartnerupflow.executors import Context, ExecutorError
from apflow_site.config.mcp_servers import McpServer
from tasks.executors.mcp import session
from tasks.executors.mcp.executor import Mcp
from tests.mcp_site import PNG, TOKEN, McpSite
from tests.ports import free_port
from tests.servers import children_with, until
from tests.tasks.executors.conftest import Web
from tests.tasks.executors.mcp.conftest import configure

pytestmark = pytest.mark.usefixtures("configured")
Json = dict[str, Any]
BOTH = pytest.mark.parametrize("server", ["web", "pipes"])


async def done(context: Context, **inputs: Any) -> Json:
    result: Json = await Mcp().execute(inputs, context)
    Draft202012Validator(Mcp.result_schema).validate(result)
    return result


async def error_of(context: Context, **inputs: Any) -> ExecutorError:
    with pytest.raises(ExecutorError) as caught:
        await Mcp().execute(inputs, context)
    return caught.value


@BOTH
async def test_the_result_of_a_tool_is_its_structured_content_or_its_text(context: Context, server: str) -> None:
    assert await done(context, server=server, tool="add", arguments={"a": 1, "b": 2}) == {"result": {"sum": 3}}
    assert await done(context, server=server, tool="shout", arguments={"text": "hi"}) == {"result": "HI"}


@BOTH
async def test_the_beginning_is_stored_before_the_call_of_a_tool_and_before_no_other_request(
    context: Context, mcp_site: McpSite, server: str
) -> None:
    called = list[Any]()

    async def begin() -> None:
        called.append(list(mcp_site.calls))

    begins = replace(context, begin=begin)
    await done(begins, server=server, operation="list_tools")
    assert called == []
    await done(begins, server=server, tool="add", arguments={"a": 1, "b": 2})
    assert (called, mcp_site.calls) == ([[]], [["add", 1, 2]])


@pytest.mark.parametrize(("tool", "is_safe"), [("safe_wait", True), ("add", False), ("none", False)])
async def test_a_server_says_whether_a_tool_may_be_called_again(context: Context, tool: str, is_safe: bool) -> None:
    inputs = {"server": "web", "tool": tool}
    assert not Mcp().may_repeat(inputs)
    assert await Mcp().is_repeatable(inputs, context) is is_safe
    assert Mcp().may_repeat({"server": "web", "operation": "list_tools"})


@BOTH
async def test_a_picture_is_in_the_content(context: Context, server: str) -> None:
    result = await done(context, server=server, tool="picture")
    assert result["result"] == "a dot"
    assert [part["type"] for part in result["content"]] == ["text", "image"]
    assert base64.b64decode(result["content"][1]["data"]) == PNG


@BOTH
async def test_what_there_is_is_listed_and_read(context: Context, server: str) -> None:
    tools = (await done(context, server=server, operation="list_tools"))["result"]
    assert {"name": "add", "description": "Add two numbers."}.items() <= tools[0].items()
    assert tools[0]["inputSchema"]["required"] == ["a", "b"]
    (resource,) = (await done(context, server=server, operation="list_resources"))["result"]
    assert resource["uri"] == "note://today"
    assert (await done(context, server=server, operation="list_resource_templates"))["result"] == []
    read = await done(context, server=server, operation="read_resource", uri="note://today")
    assert read == {"result": "Water the plants."}
    (prompt,) = (await done(context, server=server, operation="list_prompts"))["result"]
    assert prompt["name"] == "greeting"
    got = await done(context, server=server, operation="get_prompt", prompt="greeting", arguments={"name": "Ada"})
    assert got["result"] == [{"role": "user", "content": {"type": "text", "text": "Greet Ada."}}]


@BOTH
async def test_progress_and_log_lines_are_those_of_the_task(
    context: Context, reports: list[tuple[float, str]], logs: list[str], server: str
) -> None:
    assert await done(context, server=server, tool="count", arguments={"to": 2}) == {"result": "done"}
    assert reports == [(0.5, "1 of 2"), (1.0, "2 of 2")]
    assert logs == ["info: at 1", "info: at 2"]


@BOTH
async def test_a_tool_that_fails_fails_the_task_and_may_be_retried(context: Context, server: str) -> None:
    error = await error_of(context, server=server, tool="fail", arguments={"why": "no power"})
    assert "The tool 'fail' of the MCP server" in str(error)
    assert "no power" in str(error)
    assert not error.permanent


@BOTH
async def test_an_unknown_tool_is_refused_with_the_closest_ones(context: Context, server: str) -> None:
    error = await error_of(context, server=server, tool="shuot")
    assert f"the MCP server '{server}' has no tool 'shuot'. Did you mean 'shout'? Its tools are add, shout" in str(
        error
    )
    assert error.permanent


async def test_an_unknown_prompt_is_an_error_of_the_server(context: Context) -> None:
    error = await error_of(context, server="web", operation="get_prompt", prompt="nope")
    assert "The MCP server 'web' refused the request: Unknown prompt: nope" in str(error)


@BOTH
async def test_a_server_that_repeats_the_operators_credentials_shows_none(context: Context, server: str) -> None:
    result = await done(context, server=server, tool="credentials")
    assert "…" in result["result"] and TOKEN not in str(result)


async def test_a_server_that_does_not_answer_is_an_error_that_may_be_retried(
    context: Context, settings: Settings, web: Web
) -> None:
    web.hangs = True
    configure(settings, web=McpServer(url=web.url))
    error = await error_of(context, server="web", tool="add", timeout_seconds=0.5)
    assert str(error) == (
        "The MCP server 'web' did not answer within 0.5 s. Raise inputs.timeout_seconds if it needs longer."
    )
    assert not error.permanent


@BOTH
async def test_a_task_that_is_cancelled_cancels_the_call(
    context: Context, mcp_site: McpSite, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "CANCEL_SECONDS", 60)
    call = asyncio.create_task(done(context, server=server, tool="wait_for_gate", arguments={"number": 1}))
    await asyncio.to_thread(until, lambda: mcp_site.calls, seconds=60, what="the call")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.to_thread(
        until, lambda: ["cancelled", 1] in mcp_site.calls, seconds=60, what="the server heard of the cancellation"
    )


@pytest.fixture
def real_program(configured: None, mcp_site: McpSite, settings: Settings) -> None:
    """The server over pipes is a process below its guard, not a fork."""
    configure(settings, pipes=McpServer(command=(sys.executable, "-m", "tests.mcp_server"), env=mcp_site.environment))


@pytest.mark.usefixtures("real_program")
async def test_no_process_is_left_of_a_server_over_pipes(context: Context) -> None:
    before = children_with("guard.py")
    await done(context, server="pipes", tool="shout", arguments={"text": "hi"})
    await error_of(context, server="pipes", tool="wait_for_gate", arguments={"number": 1}, timeout_seconds=5)
    await asyncio.to_thread(until, lambda: children_with("guard.py") == before, seconds=60, what="the end of the guard")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"server": "wep", "tool": "add"},
            "inputs.server: there is no MCP server 'wep'. Did you mean 'web'? Servers are those of executors.mcp.servers (pipes, web).",
        ),
        ({"server": "web"}, "inputs.tool: the operation call_tool needs it."),
        ({"server": "web", "operation": "read_resource"}, "inputs.uri: the operation read_resource needs it."),
        ({"server": "web", "operation": "get_prompt"}, "inputs.prompt: the operation get_prompt needs it."),
    ],
)
async def test_inputs_that_can_never_work_are_refused_at_creation(inputs: Json, message: str) -> None:
    with pytest.raises(ExecutorError) as caught:
        Mcp().check_with_inputs({}, inputs)
    assert str(caught.value) == message
    assert caught.value.permanent


@pytest.mark.parametrize("pool", ["process", "ray"])
def test_the_operators_credentials_do_not_leave_the_worker(configured: None, pool: str) -> None:
    with pytest.raises(ExecutorError, match=r"inputs\.server: 'web' .* whose credentials stay with the workers"):
        Mcp().check_with_inputs({"pool": pool}, {"server": "web", "tool": "add"})
    Mcp().check_with_inputs({"pool": pool}, {"server": "https://mcp.example.com/mcp", "tool": "add"})
    Mcp().check_with_inputs({"pool": "thread"}, {"server": "web", "tool": "add"})


def test_a_server_that_a_result_names_is_checked_later() -> None:
    Mcp().check_with_inputs({}, {"server": "{{which.name}}", "tool": "add"})


async def test_a_configured_server_gets_no_credentials_of_a_task(context: Context) -> None:
    error = await error_of(context, server="web", tool="add", auth={"bearer": "mine"})
    assert "may not set the header 'Authorization' for the server 'web'" in str(error)
    assert "tasks may set no header (executors.mcp.servers.web.user_headers)" in str(error)


async def test_a_task_sets_the_headers_that_the_operator_leaves_to_it(
    context: Context, mcp_site: McpSite, settings: Settings
) -> None:
    own = {"Authorization": "Bearer operators", "X-Team": "t"}
    configure(settings, web=McpServer(url=mcp_site.url, headers=own, user_headers=("authorization",)))
    mine = {"apikey": {"header": "Authorization", "value": "mine"}}
    assert await done(context, server="web", tool="credentials", auth=mine) == {"result": "mine"}
    error = await error_of(context, server="web", tool="credentials", headers={"X-Team": "u"})
    assert "tasks may set authorization" in str(error)


async def test_a_server_by_url_gets_the_credentials_of_the_task(
    context: Context, mcp_site: McpSite, allow_loopback: None
) -> None:
    result = await done(context, server=mcp_site.url, tool="credentials", auth={"bearer": "mine"})
    assert result == {"result": "Bearer mine"}


async def test_a_private_address_is_refused_to_a_task(context: Context, mcp_site: McpSite) -> None:
    error = await error_of(context, server=mcp_site.url, tool="add")
    assert "is refused: its address 127.0.0.1 is not public" in str(error)
    assert error.permanent


async def test_a_server_that_is_down_is_an_error_that_may_be_retried(context: Context, settings: Settings) -> None:
    configure(settings, web=McpServer(url=f"http://127.0.0.1:{free_port()}/mcp"))
    error = await error_of(context, server="web", tool="add")
    assert "The MCP server 'web': cannot connect." in str(error)
    assert not error.permanent


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("/no/such/program",), "could not be started: No such file or directory."),
        ((sys.executable, "-c", "raise SystemExit(4)"), "ended with exit code 4 before it answered."),
        ((sys.executable, "-c", "print('hello')"), "sent something that is not JSON."),
        ((sys.executable, "-c", "print('{}')"), "sent something that is no message of JSON-RPC 2.0."),
        (
            (sys.executable, "-c", "import sys\nwhile True: sys.stdout.write('x' * 65536)"),
            "a message is longer than 4194304 bytes.",
        ),
    ],
)
async def test_a_program_that_is_no_server_is_an_error(
    context: Context, settings: Settings, command: tuple[str, ...], message: str
) -> None:
    configure(settings, broken=McpServer(command=command))
    error = await error_of(context, server="broken", tool="add")
    assert str(error).startswith("The MCP server 'broken'")
    assert message in str(error)


async def test_a_server_that_ends_during_a_call_is_an_error(context: Context) -> None:
    error = await error_of(context, server="pipes", tool="leave")
    assert "The MCP server 'pipes' ended with exit code 3 before it answered." in str(error)


@pytest.mark.usefixtures("real_program")
async def test_a_server_of_which_only_the_guard_is_left_is_ended(context: Context, mcp_site: McpSite) -> None:
    """A worker that is killed leaves no server behind: its guard sees the end of the socket."""
    call = asyncio.create_task(done(context, server="pipes", tool="wait_for_gate", arguments={"number": 2}))
    await asyncio.to_thread(until, lambda: mcp_site.calls, seconds=60, what="the call")
    guards = children_with("guard.py")
    below = [each for guard in guards for each in guard.children(recursive=True)]
    assert below
    for guard in guards:
        os.kill(guard.pid, signal.SIGKILL)
    with pytest.raises(ExecutorError, match="before it answered"):
        await call
    _, alive = await asyncio.to_thread(psutil.wait_procs, below, timeout=60)
    assert not alive


def test_a_secret_that_is_bound_to_a_host_may_go_to_a_server_by_url() -> None:
    assert Mcp().receiver({"server": "https://mcp.example.com/mcp"}) == "https://mcp.example.com/mcp"
    assert str(Mcp().receiver({"server": "web"})).startswith("http://127.0.0.1:")
    assert Mcp().receiver({"server": "pipes"}) is None
    assert Mcp().receiver({"server": "nope"}) is None
