"""Runs a command in a container of an image that `executors.docker.images` lists, from its creation to its removal."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, ClassVar, Final

from django.conf import settings

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Stopped
from llmkeys.masker import masked_here
from tasks.executors.command.guarded_process import LineLog, text_of
from tasks.executors.docker import folder
from tasks.executors.docker.daemon import NOT_FOUND, Daemon, DaemonRefused, connected
from tasks.executors.docker.order import (
    ATTEMPT,
    INSTALLATION,
    RUN,
    TASK,
    Order,
    check_image,
    check_limits,
    check_save,
    description,
    labels,
    order_of,
    refused,
)
from tasks.rules.files import FILE_SCHEMA
from tasks.rules.places import places_in

HEADER_BYTES: Final = 8
"""One byte for the stream, three that are zero, and the size of the payload in four."""
PAUSE_SECONDS: Final = 0.01
"""Between two reads, so that many small writes of the container cost the worker no more than one."""
SHOWN_CHARACTERS: Final = 2_000
KILLED: Final = 128 + signal.SIGKILL
"""The exit code of a container that SIGKILL ended."""
DOUBTED_SECONDS: Final = 0.5
DOUBT: Final = (
    "It ended after {seconds:.2f} s, and no output of it arrived. On a busy machine Docker sometimes loses the output of "
    "containers that end so soon. End the command with `sleep 1` if you need it."
)
TEXT: Json = {"type": "string"}
SECONDS: Json = {"type": "number", "exclusiveMinimum": 0}
OF_THE_OPERATOR: Final = {
    "network": "executors.docker.network",
    "privileged": "no container is",
    "user": "executors.docker.user",
    "volumes": "nothing of the host is mounted",
}


class Output:
    """The standard output and error of a container, in the order of their arrival. The first lines are published."""

    def __init__(self, *, most_bytes: int, log: Callable[[str], None]) -> None:
        self.is_flooding = False
        self._kept = bytearray()
        self._most_bytes = most_bytes
        self._lines = LineLog(log)
        self._header = b""
        self._left = 0

    @property
    def text(self) -> str:
        return text_of(self._kept)

    def feed(self, chunk: bytes) -> None:
        """Take a piece of the stream, which may end anywhere."""
        data, at, parts = self._header + chunk, 0, []
        while at < len(data):
            if self._left:
                part = data[at : at + self._left]
                parts.append(part)
                at += len(part)
                self._left -= len(part)
            elif len(data) - at < HEADER_BYTES:
                break
            else:
                self._left = int.from_bytes(data[at + 4 : at + HEADER_BYTES], "big")
                at += HEADER_BYTES
        self._header = data[at:]
        payload = b"".join(parts)
        room = self._most_bytes - len(self._kept)
        self.is_flooding = self.is_flooding or len(payload) > room
        self._kept += payload[:room]
        self._lines.feed(payload[:room])

    def close(self) -> None:
        """Publish a last line without a line end."""
        self._lines.close()


async def run(order: Order, context: Context, output: Output) -> tuple[Mapping[str, Any], Json]:
    """Run the container and return its `State`, or an empty one if it was stopped because it wrote too much, and the files to return.

    However this ends, the container is killed and removed. Raises ExecutorError.
    """
    try:
        async with connected() as daemon:
            ours = labels(context)  # containers of earlier attempts, whose worker died; one attempt may have several
            for found in await daemon.labelled(*(f"{name}={ours[name]}" for name in (INSTALLATION, TASK))):
                if any(found["Labels"].get(name) != ours[name] for name in (RUN, ATTEMPT)):
                    await daemon.remove(found["Id"])
            async with _created(daemon, order, context) as name, daemon.attached(name) as frames:
                if order.files is not None:
                    await folder.fill(daemon, name, order.files, context.files, saves=order.saves)
                await context.begin()
                await daemon.start(name)
                async for chunk in frames:
                    output.feed(chunk)
                    if output.is_flooding:
                        return {}, {}
                    await asyncio.sleep(PAUSE_SECONDS)
                state = await daemon.ended(name)
                if not order.saves or state["ExitCode"]:
                    return state, {}
                return state, {"files": await folder.saved(daemon, name, context.files)}
    except DaemonRefused as refused:
        if refused.status == NOT_FOUND and "image" in refused.message.lower():
            raise ExecutorError(
                f"The image '{order.image}' is not on the worker's machine. The operator has to pull it (docker pull {order.image}), "
                f"or set executors.docker.pull to 'missing'. Docker says: {refused.message}",
                permanent=True,
            ) from None
        is_ours = 400 <= refused.status < 500
        raise ExecutorError(f"Docker did not run '{order.image}': {refused.message}", permanent=is_ours) from None
    finally:
        output.close()


@asynccontextmanager
async def _created(daemon: Daemon, order: Order, context: Context) -> AsyncIterator[str]:
    """Yield the name of a container that has not started."""
    name, what = f"aipartnerupflow-{uuid.uuid4()}", description(order, context)
    try:
        try:
            await daemon.create(name, what)
        except DaemonRefused as refused:
            if refused.status != NOT_FOUND or settings.APFLOW.executors.docker.pull != "missing":
                raise
            context.log(f"Pulling the image {order.image}")
            await daemon.pull(order.image)
            await daemon.create(name, what)
        yield name
    finally:
        await daemon.remove(name)


class Docker(Executor):
    """Runs one container. It is killed and removed when the task ends, however that ends."""

    id = "docker_executor"
    name = "Docker container"
    description = (
        "Runs a command in a container of an image that the operator allows, without privileges, mounts and, by default, "
        "network. An exit code other than 0 is a failure. Time, memory, processors and processes are limited."
    )
    tags = ("core", "code")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "image": {"type": "string", "minLength": 1, "description": "As in executors.docker.images"},
            "command": {
                "anyOf": [{"type": "array", "items": TEXT, "minItems": 1}, {"type": "string", "minLength": 1}],
                "description": "A program and its arguments. A string is split as in a shell. Default: what the image runs",
            },
            "env": {
                "type": "object",
                "additionalProperties": TEXT,
                "default": {},
                "description": "Environment variables of the container",
            },
            "working_dir": {
                "type": "string",
                "minLength": 1,
                "description": "A folder of the image. With files: /task",
            },
            "files": {
                "type": "object",
                "additionalProperties": FILE_SCHEMA,
                "default": {},
                "description": "Files by name: the container finds them in /task/in, and works in /task",
            },
            "save": {
                "type": "boolean",
                "default": False,
                "description": "Save the files that a successful container leaves in /task/out, if the operator allows it",
            },
            "memory": {
                "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "minLength": 1}],
                "description": "In bytes, or with a unit, such as 512m or 1g. Default and maximum: the server's settings",
            },
            "cpus": {
                "type": "number",
                "minimum": 0.01,
                "description": "Processors, such as 0.5. Default and maximum: the server's settings",
            },
            "timeout_seconds": {**SECONDS, "description": "Default and maximum: the server's setting"},
            "timeout": {**SECONDS, "description": "An older name of `timeout_seconds`"},
        },
        "required": ["image"],
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "exit_code": {"type": ["integer", "null"], "description": "null if the container was stopped"},
            "logs": {
                "type": "string",
                "description": "Output and error output, in the order of their arrival. Bytes that are not UTF-8 are replaced",
            },
            "files": {
                "type": "object",
                "additionalProperties": FILE_SCHEMA,
                "description": "With `save`: the files in /task/out, by name",
            },
        },
        "required": ["exit_code", "logs"],
    }
    secret_inputs = frozenset({"env"})
    param_names = frozenset()
    example: ClassVar[Json] = {"image": "busybox:1.37", "command": ["sh", "-c", "echo $((6 * 7))"]}
    example_result: ClassVar[Json] = {"exit_code": 0, "logs": "42\n"}
    idempotent = False
    begins_itself = True
    pool = "process"  # its places also limit how many containers run at a time, and share them between users

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        for name in sorted(OF_THE_OPERATOR.keys() & inputs.keys()):
            raise refused(name, f"is not an input ({OF_THE_OPERATOR[name]}). Remove it")
        if isinstance(command := inputs.get("command"), str) and next(places_in(command, "command"), None):
            raise refused(
                "command", "has places like {{id.path}}, so it must be a list: each value is then one argument"
            )
        image = inputs.get("image")
        if isinstance(image, str) and next(places_in(image, "image"), None) is None:
            check_image(image)
        check_limits(inputs)
        check_save(inputs)

    async def execute(self, inputs: Json, context: Context) -> Json:
        order = order_of(inputs)
        output = Output(most_bytes=settings.APFLOW.limits.result_bytes, log=context.log)
        try:
            async with asyncio.timeout(order.seconds):
                state, files = await run(order, context, output)
        except TimeoutError:
            raise _failed(order, output, f"was stopped: it took more than {order.seconds:g} s") from None
        except asyncio.CancelledError:
            raise Stopped(result={"exit_code": None, "logs": output.text}) from None
        check(state, order, output)
        if not output.text and (doubt := doubt_of(state)):
            context.log(doubt)
        return {"exit_code": state["ExitCode"], "logs": output.text} | files


def doubt_of(state: Mapping[str, Any]) -> str:
    """Return a warning about a container without output, from its `State`: Docker may have lost it. Empty if that is not likely."""
    started, finished = (datetime.fromisoformat(state[name]) for name in ("StartedAt", "FinishedAt"))
    seconds = (finished - started).total_seconds()
    return DOUBT.format(seconds=seconds) if seconds < DOUBTED_SECONDS else ""


def check(state: Mapping[str, Any], order: Order, output: Output) -> None:
    """Raise ExecutorError unless the container ended by itself and with exit code 0."""
    if output.is_flooding:
        why = "was stopped: it printed more than a result may have (limits.result_bytes)"
        raise _failed(order, output, why, permanent=True)
    needed = (
        f"needed more than {order.memory_bytes / 2**20:g} MiB of memory (inputs.memory, up to "
        "executors.docker.max_memory_bytes)"
    )
    if state["ExitCode"] and state["OOMKilled"]:
        raise _failed(order, output, f"was killed, because it {needed}", permanent=True)
    if state["ExitCode"] == KILLED:  # the kernel's notice can be lost before it reaches Docker
        raise _failed(
            order, output, f"was killed (code {KILLED}). It may have {needed}; Docker does not always report this"
        )
    if state["ExitCode"]:
        raise _failed(order, output, f"ended with code {state['ExitCode']}")


def _failed(order: Order, output: Output, why: str, *, permanent: bool = False) -> ExecutorError:
    words = masked_here(output.text)[-SHOWN_CHARACTERS:].strip()
    end = f" Its logs end with: {words}" if words else " No output of it arrived."
    return ExecutorError(f"The container of '{order.image}' {why}.{end}", permanent=permanent)
