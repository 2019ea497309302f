"""Delegates work to another A2A agent, of A2A 1.0 or 0.3, and follows it."""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, ClassVar, Final

from django.conf import settings

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Parked, Stopped
from llmkeys.secret import Secret
from tasks.executors.a2a_client.agents import Agents
from tasks.executors.a2a_client.client import Client, Progress, progress_of
from tasks.executors.a2a_client.files import sent_files, with_saved
from tasks.executors.http.rest import AUTH, SECRET, auth_headers, merged_headers
from tasks.executors.http.safe_http import parse_url
from tasks.rules.a2a_versions import AUTH_REQUIRED, COMPLETED, REJECTED, TERMINAL, options_line
from tasks.rules.files import FILE_SCHEMA
from tasks.rules.templates import CannotFill, Filler
from tasks.telemetry import tracing

NAMES: Final = uuid.UUID("6a0c8f6e-9d0b-5e55-8f5a-3c1d7f0e2a2a")
"""The namespace of our message ids."""
FIRST_WAIT_SECONDS: Final = 0.5
LONGEST_WAIT_SECONDS: Final = 15.0
PATIENCE_SECONDS: Final = 180.0
"""The seconds that an agent may be unreachable while it works for us."""
CANCEL_SECONDS: Final = 1.5


class A2a(Executor):
    """Sends one message to an agent and waits for the result: by stream if possible, else by
    polling.
    """

    id = "a2a_executor"
    name = "A2A agent"
    description = (
        "Sends a message to another A2A agent (1.0 or 0.3, over JSON-RPC or HTTP+JSON) and waits for the result. The agent's progress and "
        "questions become those of this task, and cancelling this task cancels the agent's task. The message may contain {{path}}: an "
        "input, or the result of a dependency. Private addresses require the operator's permission."
    )
    tags = ("ai", "a2a", "http")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "agent_url": {
                "type": "string",
                "minLength": 1,
                "maxLength": 8192,
                "description": "URL of the agent. Its card is at /.well-known/agent-card.json below it, or at the URL itself if that ends in .json",
            },
            "message": {"type": "string", "minLength": 1, "description": "Text for the agent"},
            "data": {"description": "Any JSON value for the agent, instead of or with `message`"},
            "files": {
                "type": "array",
                "items": FILE_SCHEMA,
                "maxItems": 16,
                "description": "Files for the agent, with `message` or `data`: together at most 6 MiB, which are sent in base64",
            },
            "save": {
                "type": "boolean",
                "default": False,
                "description": "Save the files in the agent's artifacts, or in its message, instead of returning base64 or URLs",
            },
            "metadata": {
                "type": "object",
                "description": 'Metadata of the message, such as {"skillId": …}',
            },
            "context_id": {
                "type": "string",
                "minLength": 1,
                "maxLength": 255,
                "description": "Continues a conversation",
            },
            "wait": {"type": "boolean", "default": True, "description": "false: do not wait for the result"},
            "auth": AUTH,
            "headers": {
                "type": "object",
                "additionalProperties": SECRET,
                "default": {},
                "description": "Added to each request to the agent",
            },
        },
        "required": ["agent_url"],
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "task": {
                "type": ["object", "null"],
                "description": "The agent's Task in the format of A2A 1.0; null if it only sent a message",
            },
            "artifacts": {
                "type": "array",
                "items": {"type": "object"},
                "description": "The agent's artifacts, in the same format",
            },
            "text": {
                "type": "string",
                "description": "The text of the last artifact that has text, or of the agent's message",
            },
            "message": {"type": "object", "description": "The agent's message, if it created no Task"},
            "files": {"type": "array", "items": FILE_SCHEMA, "description": "With `save`: the files, in their order"},
        },
        "required": ["task", "artifacts", "text"],
    }
    templates = frozenset({"message"})
    secret_inputs = frozenset({"auth", "headers"})
    param_names = frozenset()
    example: ClassVar[Json] = {"agent_url": "https://agent.example.com", "message": "Plan a day in Lisbon."}
    answer = "text"
    example_result: ClassVar[Json] = {
        "task": None,
        "artifacts": [],
        "text": "Start at the castle, have lunch in Alfama, and watch the sun set over the river.",
    }

    def __init__(self) -> None:
        self._agents = Agents()

    async def execute(self, inputs: Json, context: Context) -> Json:
        parts = _parts(inputs)
        if inputs.get("files") and context.reply is None:
            parts += await sent_files(inputs["files"], context.files)
        known_id = context.reply.memo["task_id"] if context.reply else None
        errand = RemoteTask(await self._line(inputs), context, task_id=known_id)
        try:
            await (errand.begin(inputs, parts) if context.reply is None else errand.go_on())
            if inputs.get("wait", True):
                await errand.follow()
        except asyncio.CancelledError:
            if context.is_given_up():
                raise  # the agent continues: the next worker sends the same message, and finds its task
            raise Stopped(result=await errand.call_off()) from None
        result = errand.outcome() if inputs.get("wait", True) else errand.progress.result()
        return await with_saved(result, context.files) if inputs.get("save") else result

    def receiver(self, inputs: Json) -> str | None:
        """Credentials never go to another host than that of the card (`agents.Agents.find`)."""
        return str(inputs.get("agent_url"))

    async def call_off(self, inputs: Json, context: Context, *, memo: Any) -> Json:
        return await RemoteTask(await self._line(inputs), context, task_id=memo["task_id"]).call_off()

    async def _line(self, inputs: Json) -> Client:
        auth = inputs.get("auth", {})
        credentials = merged_headers({}, inputs.get("headers", {}), auth_headers(auth))
        given = [auth.get("bearer"), auth.get("basic", {}).get("password"), auth.get("apikey", {}).get("value")]
        secrets = [Secret(text) for text in (*filter(None, given), *credentials.values())]
        agent = await self._agents.find(inputs["agent_url"], credentials=credentials)
        url = parse_url(agent.url)
        tracing.note({"gen_ai.agent.name": agent.name} | tracing.server(url.scheme, url.host, url.port))
        return Client(agent, credentials=credentials, secrets=secrets)


class RemoteTask:
    """The work of an agent for one of our tasks.

    `task_id` is the agent's id of it, if already known.
    """

    def __init__(self, line: Client, context: Context, *, task_id: str | None) -> None:
        self.progress = Progress()
        self._known_id = task_id
        self._line = line
        self._context = context

    async def begin(self, inputs: Json, parts: list[Json]) -> None:
        """Send the message.

        If an earlier attempt, whose worker died, has sent it, continue from its state.
        """
        message: Json = {"parts": parts}
        message |= {"metadata": inputs["metadata"]} if "metadata" in inputs else {}
        message |= {"contextId": inputs["context_id"]} if "context_id" in inputs else {}
        is_first_news = await self._send(message, name="0", waits=inputs.get("wait", True))
        if self._context.attempt > 1 and is_first_news and self.progress.state in TERMINAL - {COMPLETED}:
            # The agent recognizes the message and returns its failed task, but this attempt has to
            # try again.
            self.progress = Progress()
            await self._send(message, name=f"0/{self._context.attempt}", waits=inputs.get("wait", True))

    async def go_on(self) -> None:
        """Send the answer to the agent's question, if the agent still waits for it."""
        reply = self._context.reply
        assert reply is not None  # noqa: S101  (the caller checks)
        memo = reply.memo
        await self._look(memo["task_id"])
        if not self.progress.is_interrupted:
            return
        answer = {"text": reply.answer} if isinstance(reply.answer, str) else {"data": reply.answer}
        about = {name: memo[kept] for name, kept in (("taskId", "task_id"), ("contextId", "context_id")) if memo[kept]}
        await self._send(about | {"parts": [answer], "metadata": memo["metadata"]}, name=str(memo["turn"]), waits=True)
        if self.progress.is_interrupted:  # a further question, or the agent has not processed the answer yet
            await asyncio.sleep(FIRST_WAIT_SECONDS)
            await self._look(memo["task_id"])

    async def _send(self, message: Json, *, name: str, waits: bool) -> bool:
        """Send a message. Returns whether the agent's first response was its last."""
        message_id = str(uuid.uuid5(NAMES, f"{self._context.run_id}/{self._context.task_id}/{name}"))
        params = {
            "message": {"messageId": message_id, "role": "ROLE_USER"} | message,
            # Do not keep the request open: the task id is then known at once, for cancelling, and
            # the task may take hours.
            "configuration": {"returnImmediately": True},
        }
        if not (waits and self._line.agent.streams):
            self._take(await self._line.send(params, key=message_id))
            return True
        stream = self._line.stream("SendStreamingMessage", params, key=message_id)
        return await self._hear(stream, is_answer="taskId" in message) == 1

    async def follow(self) -> None:
        """Return when the task is over or the agent asks a question.

        Raises ExecutorError if it is unreachable for too long.
        """
        wait_seconds, can_subscribe = FIRST_WAIT_SECONDS, self._line.agent.streams
        while not self.progress.is_settled:
            task_id = self.progress.task_id
            if task_id is None:
                raise ExecutorError(f"The agent '{self._line.agent.name}' ended its response without sending anything.")
            await asyncio.sleep(wait_seconds)
            wait_seconds = _longer(wait_seconds)
            await self._look(task_id)
            if can_subscribe and not self.progress.is_settled:
                try:
                    await self._hear(self._line.stream("SubscribeToTask", {"id": task_id}))
                except ExecutorError as error:
                    can_subscribe = not error.permanent

    async def _look(self, task_id: str) -> None:
        """Fetch the task; retry until the agent responds or has been unreachable for too long."""
        now = asyncio.get_running_loop().time
        deadline, wait_seconds = now() + PATIENCE_SECONDS, FIRST_WAIT_SECONDS
        while True:
            try:
                return self._take(await self._line.get(task_id))
            except ExecutorError as error:
                if error.permanent or now() > deadline:
                    raise
            await asyncio.sleep(wait_seconds)
            wait_seconds = _longer(wait_seconds)

    async def _hear(self, stream: AsyncGenerator[Json], *, is_answer: bool = False) -> int:
        """Process responses until no further one is expected. Returns their number.

        `is_answer`: the first response may still show the task waiting for this message.
        """
        count = 0
        try:
            async with aclosing(stream) as responses:
                async for response in responses:
                    count += 1
                    self._take(response)
                    is_stale = is_answer and count == 1 and self.progress.is_interrupted
                    if self.progress.is_settled and not is_stale:
                        break
        except ExecutorError:
            if count == 0:
                raise
        return count  # a broken stream does not end the task: `follow` continues

    def _take(self, response: Json) -> None:
        self.progress.take(response)
        fraction, text = progress_of(response)
        if fraction is not None:
            self._context.report(fraction, text)
        elif text and not self.progress.is_settled:
            self._context.log(text)

    async def call_off(self) -> Json:
        """Cancel the agent's task, within CANCEL_SECONDS, and return its result so far."""
        task_id = self.progress.task_id or self._known_id
        if task_id is not None and not self.progress.is_over:
            try:
                async with asyncio.timeout(CANCEL_SECONDS):
                    self.progress.take(await self._line.cancel(task_id))
            except (ExecutorError, TimeoutError) as error:
                why = str(error) or f"no answer within {CANCEL_SECONDS:g} s"
                self._context.log(f"Could not cancel the agent's task {task_id}, which may still be running. {why}")
        return self.progress.result()

    def outcome(self) -> Json:
        """Return the result.

        Raises Parked if the agent asks a question, ExecutorError if the task did not complete.
        """
        if self.progress.message is not None or self.progress.state == COMPLETED:
            return self.progress.result()
        if self.progress.is_interrupted:
            raise self._question()
        state = self.progress.state.removeprefix("TASK_STATE_").lower()
        raise ExecutorError(
            f"The agent '{self._line.agent.name}' has {state} the task {self.progress.task_id}"
            + (f": {self.progress.said[:2000]}" if self.progress.said else ", without giving a reason."),
            permanent=self.progress.state == REJECTED,
        )

    def _question(self) -> Parked:
        asked, reply = self.progress.question.get("metadata") or {}, self._context.reply
        text = self.progress.said[:10_000] or "The agent needs more input, but does not say which."
        if self.progress.state == AUTH_REQUIRED:
            text = (
                f"The agent needs a permission or a key. Give it to the agent directly, not here. Its message: {text}"
            )
        options = asked.get("options")
        is_choice = isinstance(options, list) and options and all(isinstance(option, str) for option in options)
        choices = options if is_choice else None
        return Parked(
            f"{self._line.agent.name}: {text.removesuffix(options_line(choices)) if choices else text}",
            options=choices,
            memo={
                "task_id": self.progress.task_id,
                "context_id": self.progress.task.get("contextId") if self.progress.task else None,
                "metadata": {"nodeId": asked["nodeId"]} if "nodeId" in asked else {},
                "turn": reply.memo["turn"] + 1 if reply else 1,
            },
        )


def _longer(wait_seconds: float) -> float:
    return min(1.5 * wait_seconds, LONGEST_WAIT_SECONDS)


def _parts(inputs: Json) -> list[Json]:
    """Return the parts of the message. Raises ExecutorError."""
    if "message" not in inputs and "data" not in inputs:
        raise ExecutorError("Give `message`, which is text, or `data`, or both.", permanent=True)
    values = {name: value for name, value in inputs.items() if name not in A2a.input_schema["properties"]}
    try:
        filler = Filler(values, max_characters=settings.APFLOW.limits.result_bytes)
        text = [{"text": filler.fill(inputs["message"])}] if "message" in inputs else []
    except CannotFill as error:
        raise ExecutorError(f"The template of the message cannot be filled: {error}.", permanent=True) from None
    return [*text, *([{"data": inputs["data"]}] if "data" in inputs else [])]
