"""What may be run as a command, and what comes of it; that it ends is tested in `test_guarded`."""

import asyncio
import json
import os
import shlex
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from pytest_django import Settings

from aipartnerupflow.executors import Context, ExecutorError, Json
from apflow_site.config.faults import reason_against
from tasks.executors import describe, disabled_executors, executor_ids, get_executor
from tasks.executors.command.executor import Command
from tasks.rules.exceptions import ExecutorNotFound
from tests.documents import text
from tests.tasks.executors.command.commands import allowing
from tests.tasks.executors.conftest import count_around_begin

ABUSE = [json.loads(line) for line in Path(__file__).with_name("command_abuse.jsonl").read_text("utf-8").splitlines()]
SH = "/bin/sh"


@pytest.fixture
def sh(settings: Settings) -> None:
    settings.APFLOW_COMMAND = allowing(SH)


async def run(context: Context, script: str, **inputs: Any) -> Json:
    return await Command().execute({"argv": [SH, "-c", script], **inputs}, context)


async def failure(context: Context, script: str, **inputs: Any) -> ExecutorError:
    with pytest.raises(ExecutorError) as caught:
        await run(context, script, **inputs)
    return caught.value


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def places(tmp_path: Path, settings: Settings) -> dict[str, str]:
    """Programs that may be run and others, a folder that tasks may work in, and what the abuse corpus calls them."""
    bin_, folder, canary = tmp_path / "bin", tmp_path / "folder", tmp_path / "canary"
    trap = folder / "trap"
    for each in (bin_, trap, bin_ / "allowed_but_a_folder", tmp_path / "folder_beside"):
        each.mkdir(parents=True)
    show = script(bin_ / "show", "#!/bin/bash\nprintf '<%s>' \"$@\"\n")
    evil = script(bin_ / "evil", f"#!/bin/sh\n: > {canary}\n")
    for name in ("evil", "show", "ls", "printf", "allowed"):
        script(trap / name, evil.read_text())
    (bin_ / "link_to_show").symlink_to(show)
    (bin_ / "link_to_evil").symlink_to(evil)
    (bin_ / "allowed_link_into_a_folder").symlink_to(trap / "evil")
    (bin_ / "allowed_but_text").write_text(evil.read_text())
    (folder / "link_out").symlink_to(bin_)
    allowed = [show, trap / "allowed", *(bin_ / each for each in ("allowed_but_gone", "allowed_but_a_folder"))]
    allowed += [bin_ / "allowed_but_text", bin_ / "allowed_link_into_a_folder"]
    settings.APFLOW_COMMAND = allowing(*map(str, allowed), folders=(str(folder),))
    names = {"SHOW": show, "EVIL": evil, "BIN": bin_, "CANARY": canary, "FOLDER": folder, "LONG": "x" * 200_000}
    return {name: str(value) for name, value in names.items()}


def is_there(path: str) -> bool:
    return os.path.lexists(path)


def placed(value: Any, places: dict[str, str]) -> Any:
    text = json.dumps(value)
    for name, path in places.items():
        text = text.replace(name, path)
    return json.loads(text)


@pytest.mark.parametrize(("verdict", "inputs"), ABUSE, ids=range(len(ABUSE)))
async def test_no_abuse_runs_what_is_not_allowed(
    verdict: str, inputs: Json, places: dict[str, str], context: Context
) -> None:
    inputs = placed(inputs, places)
    if verdict == "no schema":
        assert not Draft202012Validator(Command.input_schema).is_valid(inputs)
        return
    Draft202012Validator(Command.input_schema).validate(inputs)
    if verdict == "runs":
        argv = inputs["argv"]
        given = (shlex.split(argv) if isinstance(argv, str) else argv)[1:]
        result = await Command().execute(inputs, context)
        assert result["stdout"] == ("".join(f"<{each}>" for each in given) or "<>")
    else:
        with pytest.raises(ExecutorError) as caught:
            await Command().execute(inputs, context)
        assert caught.value.permanent or "Argument list too long" in str(caught.value)
        assert len(str(caught.value)) < 2_000
    assert not is_there(places["CANARY"])


def test_the_abuse_would_do_harm_in_a_shell(places: dict[str, str]) -> None:
    canary, harmful = Path(places["CANARY"]), 0
    for _, inputs in ABUSE:
        argv = placed(inputs, places).get("argv")
        if isinstance(argv, str) and 0 < len(argv) < 10_000 and "\0" not in argv:
            subprocess.run(
                ["/bin/bash", "-c", argv], capture_output=True, cwd=places["FOLDER"], stdin=subprocess.DEVNULL
            )
            harmful += canary.exists()
            canary.unlink(missing_ok=True)
    assert len(ABUSE) >= 60
    assert harmful >= 20


@pytest.mark.usefixtures("sh")
async def test_the_beginning_is_stored_before_the_first_process_starts(context: Context, logs: list[str]) -> None:
    counted = await count_around_begin(partial(run, script="echo begun"), context, lambda: len(logs))
    assert (counted, Command.begins_itself) == ((0, [0], 1), True)


@pytest.mark.usefixtures("registry")
def test_it_is_off_until_a_program_is_allowed(settings: Settings) -> None:
    line = "executors.command.allow: [/path/of/a/program]"
    assert "command_executor" not in executor_ids()
    assert disabled_executors()["command_executor"] == line
    assert describe("command_executor")["enabled"] is False
    with pytest.raises(ExecutorNotFound) as caught:
        get_executor("command_executor")
    assert caught.value.data["enable_with"] == line


@pytest.mark.usefixtures("registry", "sh")
async def test_it_is_on_as_soon_as_a_program_is_allowed(context: Context) -> None:
    assert "command_executor" in executor_ids()
    assert "command_executor" not in disabled_executors()
    result = await get_executor("command_executor").execute({"argv": f"{SH} -c 'echo on'"}, context)
    assert result == {"return_code": 0, "stdout": "on\n", "stderr": ""}


@pytest.mark.usefixtures("sh")
async def test_a_refusal_lists_what_is_allowed(context: Context) -> None:
    with pytest.raises(ExecutorError, match=r"'/bin/ls' is not allowed\. Allowed programs \(.*\): /bin/sh\."):
        await Command().execute({"argv": "/bin/ls"}, context)


@pytest.mark.usefixtures("sh")
async def test_nothing_of_the_servers_environment_is_passed_on(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIPARTNERUPFLOW_JWT_SECRET", "canary")
    result = await run(context, "env | sort; pwd", env={"GREETING": "good day\nall"})
    home = result["stdout"].split("HOME=")[1].splitlines()[0]
    lines = {*result["stdout"].splitlines()} - {"SHLVL=0", "SHLVL=1", "_=/usr/bin/env", f"OLDPWD={home}"}
    assert lines == {
        *("GREETING=good day", "all", "LANG=C.UTF-8", "PATH=/usr/bin:/bin"),
        *(f"HOME={home}", f"TMPDIR={home}", f"PWD={home}", home),
    }


@pytest.mark.usefixtures("sh")
async def test_each_command_gets_a_fresh_folder_which_is_gone_afterwards(context: Context) -> None:
    folders = [(await run(context, "pwd; ls -A; touch x; mkdir -m 0 y"))["stdout"].strip() for _ in range(2)]
    assert folders[0] != folders[1]
    assert [folder for folder in folders if "\n" in folder or is_there(folder)] == []


async def test_it_runs_in_a_folder_that_the_operator_allows(
    context: Context, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "below").mkdir()
    settings.APFLOW_COMMAND = allowing(SH, folders=(str(tmp_path),))
    result = await run(context, "pwd; echo 1 > kept", cwd=str(tmp_path / "below"))
    assert result["stdout"] == f"{tmp_path / 'below'}\n"
    assert (tmp_path / "below/kept").read_text() == "1\n"


async def test_a_link_is_run_under_the_name_that_was_allowed(context: Context, settings: Settings) -> None:
    """Programs such as busybox, and Python's virtual environments, look at it."""
    settings.APFLOW_COMMAND = allowing(sys.executable, readable=(sys.prefix, sys.base_prefix))
    result = await Command().execute({"argv": [sys.executable, "-c", "import sys; print(sys.prefix)"]}, context)
    assert result["stdout"].strip() == sys.prefix


@pytest.mark.usefixtures("sh")
@pytest.mark.parametrize("stdin", ["", "a\nb", "ä" * 500_000, "\0"])
async def test_text_goes_in_and_comes_out(stdin: str, context: Context, settings: Settings) -> None:
    result = await run(context, "cat", stdin=stdin)
    assert result["stdout"] == stdin.replace("\0", "\N{REPLACEMENT CHARACTER}")


@pytest.mark.usefixtures("sh")
async def test_a_command_need_not_read_what_it_is_given(context: Context) -> None:
    assert await run(context, "exec 0<&-; echo done", stdin="x" * 5_000_000)


@pytest.mark.usefixtures("sh")
async def test_bytes_that_are_no_text_are_replaced(context: Context) -> None:
    result = await run(context, r"printf 'a\377\000b'; printf '\303' >&2")
    assert result == {"return_code": 0, "stdout": "a��b", "stderr": "�"}


@pytest.mark.usefixtures("sh")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exit 3", "/bin/sh ended with code 3. It printed nothing to stderr."),
        ("echo no such thing >&2; exit 1", "/bin/sh ended with code 1. Its stderr ends with: no such thing"),
        ("kill -9 $$", "/bin/sh was ended by SIGKILL. It printed nothing to stderr."),
        ("kill -INT $$", "/bin/sh was ended by SIGINT. It printed nothing to stderr."),
        ("kill -40 $$", "/bin/sh was ended by signal 40. It printed nothing to stderr."),
        ("kill 0; sleep 60", "/bin/sh was ended by SIGTERM. It printed nothing to stderr."),
    ],
)
async def test_a_command_that_fails_says_how_it_ended(text: str, message: str, context: Context) -> None:
    error = await failure(context, text)
    assert (str(error), error.permanent) == (message, False)


@pytest.mark.usefixtures("sh")
async def test_a_failure_quotes_the_last_two_thousand_characters(context: Context) -> None:
    error = await failure(context, "seq 100000 >&2; exit 1")
    assert str(error).endswith("99999\n100000")
    assert 2_000 < len(str(error)) < 2_100


@pytest.mark.usefixtures("sh")
async def test_lines_are_logged_while_it_runs_but_not_all_and_not_whole(context: Context, logs: list[str]) -> None:
    await run(context, "printf 'one\\r\\ntwo\\n\\n'; printf 'no end'")
    assert logs == ["one", "two", "", "no end"]
    logs.clear()
    await run(context, "printf '%05000d' 0; echo; seq 1000")
    assert logs == ["0" * 1_000, *map(str, range(1, 100))]


@pytest.mark.usefixtures("sh")
async def test_no_file_of_the_server_is_open_in_the_command(context: Context, tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        assert (await run(context, "exec ls /dev/fd/"))["stdout"].split() == [
            "0",
            "1",
            "2",
            "3",
        ]  # the last one is ls's own


@pytest.mark.parametrize(
    ("limits", "text", "message"),
    [
        ({"output_bytes": 1024}, "yes", "it printed more than 1024 bytes (executors.command.output_bytes). It printed no"),
        ({"output_bytes": 1024}, "yes >&2", "it printed more than 1024 bytes (executors.command.output_bytes). Its stderr ends with: y\n"),
        ({"output_bytes": 1024}, "head -c 513 /dev/zero; head -c 513 /dev/zero >&2; sleep 60", "more than 1024 bytes"),
        ({"cpu_seconds": 1}, "while :; do :; done", "SIGXCPU (executors.command.cpu_seconds)"),
        ({"cpu_seconds": 1}, "trap '' XCPU; while :; do :; done", "was ended by SIGKILL"),
        ({"file_bytes": 1000}, "exec head -c 2000 /dev/zero > file", "SIGXFSZ (executors.command.file_bytes)"),
        ({"memory_bytes": 2**26}, "head -c 200M /dev/zero | tail -n 1 > /dev/null", "memory exhausted"),
    ],
)  # fmt: skip
async def test_a_command_that_wants_too_much_is_stopped(
    limits: Json, text: str, message: str, context: Context, settings: Settings
) -> None:
    settings.APFLOW_COMMAND = allowing(SH, **limits)
    error = await failure(context, text)
    assert message in str(error)


async def test_output_up_to_the_limit_is_kept_whole(context: Context, settings: Settings) -> None:
    settings.APFLOW_COMMAND = allowing(SH, output_bytes=1024)
    result = await run(context, "printf '%0512d' 0; printf '%0512d' 0 >&2")
    assert (len(result["stdout"]), len(result["stderr"])) == (512, 512)


async def test_it_cannot_raise_its_limits(context: Context, settings: Settings) -> None:
    settings.APFLOW_COMMAND = allowing(SH, cpu_seconds=7, memory_bytes=2**30, file_bytes=2**20)
    result = await run(context, "ulimit -t; ulimit -v; ulimit -f; ulimit -c; ulimit -t 9 2>&1 || echo refused")
    assert result["stdout"].splitlines()[:4] == ["7", str(2**20), str(2**11), "0"]
    if os.getuid():
        assert result["stdout"].endswith("refused\n")


async def test_a_command_takes_no_longer_than_the_task_or_the_operator_wants(
    context: Context, settings: Settings
) -> None:
    settings.APFLOW_COMMAND = allowing(SH, timeout_seconds=0.2)
    for inputs, seconds in [({}, "0.2"), ({"timeout_seconds": 0.1}, "0.1")]:
        error = await failure(context, "exec sleep 60", **inputs)
        waited = f"it took more than {seconds} s." in str(error)
        assert waited or f"it was not ready within {seconds} s." in str(error)
        assert not error.permanent
    error = await failure(context, "exit 0", timeout_seconds=0.3)
    assert "at most 0.2 (executors.command.timeout_seconds)" in str(error)


@pytest.mark.usefixtures("sh")
async def test_a_command_that_is_stopped_has_said_why(context: Context) -> None:
    error = await failure(context, "echo part >&2; exec sleep 60", timeout_seconds=5)
    assert str(error) == "The command was stopped: it took more than 5 s. Its stderr ends with: part"


@pytest.mark.usefixtures("sh")
async def test_the_time_counts_before_the_command_runs_too(context: Context) -> None:
    """Others may fill the loop's pool of threads, on which it is made ready."""
    gate = threading.Event()
    others = [asyncio.create_task(asyncio.to_thread(gate.wait)) for _ in range(40)]
    await asyncio.sleep(0)
    try:
        error = await failure(context, "echo never", timeout_seconds=0.5)
    finally:
        gate.set()
        await asyncio.gather(*others)
    assert str(error) == "The command was not started: it was not ready within 0.5 s. Execute the task again."
    assert not error.permanent


async def test_the_page_on_running_commands_is_true(context: Context, settings: Settings, tmp_path: Path) -> None:
    page = "docs/how-to/run-commands.md"
    [program] = yaml.safe_load(text(page, "Run commands", "yaml"))["executors"]["command"]["allow"]
    assert reason_against(program) is None
    ours = str(script(tmp_path / "count-words", text(page, "Run commands", "sh")))
    settings.APFLOW_COMMAND = allowing(ours)
    task = json.loads(text(page, "Run commands", "json").replace(program, ours))
    assert task["schemas"]["method"] == Command.id
    result = await Command().execute(task["inputs"], context)
    assert result == {"return_code": 0, "stdout": "5\n", "stderr": ""}
    with pytest.raises(ExecutorError, match="takes no arguments"):
        await Command().execute({"argv": [ours, "/etc/passwd"]}, context)
