"""Calls a tool of an MCP server, reads a resource, gets a prompt, or lists all of them."""

import asyncio
from typing import ClassVar, Final

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Parked
from tasks.executors.http.rest import AUTH, SECRET
from tasks.executors.mcp import offered
from tasks.executors.mcp.offered import is_safe
from tasks.executors.mcp.result_files import with_saved
from tasks.executors.mcp.servers import configured, is_url, target_of
from tasks.executors.mcp.session import NO, TEXT_CHARACTERS, YES, Answers, Asked, Hearing, opened
from tasks.executors.placement import chosen_pool
from tasks.rules.files import FILE_SCHEMA
from tasks.rules.places import has_places
from tasks.rules.pools import PROCESS, RAY

SECONDS: Final = 60
TEXT: Json = {"type": "string", "minLength": 1, "maxLength": 1024}


class Mcp(Executor):
    """Opens a session for each task, and closes it."""

    id = "mcp_executor"
    name = "MCP server"
    description = (
        "Calls a tool of an MCP server, reads a resource or gets a prompt. Servers are those that the operator configured, by name, or public "
        "URLs. Progress, log lines and questions of the server become those of this task; cancelling ends the call."
    )
    tags = ("ai", "mcp", "http")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "server": {
                "type": "string",
                "minLength": 1,
                "maxLength": 8192,
                "description": "The name of a server of the configuration, or the URL of one (Streamable HTTP)",
            },
            "operation": {"enum": list(offered.OPERATIONS), "default": offered.CALL_TOOL},
            "tool": {**TEXT, "description": "For call_tool: the name of the tool"},
            "arguments": {
                "type": "object",
                "default": {},
                "description": "The arguments of the tool or the prompt",
            },
            "uri": {**TEXT, "maxLength": 8192, "description": "For read_resource: the URI of the resource"},
            "prompt": {**TEXT, "description": "For get_prompt: the name of the prompt"},
            "save": {
                "type": "boolean",
                "default": False,
                "description": "Save the images, sounds and resources with bytes in the result as files, instead of returning base64",
            },
            "auth": {**AUTH, "description": "Credentials for a server by URL, or for one whose user_headers allow it"},
            "headers": {
                "type": "object",
                "additionalProperties": SECRET,
                "default": {},
                "description": "Added to each request to a server by URL, or to one whose user_headers allow them",
            },
            "timeout_seconds": {"type": "number", "exclusiveMinimum": 0, "maximum": 3600, "default": SECONDS},
        },
        "required": ["server"],
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "result": {
                "description": "The structured content that the tool returns, or else its text; the text of the resource; the messages of the prompt; the list",
            },
            "content": {
                "type": "array",
                "items": {"type": "object"},
                "description": "The parts in MCP's format, if one of them is no text: images, sounds, links",
            },
            "files": {"type": "array", "items": FILE_SCHEMA, "description": "With `save`: the files, in their order"},
        },
        "required": ["result"],
    }
    secret_inputs = frozenset({"auth", "headers", "arguments"})
    param_names = frozenset()
    example: ClassVar[Json] = {
        "server": "https://mcp.example.com/mcp",
        "tool": "forecast",
        "arguments": {"city": "Lisbon"},
    }
    example_result: ClassVar[Json] = {"result": {"city": "Lisbon", "degrees": 21}}
    idempotent = False
    begins_itself = True

    def may_repeat(self, inputs: Json) -> bool:
        """Return whether the operation reads only. For a tool, its server decides (`is_repeatable`)."""
        operation = offered.operation_in(inputs)
        return operation in offered.OPERATIONS and operation != offered.CALL_TOOL

    async def is_repeatable(self, inputs: Json, context: Context) -> bool:
        """Return whether the server says that the tool only reads, or that calling it again changes nothing."""
        async with opened(target_of(inputs)) as session:
            tools = await offered.listed(session, offered.LISTINGS["list_tools"])
        return any(is_safe(each) for each in tools if each.get("name") == inputs.get("tool"))

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        server = inputs.get("server")
        if isinstance(server, str) and not has_places(server) and not is_url(server):
            configured(server)
            if (pool := chosen_pool(self.id, params)) in (PROCESS, RAY):
                raise ExecutorError(
                    f"inputs.server: '{server}' is a server of the configuration, whose credentials stay with the workers, and the "
                    f"task runs in the pool '{pool}'. Choose another pool, or give the URL of a server.",
                    permanent=True,
                )
        offered.check(inputs)

    def receiver(self, inputs: Json) -> str | None:
        server = str(inputs.get("server"))
        if is_url(server):
            return server
        try:
            return configured(server).url or None
        except ExecutorError:
            return None

    async def execute(self, inputs: Json, context: Context) -> Json:
        offered.check(inputs)
        target = target_of(inputs)
        seconds = inputs.get("timeout_seconds", SECONDS)
        reply = context.reply
        answers = Answers(
            [] if reply is None else [*reply.memo["given"], reply.memo["open"] | {"answer": reply.answer}]
        )
        hearing = Hearing(
            report=context.report,
            log=context.log,
            answers=answers,
            begin=context.begin,
            key=context.idempotency_key,
        )
        try:
            async with asyncio.timeout(seconds), opened(target, hearing) as session:
                result: Json = await offered.result_of(session, inputs)
                if inputs.get("save"):
                    result = await with_saved(result, context.files)
                masked: Json = target.masked(result)
                return masked
        except Asked as asked:
            question = asked.question
            text = f"The MCP server '{target.name}' asks: {target.masked(question.message) or 'May it continue?'}"
            raise Parked(
                text[:TEXT_CHARACTERS],
                options=None if question.has_fields else [YES, NO],
                schema=question.form if question.has_fields else None,
                memo={"given": answers.given, "open": {"message": question.message, "schema": question.schema}},
            ) from None
        except TimeoutError:
            raise ExecutorError(
                f"The MCP server '{target.name}' did not answer within {seconds:g} s. Raise inputs.timeout_seconds if it needs longer."
            ) from None
