"""Runs a program that `executors.command.allow` lists: never a shell, never another one."""

import asyncio
import os
import re
import shlex
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Final

from django.conf import settings

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Stopped, on_a_thread
from llmkeys.masker import masked_here
from tasks.executors.command import task_folder
from tasks.executors.command.guarded_process import Limits, Order, Running, running, text_of
from tasks.rules.files import FILE_SCHEMA
from tasks.rules.places import places_in

BASE_ENV: Final[Mapping[str, str]] = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
ENV_NAME: Final = re.compile(r"[A-Z_][A-Z0-9_]*")
#: Variables that make well-known programs run or load something else.
FORBIDDEN_ENV: Final = re.compile(
    r"(LD|DYLD|GLIBC|MALLOC|OPENSSL|NODE|NPM|LUA|JAVA|_JAVA|JDK|GIT|XDG|SYSTEMD|SUDO|DOCKER)_.*"
    r"|(PYTHON|PERL|RUBY|BASH|LESS|AWK).*|.*_(PAGER|EDITOR|ASKPASS|RSH|SSH|PRELOAD|OPTIONS)"
    r"|ENV|IFS|PATH|HOME|TMPDIR|SHELL|SHELLOPTS|CDPATH|FPATH|ZDOTDIR|PS[0-4]|PROMPT_COMMAND|CLASSPATH"
    r"|PAGER|MANPAGER|MANOPT|EDITOR|VISUAL|BROWSER|TERMINFO|TERMINFO_DIRS|MAKEFLAGS|GNUMAKEFLAGS|MAKEFILES"
    r"|GCONV_PATH|LOCPATH|NLSPATH|HOSTALIASES|LOCALDOMAIN"
)
LIMIT_OF_SIGNAL: Final[Mapping[int, str]] = {signal.SIGXCPU: "cpu_seconds", signal.SIGXFSZ: "file_bytes"}
SHOWN_CHARACTERS: Final = 2_000
TEXT: Json = {"type": "string"}


class Command(Executor):
    """Runs one program from start to end.

    No process that it started outlives the task, however the task ends.
    """

    id = "command_executor"
    name = "Command"
    description = (
        "Runs a program that the operator allows, without a shell, and returns its output. "
        "An exit code other than 0 is a failure. Time, output, memory, processes and files are limited."
    )
    tags = ("core", "code")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "argv": {
                "anyOf": [{"type": "array", "items": TEXT, "minItems": 1}, {"type": "string", "minLength": 1}],
                "description": "The program's absolute path and its arguments. A string is split as in a shell",
            },
            "cwd": {
                "type": "string",
                "description": "A folder that the operator allows. Default: a new temporary folder",
            },
            "env": {
                "type": "object",
                "additionalProperties": TEXT,
                "default": {},
                "description": "Environment variables of the command, besides PATH, LANG and the like",
            },
            "stdin": {"type": "string", "default": ""},
            "files": {
                "type": "object",
                "additionalProperties": FILE_SCHEMA,
                "default": {},
                "description": "Files by name: the command finds them in the folder `in` of its temporary folder",
            },
            "save": {
                "type": "boolean",
                "default": False,
                "description": "Save the files that a successful command leaves in the folder `out` of its temporary folder",
            },
            "timeout_seconds": {
                "type": "number",
                "exclusiveMinimum": 0,
                "description": "Default and maximum: the server's setting",
            },
        },
        "required": ["argv"],
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "return_code": {"type": ["integer", "null"], "description": "null if the program was stopped"},
            "stdout": {"type": "string", "description": "Bytes that are not UTF-8 are replaced"},
            "stderr": {"type": "string", "description": "Bytes that are not UTF-8 are replaced"},
            "files": {
                "type": "object",
                "additionalProperties": FILE_SCHEMA,
                "description": "With `save`: the files in `out`, by name",
            },
        },
        "required": ["return_code", "stdout", "stderr"],
    }
    param_names = frozenset()
    example: ClassVar[Json] = {"argv": ["/usr/bin/uname", "-s"]}
    example_result: ClassVar[Json] = {"return_code": 0, "stdout": "Linux\n", "stderr": ""}
    idempotent = False
    begins_itself = True

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        """Refuse a command line with places: what is filled in would be split, too."""
        if isinstance(argv := inputs.get("argv"), str) and next(places_in(argv, "argv"), None):
            raise _refused("`argv` has places like {{id.path}}, so it must be a list: each value is then one argument")

    async def execute(self, inputs: Json, context: Context) -> Json:
        longest: int = settings.APFLOW_COMMAND.timeout_seconds
        seconds: float = inputs.get("timeout_seconds", longest)
        if seconds > longest:
            raise _refused(f"`timeout_seconds` may be at most {longest} (executors.command.timeout_seconds)")
        async with _fresh_folder() as home:
            if "files" in inputs or "save" in inputs:
                await task_folder.fill(home, inputs.get("files", {}), context.files)
            async with _ready_within(seconds) as deadline:
                order = await asyncio.to_thread(_order, inputs, home)
                async with running(order, log=context.log, begin=context.begin) as command:
                    when = deadline.when()
                    assert when is not None  # noqa: S101  (it is disarmed only here: the guard stops the command instead)
                    deadline.reschedule(None)
                    left = max(0.0, when - asyncio.get_running_loop().time())
                    try:
                        is_in_time = await command.has_ended(within_seconds=left)
                    except asyncio.CancelledError:
                        await command.stop(is_forced=context.is_forced)
                        raise Stopped(result=_result(command)) from None
                    if not is_in_time:
                        await command.stop(is_forced=lambda: False)
                        raise ExecutorError(
                            f"The command was stopped: it took more than {seconds:g} s.{_last_words(command)}"
                        )
            _check(command, order)
            saved = {"files": await task_folder.saved(home, context.files)} if inputs.get("save") else {}
        return _result(command) | saved


@asynccontextmanager
async def _ready_within(seconds: float) -> AsyncIterator[asyncio.Timeout]:
    """Raise ExecutorError unless the deadline is disarmed in time."""
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            yield deadline
    except TimeoutError:
        if not deadline.expired():
            raise
        raise ExecutorError(
            f"The command was not started: it was not ready within {seconds:g} s. Execute the task again."
        ) from None


@asynccontextmanager
async def _fresh_folder() -> AsyncIterator[str]:
    folder = TemporaryDirectory(prefix="apflow-command-", ignore_cleanup_errors=True)
    try:
        yield folder.name
    finally:
        # On its own thread: a full thread pool may be the reason why the command was not started.
        await asyncio.wrap_future(on_a_thread(folder.cleanup, name="cleanup"))


# Validation of the inputs. These raise ExecutorError, and rely on nothing that the task could
# change later.


def _order(inputs: Json, home: str) -> Order:
    rules = settings.APFLOW_COMMAND
    given = inputs["argv"]
    try:
        argv = shlex.split(given) if isinstance(given, str) else list(given)
    except ValueError as error:
        raise _refused(f"`argv` cannot be split: {error}. Give a list, which needs no quotes") from error
    if not argv:
        raise _refused("`argv` is empty. Give the absolute path of a program, and its arguments")
    for argument in argv:
        _check_text(argument, "`argv`")
    env: Mapping[str, str] = inputs.get("env", {})
    for name, value in env.items():
        if not ENV_NAME.fullmatch(name) or FORBIDDEN_ENV.fullmatch(name):
            raise _refused(
                f"`env` may not set {_short(name)}. Names have A to Z, 0 to 9 and _, "
                "and are none that change what a program loads or runs"
            )
        _check_text(value, f"`env`: {name}")
    return Order(
        program=_program(argv[0]),
        argv=argv,
        home=home,
        cwd=_cwd(inputs["cwd"]) if "cwd" in inputs else home,
        writable=rules.folders,
        readable=rules.readable,
        env={**BASE_ENV, "HOME": home, "TMPDIR": home, **env},
        stdin=inputs.get("stdin", ""),
        limits=Limits(
            cpu_seconds=rules.cpu_seconds,
            memory_bytes=rules.memory_bytes,
            file_bytes=rules.file_bytes,
            processes=rules.processes,
            output_bytes=rules.output_bytes,
        ),
    )


def _check_text(text: str, place: str) -> None:
    if "\0" in text:
        raise _refused(f"{place} contains the character NUL, which would end the text. Pass such data through `stdin`")


def _program(name: str) -> str:
    """Return the file to execute: the current target of an allowed path."""
    rules = settings.APFLOW_COMMAND
    if name not in rules.allow:
        raise _refused(
            f"{_short(name)} is not allowed. Allowed programs (executors.command.allow): {', '.join(rules.allow)}"
        )
    program = os.path.realpath(name)
    if any(_is_in(program, folder) for folder in rules.folders):
        raise _refused(
            f"{name} is in one of executors.command.folders, where tasks could replace it. Move it elsewhere"
        )
    return program


def _cwd(given: str) -> str:
    _check_text(given, "`cwd`")
    cwd = os.path.realpath(given)
    folders: Sequence[str] = settings.APFLOW_COMMAND.folders
    if not Path(given).is_absolute() or not any(_is_in(cwd, folder) for folder in folders):
        allowed = ", ".join(folders) or "none; omit `cwd` to get a new folder"
        raise _refused(
            f"`cwd` {_short(given)} is not allowed. Allowed folders, with all below (executors.command.folders): {allowed}"
        )
    if not Path(cwd).is_dir():
        raise _refused(f"`cwd`: there is no folder {_short(given)}")
    return cwd


def _is_in(path: str, folder: str) -> bool:
    """Return whether the path is in the folder. `path` has no links any more; the folder may be a link."""
    folder = os.path.realpath(folder)
    return os.path.commonpath([path, folder]) == folder


def _refused(reason: str) -> ExecutorError:
    return ExecutorError(f"{reason}.", permanent=True)


def _short(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:200]}…")


# The outcome.


def _check(command: Running, order: Order) -> None:
    """Raise ExecutorError unless the program ended within its limits and with exit code 0."""
    name, report = order.argv[0], command.report
    if "refused" in report:
        raise _refused(f"{name} could not be started: {os.strerror(report['refused'])}")
    if command.is_flooding:
        limit = f"{order.limits.output_bytes} bytes (executors.command.output_bytes)"
        raise ExecutorError(f"{name} was stopped: it printed more than {limit}.{_last_words(command)}", permanent=True)
    if "crowded" in report:
        limit = f"{order.limits.processes} processes at once (executors.command.processes)"
        raise _refused(f"{name} was stopped: it had more than {limit}")
    if command.return_code is None:
        raise ExecutorError(f"{name} was killed from outside.{_last_words(command)}")
    if command.return_code:
        code = command.return_code
        ending = f"ended with code {code}"
        if code < 0:
            limit = f" (executors.command.{LIMIT_OF_SIGNAL[-code]})" if -code in LIMIT_OF_SIGNAL else ""
            ending = f"was ended by {signal.Signals(-code).name if -code in set(signal.Signals) else f'signal {-code}'}{limit}"
        raise ExecutorError(f"{name} {ending}.{_last_words(command)}")


def _last_words(command: Running) -> str:
    words = masked_here(text_of(command.stderr))[-SHOWN_CHARACTERS:].strip()
    return f" Its stderr ends with: {words}" if words else " It printed nothing to stderr."


def _result(command: Running) -> Json:
    return {
        "return_code": command.return_code,
        "stdout": text_of(command.stdout),
        "stderr": text_of(command.stderr),
    }
