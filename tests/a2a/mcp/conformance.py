"""The fixtures that the conformance suite of MCP names in its scenarios: a test-only catalogue, and the URLs that serve it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final
from uuid import uuid4

from django.core import signing
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from a2a.mcp.catalogue import Catalogue, Flows
from a2a.mcp.dialog import replies
from a2a.mcp.endpoint import Mcp
from a2a.mcp.eras import Exchange
from a2a.mcp.handles import require_extension
from a2a.mcp.messages import McpError, Messages, Notification, Request, Result, missing_capability, text, tool_error
from a2a.mcp.resources import Runs
from a2a.mcp.tools.running import RunTool
from a2a.mcp.tools.tool import Fixed, Tool
from accounts.callers import Caller
from apflow_site.urls import urlpatterns as own
from tasks.rules.strict_json import Json
from tasks.services import trees
from tasks.services.trees import Execution

PIXEL: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV: Final = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA="
ANY: Final[Json] = {"type": "object"}
IMAGE: Final = {"type": "image", "data": PIXEL, "mimeType": "image/png"}
AUDIO: Final = {"type": "audio", "data": WAV, "mimeType": "audio/wav"}


def embedded(uri: str, content: str, kind: str) -> Json:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": content}}


def says(*blocks: Json) -> Callable[[Exchange, Json], Messages]:
    async def call(exchange: Exchange, arguments: Json) -> Messages:
        yield Result(value={"content": [*blocks]})

    return call


async def greet(exchange: Exchange, arguments: Json) -> Messages:
    yield Result(value={"content": [text(f"Hello, {arguments.get('name')}!")]})


async def fails(exchange: Exchange, arguments: Json) -> Messages:
    yield Result(value=tool_error("This tool intentionally returns an error for testing"))


async def progresses(exchange: Exchange, arguments: Json) -> Messages:
    for done in (0, 50, 100):
        if exchange.progress_token is not None:
            params = {"progressToken": exchange.progress_token, "progress": done, "total": 100}
            yield Notification(method="notifications/progress", params=params)
    yield Result(value={"content": [text("done")]})


async def logs(exchange: Exchange, arguments: Json) -> Messages:
    for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        if exchange.wants_log("info"):
            yield Notification(method="notifications/message", params={"level": "info", "data": said})
    yield Result(value={"content": [text("done")]})


async def needs_sampling(exchange: Exchange, arguments: Json) -> Messages:
    if "sampling" not in exchange.capabilities:
        raise missing_capability(sampling={})
    yield Result(value={"content": [text("done")]})


def runs(tree: Callable[[Json], Any], *, is_required: bool = False) -> Callable[[Exchange, Json], Messages]:
    async def start(exchange: Exchange, arguments: Json) -> Callable[[], Execution]:
        if is_required:
            require_extension(exchange)
        return partial(trees.execute_tree, caller=exchange.caller, tasks=tree(arguments))

    return RunTool(start)


def slow(arguments: Json) -> Json:
    inputs = {"seconds": arguments.get("seconds", 0)}
    return {"name": "slow_compute", "schemas": {"method": "sleep_executor"}, "inputs": inputs}


def failing(arguments: Json) -> Json:
    return {"name": "failing_job", "schemas": {"method": "rest_executor"}, "inputs": {"url": "nonsense"}}


def too_much(arguments: Json) -> Json:
    """A task whose result no reply may have: an error of the protocol."""
    return {"name": "protocol_error_job", "inputs": {"text": "x" * 100_000}, "schemas": {"method": "echo_executor"}}


def approval(name: str, **more: Any) -> Json:
    form = {"type": "object", "properties": {"confirm": {"type": "boolean"}, "name": {"type": "string"}}}
    return {
        "name": name,
        "schemas": {"method": "approval_executor"},
        "inputs": {"question": "Sure?", "schema": form},
    } | more


def both(arguments: Json) -> list[Json]:
    return [{"id": "root", "name": "root"}, approval("a", parent_id="root"), approval("b", parent_id="root")]


async def named_task(exchange: Exchange, arguments: Json) -> Messages:
    """Ask for a name, and then run a task that has it."""
    answer = (exchange.input_responses or {}).get("user_name")
    if answer is None:
        yield Result(value={"inputRequests": {"user_name": NAME}}, kind="input_required")
        return
    start = runs(lambda content: {"name": "echo", "schemas": {"method": "echo_executor"}, "inputs": content})
    async for message in start(replace(exchange, request_state=None), answer["content"]):
        yield message


def tool(name: str, call: Callable[[Exchange, Json], Messages], schema: Json = ANY) -> Tool:
    return Tool(name=name, title=name, description=f"The fixture {name}.", input_schema=schema, call=call)


SCHEMA_2020: Final[Json] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
    "allOf": [{"anyOf": [{"required": ["name"]}, {"required": ["address"]}]}],
    "if": {"required": ["address"]},
    "then": {"required": ["name"]},
    "else": {},
    "additionalProperties": False,
}


def elicits(message: str, **properties: Json) -> Json:
    schema = {"type": "object", "properties": properties, "required": [*properties]}
    params = {"mode": "form", "message": message, "requestedSchema": schema}
    return {"method": "elicitation/create", "params": params}


def samples(question: str) -> Json:
    messages = [{"role": "user", "content": text(question)}]
    return {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": 100}}


NAME: Final = elicits("What is your name?", name={"type": "string"})
OK: Final = elicits("Please confirm", ok={"type": "boolean"})
ROOTS: Final[Json] = {"method": "roots/list", "params": {}}
ROUNDS: Final[dict[str, list[Json]]] = {
    "elicitation": [{"user_name": NAME}],
    "sampling": [{"capital_question": samples("What is the capital of France?")}],
    "list_roots": [{"client_roots": ROOTS}],
    "request_state": [{"confirm": OK}],
    "tampered_state": [{"confirm": OK}],
    "multiple_inputs": [{"user_name": NAME, "greeting": samples("Generate a greeting"), "client_roots": ROOTS}],
    "multi_round": [
        {"step1": elicits("Step 1: What is your name?", name={"type": "string"})},
        {"step2": elicits("Step 2: What is your favorite color?", color={"type": "string"})},
    ],
    "capabilities": [{"name": NAME, "capital": samples("What is the capital of France?")}],
}
CAPABILITIES: Final = {"elicitation/create": "elicitation", "sampling/createMessage": "sampling", "roots/list": "roots"}


def asks(name: str, rounds: Sequence[Json]) -> Callable[[Exchange, Json], Messages]:
    """A tool that asks in rounds: each gets the answers of those before it in its state, which is signed."""

    async def call(exchange: Exchange, arguments: Json) -> Messages:
        answers = _state(exchange, name)
        responses = exchange.input_responses
        answers |= {
            key: each
            for key, each in (responses if isinstance(responses, dict) else {}).items()
            if isinstance(each, dict)
        }
        for wanted in rounds:
            if name == "capabilities":
                wanted = {
                    key: each for key, each in wanted.items() if CAPABILITIES[each["method"]] in exchange.capabilities
                }
            if missing := {key: each for key, each in wanted.items() if key not in answers}:
                state = signing.dumps([name, answers], salt=name)
                yield Result(value={"inputRequests": missing, "requestState": state}, kind="input_required")
                return
        yield Result(value={"content": [text(f"state-ok {answers}")]})

    return call


def _state(exchange: Exchange, name: str) -> Json:
    if exchange.request_state is None:
        return {}
    try:
        found: tuple[str, Json] = signing.loads(exchange.request_state, salt=name)
    except signing.BadSignature:
        raise McpError(-32602, "The state was changed.") from None
    return found[1]


def requests(capability: str, wanted: Callable[[Json], Json]) -> Callable[[Exchange, Json], Messages]:
    """A tool that sends an older client a request of the server, and says what came back."""

    async def call(exchange: Exchange, arguments: Json) -> Messages:
        if capability not in exchange.capabilities:
            raise missing_capability(**{capability: {}})
        request = Request(id=uuid4().hex, **wanted(arguments))
        with replies().expected(exchange.caller, request.id) as reply:
            yield request
            said = await asyncio.wait_for(reply, timeout=30)
        yield Result(value={"content": [text(f"The client replied: {said}")]})

    return call


def of_client(properties: Json) -> Callable[[Exchange, Json], Messages]:
    return requests("elicitation", lambda arguments: elicits(arguments.get("message", "Please choose"), **properties))


IN_HEADER: Final[Json] = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
DEFAULTS: Final[Json] = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
TITLED: Final = [{"const": f"value{number}", "title": f"Option {number}"} for number in (1, 2, 3)]
PLAIN: Final = ["option1", "option2", "option3"]
ENUMS: Final[Json] = {
    "untitledSingle": {"type": "string", "enum": PLAIN},
    "titledSingle": {"type": "string", "oneOf": TITLED},
    "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": ["One", "Two", "Three"]},
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": PLAIN}},
    "titledMulti": {"type": "array", "items": {"anyOf": TITLED}},
}


def fixtures() -> Sequence[Tool]:
    return [
        tool("test_sampling", requests("sampling", lambda arguments: samples(arguments["prompt"]))),
        tool("test_elicitation", of_client({"username": {"type": "string"}, "email": {"type": "string"}})),
        tool("test_elicitation_sep1034_defaults", of_client(DEFAULTS)),
        tool("test_elicitation_sep1330_enums", of_client(ENUMS)),
        tool("protocol_error_job", runs(too_much)),
        tool("test_custom_header", greet, IN_HEADER),
        *(tool(f"test_input_required_result_{name}", asks(name, rounds)) for name, rounds in ROUNDS.items()),
        tool("greet", greet),
        tool("slow_compute", runs(slow)),
        tool("test_tool_with_task", named_task),
        tool("failing_job", runs(failing, is_required=True)),
        tool("confirm_delete", runs(lambda arguments: approval("confirm_delete"))),
        tool("multi_input", runs(both)),
        tool("test_simple_text", says(text("This is a simple text response for testing."))),
        tool("test_image_content", says(IMAGE)),
        tool("test_audio_content", says(AUDIO)),
        tool(
            "test_embedded_resource",
            says(embedded("test://embedded-resource", "This is an embedded resource content.", "text/plain")),
        ),
        tool(
            "test_multiple_content_types",
            says(
                text("Multiple content types test:"),
                IMAGE,
                embedded("test://mixed-content-resource", '{"test":"data","value":123}', "application/json"),
            ),
        ),
        tool("test_error_handling", fails),
        tool("test_tool_with_progress", progresses),
        tool("test_tool_with_logging", logs),
        tool("test_logging_tool", logs),
        tool("test_streaming_elicitation", says(text("done"))),
        tool("test_missing_capability", needs_sampling),
        tool("json_schema_2020_12_tool", greet, SCHEMA_2020),
    ]


async def probes(caller: Caller, name: str, arguments: Json) -> Json | None:
    """The messages of the prompts that the scenarios name."""
    first, second = arguments.get("arg1"), arguments.get("arg2")
    found: dict[str, list[Json]] = {
        "test_simple_prompt": [text("This is a simple prompt for testing.")],
        "test_prompt_with_arguments": [text(f"Prompt with arguments: arg1='{first}', arg2='{second}'")],
        "test_prompt_with_embedded_resource": [
            embedded(str(arguments.get("resourceUri")), "Embedded resource content for testing.", "text/plain"),
            text("Please process the embedded resource above."),
        ],
        "test_input_required_result_prompt": [text(f"With the context {arguments.get('context')}.")],
        "test_prompt_with_image": [IMAGE, text("Please analyze the image above.")],
    }
    return {"messages": [{"role": "user", "content": each} for each in found[name]]} if name in found else None


class Prompts(Flows):
    """The prompts that the scenarios name."""

    async def page(self, caller: Caller, cursor: str) -> tuple[Sequence[Json], str | None]:
        arguments = [{"name": name, "description": name, "required": True} for name in ("arg1", "arg2")]
        uri = [{"name": "resourceUri", "description": "a URI", "required": True}]
        return [
            {"name": "test_simple_prompt", "description": "simple"},
            {"name": "test_prompt_with_arguments", "description": "arguments", "arguments": arguments},
            {"name": "test_prompt_with_embedded_resource", "description": "embedded", "arguments": uri},
            {"name": "test_prompt_with_image", "description": "image"},
        ], None

    async def missing(self, caller: Caller, name: str, arguments: Json) -> Json | None:
        asks = name == "test_input_required_result_prompt" and "context" not in arguments
        return {"type": "object", "properties": {"context": {"type": "string"}}} if asks else None

    async def get(self, caller: Caller, name: str, arguments: Json) -> Json | None:
        return await probes(caller, name, arguments)

    async def complete(self, caller: Caller, name: str, argument: str) -> Sequence[str] | None:
        return ["paris", "park", "party"]


class Resources(Runs):
    """The resources that the scenarios name."""

    async def run_of(self, caller: Caller, uri: str) -> str | None:
        return "no-run" if uri == "test://watched-resource" else None

    async def page(self, caller: Caller, cursor: str) -> tuple[Sequence[Json], str | None]:
        return [{"uri": "test://static-text", "name": "text"}, {"uri": "test://static-binary", "name": "binary"}], None

    def templates(self) -> Sequence[Json]:
        return [{"uriTemplate": "test://template/{id}/data", "name": "template"}]

    async def read(self, caller: Caller, uri: str) -> Sequence[Json] | None:
        if uri == "test://static-text":
            return [{"uri": uri, "mimeType": "text/plain", "text": "This is the content of the static text resource."}]
        if uri == "test://static-binary":
            return [{"uri": uri, "mimeType": "image/png", "blob": PIXEL}]
        if uri == "test://template/123/data":
            content = '{"id":"123","templateTest":true,"data":"Data for ID: 123"}'
            return [{"uri": uri, "mimeType": "application/json", "text": content}]
        return None


fixture = csrf_exempt(Mcp(Catalogue(sources=(Fixed(fixtures),), resources=Resources(), prompts=Prompts())).__call__)
urlpatterns = [path("mcp-fixtures", fixture), *own]
