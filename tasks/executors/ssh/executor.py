"""Runs a command on a host that `executors.ssh.hosts` names."""

import asyncio
import shlex
from typing import TYPE_CHECKING, ClassVar, Final

from django.conf import settings

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Stopped
from llmkeys.masker import masked_here
from tasks.executors.command.guarded_process import text_of
from tasks.executors.llm.loading import load
from tasks.executors.timeouts import timeout_of, timeout_schema
from tasks.rules.files import FILE_SCHEMA
from tasks.rules.places import places_in

if TYPE_CHECKING:
    from tasks.executors.ssh.session import Session

TIMEOUT_SECONDS: Final = 30
LONGEST_SECONDS: Final = 3600
SHOWN_CHARACTERS: Final = 2_000
OF_THE_OPERATOR: Final = frozenset({"username", "password", "key_file", "port"})


class Ssh(Executor):
    """Runs one command. The remote process is stopped when the task is, unless the host lets it continue."""

    id = "ssh_executor"
    name = "SSH command"
    description = (
        "Runs a command on a host that the operator names, as a user that the operator chooses, and returns its output. "
        "An exit code other than 0 is a failure."
    )
    tags = ("core", "code")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "host": {"type": "string", "minLength": 1, "description": "A name of executors.ssh.hosts"},
            "command": {
                "anyOf": [
                    {"type": "array", "items": {"type": "string"}, "minItems": 1},
                    {"type": "string", "minLength": 1},
                ],
                "description": "A program and its arguments, which are quoted, or a line for the shell of the host",
            },
            "files": {
                "type": "object",
                "additionalProperties": FILE_SCHEMA,
                "default": {},
                "description": "Files by name: the command finds them in the folder `in` of a temporary folder, in which it runs",
            },
            "save": {
                "type": "boolean",
                "default": False,
                "description": "Save the files that a successful command leaves in the folder `out` of its temporary folder",
            },
            **timeout_schema(TIMEOUT_SECONDS, longest=LONGEST_SECONDS),
        },
        "required": ["host", "command"],
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "return_code": {"type": ["integer", "null"], "description": "null if the command was stopped"},
            "stdout": {"type": "string", "description": "Bytes that are not UTF-8 are replaced"},
            "stderr": {"type": "string", "description": "The error output"},
            "files": {
                "type": "object",
                "additionalProperties": FILE_SCHEMA,
                "description": "With `save`: the files in `out`, by name",
            },
        },
        "required": ["return_code", "stdout", "stderr"],
    }
    param_names = frozenset()
    example: ClassVar[Json] = {"host": "build", "command": ["uname", "-s"]}
    example_result: ClassVar[Json] = {"return_code": 0, "stdout": "Linux\n", "stderr": ""}
    idempotent = False
    begins_itself = True
    pool = "thread"  # a host may send many small packets, each of which takes processor time
    extra = "ssh"

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        for name in sorted(OF_THE_OPERATOR & inputs.keys()):
            raise _refused(name, "is set by the operator (executors.ssh in the settings). Remove it")
        if isinstance(command := inputs.get("command"), str) and next(places_in(command, "command"), None):
            raise _refused(
                "command",
                "has places like {{id.path}}, which the shell of the host would read too. Give a list: each value is then quoted",
            )
        host = inputs.get("host")
        if isinstance(host, str) and next(places_in(host, "host"), None) is None:
            _check_host(host)

    async def execute(self, inputs: Json, context: Context) -> Json:
        host, seconds = inputs["host"], timeout_of(inputs, TIMEOUT_SECONDS)
        _check_host(host)
        command = inputs["command"]
        line = command if isinstance(command, str) else shlex.join(command)
        if "\0" in line:
            raise _refused("command", "contains the character NUL, which would end the line")
        given, saves = inputs.get("files", {}), inputs.get("save", False)
        files = context.files if given or saves else None
        running = await load("tasks.executors.ssh.session.running")
        async with running(host, line, log=context.log, begin=context.begin, given=given, files=files) as session:
            try:
                is_in_time = await session.has_ended(within_seconds=seconds)
            except asyncio.CancelledError:
                await session.stop(is_forced=context.is_forced())
                raise Stopped(result=_result(session)) from None
            if not is_in_time or session.is_flooding:
                await session.stop(is_forced=False)
            _check(session, host, seconds=seconds, is_in_time=is_in_time)
            saved = {"files": await session.folder.saved()} if saves else {}
        return _result(session) | saved


def _check_host(host: str) -> None:
    hosts = settings.APFLOW.executors.ssh.hosts or {}
    if host not in hosts:
        raise _refused(
            "host", f"there is no host '{host[:100]}'. Hosts (executors.ssh.hosts): {', '.join(sorted(hosts))}"
        )


def _refused(name: str, why: str) -> ExecutorError:
    return ExecutorError(f"inputs.{name}: {why}.", permanent=True)


def _check(session: "Session", host: str, *, seconds: float, is_in_time: bool) -> None:
    """Raise ExecutorError unless the command ended by itself, in time and with code 0."""
    words = masked_here(text_of(session.stderr))[-SHOWN_CHARACTERS:].strip()
    said = f" Its stderr ends with: {words}" if words else " It printed nothing to stderr."
    what = f"The command on '{host}'"
    if session.is_flooding:
        raise ExecutorError(
            f"{what} was stopped: it printed more than a result may have (limits.result_bytes).{said}", permanent=True
        )
    if not is_in_time:
        raise ExecutorError(f"{what} was stopped: it took more than {seconds:g} s.{said}")
    if session.signal is not None:
        raise ExecutorError(f"{what} was ended by SIG{session.signal}.{said}")
    if session.return_code is None:
        raise ExecutorError(f"{what} did not end: the connection was lost. It may still run there.{said}")
    if session.return_code:
        raise ExecutorError(f"{what} ended with code {session.return_code}.{said}")


def _result(session: "Session") -> Json:
    return {
        "return_code": session.return_code,
        "stdout": text_of(session.stdout),
        "stderr": text_of(session.stderr),
    }
