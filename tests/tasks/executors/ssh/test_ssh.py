"""Commands on another host, which is a real SSH server on loopback."""

import asyncio
import gc
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
import pytest
from jsonschema import Draft202012Validator
from pytest_django import Settings

from aipartnerupflow.executors import Context, ExecutorError, Stopped
from tasks.executors.ssh.executor import Ssh
from tests import sections
from tests.lazy_modules import LazyModule
from tests.servers import until
from tests.tasks.executors.conftest import count_around_begin

if TYPE_CHECKING:
    from tests.ssh_server import SshServer

asyncssh = LazyModule("asyncssh")
ssh = LazyModule("tests.ssh_server")
Json = dict[str, Any]
ENDLESS: Final = "echo begun; exec sleep 600"


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[SshServer]":
    with ssh.ssh_server(tmp_path_factory.mktemp("ssh")) as server:
        yield server


@pytest.fixture
def host(peer: "SshServer", settings: Settings) -> "SshServer":
    peer.commands.clear()
    peer.pids.clear()
    configure(settings, peer)
    return peer


def configure(settings: Settings, peer: "SshServer", **more: Any) -> None:
    given: Json = {
        "hosts": {"build": f"deploy@127.0.0.1:{peer.port}"},
        "keys": (str(peer.client_key),),
        "known_hosts": str(peer.known_hosts),
        **more,
    }
    ssh = sections.replace(settings.APFLOW.executors.ssh, **given)
    settings.APFLOW = sections.replace(settings.APFLOW, executors=sections.replace(settings.APFLOW.executors, ssh=ssh))


async def call(command: Any, context: Context, **inputs: Any) -> Json:
    given = {"host": "build", "command": command, **inputs}
    Draft202012Validator(Ssh.input_schema).validate(given)
    result: Json = await Ssh().execute(given, context)
    Draft202012Validator(Ssh.result_schema).validate(result)
    return result


async def refusal(command: Any, context: Context, **inputs: Any) -> ExecutorError:
    with pytest.raises(ExecutorError) as caught:
        await call(command, context, **inputs)
    return caught.value


def is_over(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_a_command_returns_its_output(host: "SshServer", context: Context, logs: list[str]) -> None:
    result = await call("echo one; echo two >&2; echo three", context)
    assert result == {"return_code": 0, "stdout": "one\nthree\n", "stderr": "two\n"}
    assert logs == ["one", "three"]


async def test_the_arguments_of_a_list_are_quoted(host: "SshServer", context: Context) -> None:
    sly = ["printf", "%s|", "a b", "$HOME", "; echo no", "'", "ä"]
    assert (await call(sly, context))["stdout"] == "a b|$HOME|; echo no|'|ä|"


async def test_the_beginning_is_stored_before_the_command_is_sent(host: "SshServer", context: Context) -> None:
    counted = await count_around_begin(partial(call, "true"), context, lambda: len(host.commands))
    assert (counted, Ssh.begins_itself) == ((0, [0], 1), True)


async def test_another_code_is_a_failure(host: "SshServer", context: Context) -> None:
    error = await refusal("echo oh no >&2; exit 3", context)
    assert "The command on 'build' ended with code 3. Its stderr ends with: oh no" in str(error)
    assert not error.permanent
    assert "was ended by SIGKILL" in str(await refusal("kill -9 $$", context))


async def test_a_command_that_takes_too_long_is_stopped(host: "SshServer", context: Context) -> None:
    error = await refusal(ENDLESS, context, timeout_seconds=10)
    assert "it took more than 10 s" in str(error)
    await asyncio.to_thread(until, lambda: is_over(host.pids[0]), seconds=60, what="the end of the process")


@pytest.mark.parametrize("command", [ENDLESS, "trap '' TERM; echo begun; while :; do sleep 600; done"])
@pytest.mark.parametrize("is_forced", [False, True])
async def test_cancelling_ends_the_process_there(
    command: str, is_forced: bool, host: "SshServer", context: Context, logs: list[str]
) -> None:
    task = asyncio.create_task(call(command, replace(context, is_forced=lambda: is_forced)))
    await asyncio.to_thread(until, lambda: logs, seconds=60, what="the first line")
    task.cancel()
    with pytest.raises(Stopped) as caught:
        await task
    assert caught.value.result == {"return_code": None, "stdout": "begun\n", "stderr": ""}
    await asyncio.to_thread(until, lambda: is_over(host.pids[0]), seconds=60, what="the end of the process")


@pytest.mark.parametrize("command", ["yes", "yes >&2"])
async def test_too_much_output_is_cut_off(
    command: str, host: "SshServer", context: Context, settings: Settings
) -> None:
    limits = sections.replace(settings.APFLOW.limits, result_bytes=100_000)
    settings.APFLOW = sections.replace(settings.APFLOW, limits=limits)
    error = await refusal(command, context)
    assert "it printed more than a result may have" in str(error)
    assert error.permanent
    assert len(str(error)) < 3_000
    await asyncio.to_thread(until, lambda: is_over(host.pids[0]), seconds=60, what="the end of the process")


async def test_a_host_with_another_key_is_refused_before_anything_is_sent(
    host: "SshServer", context: Context, settings: Settings, tmp_path: Path
) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    for name, known in (("another", f"[127.0.0.1]:{host.port} {other}"), ("none", "")):
        (tmp_path / name).write_text(known)
        configure(settings, host, known_hosts=str(tmp_path / name))
        error = await refusal("echo no", context)
        assert "its key is not the one in executors.ssh.known_hosts" in str(error)
        assert error.permanent
    assert host.commands == []


async def test_a_key_that_the_host_does_not_know_is_refused(
    host: "SshServer", context: Context, settings: Settings, tmp_path: Path
) -> None:
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "id")
    configure(settings, host, keys=(str(tmp_path / "id"),))
    error = await refusal("echo no", context)
    assert ("accepts no key of executors.ssh.keys for the user 'deploy'" in str(error), error.permanent) == (True, True)


async def test_files_that_cannot_be_read_and_hosts_that_are_away_fail_the_task(
    host: "SshServer", context: Context, settings: Settings, tmp_path: Path
) -> None:
    configure(settings, host, keys=(str(tmp_path / "missing"),))
    assert (await refusal("echo no", context)).permanent
    configure(settings, host, hosts={"build": "deploy@127.0.0.1:1"})
    error = await refusal("echo no", context)
    assert ("cannot be reached" in str(error), error.permanent) == (True, False)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"host": "other"}, "inputs.host: there is no host 'other'. Hosts (executors.ssh.hosts): build"),
        ({"host": "root@127.0.0.1"}, "inputs.host: there is no host"),
        ({"command": "rm {{list.path}}"}, "inputs.command: has places"),
        ({"password": "x"}, "inputs.password: is set by the operator"),
        ({"key_file": "/etc/shadow"}, "inputs.key_file: is set by the operator"),
    ],
)
def test_what_the_operator_decides_is_refused_before_anything_is_stored(
    inputs: Json, says: str, host: "SshServer"
) -> None:
    Ssh().check_with_inputs({}, {"host": "build", "command": ["rm", "{{list.path}}"]})
    with pytest.raises(ExecutorError) as caught:
        Ssh().check_with_inputs({}, {"host": "build", "command": "ls", **inputs})
    assert says in str(caught.value)


async def test_nul_is_refused(host: "SshServer", context: Context) -> None:
    assert "NUL" in str(await refusal(["echo", "a\0b"], context))


async def test_a_server_that_stops_closes_the_pipes_of_its_commands(tmp_path: Path) -> None:
    """A pipe that stays open is a warning, and so a failure, of whichever test runs when it is collected."""
    with ssh.ssh_server(tmp_path) as server:
        async with asyncssh.connect(
            "127.0.0.1",
            server.port,
            username="deploy",
            client_keys=[str(server.client_key)],
            known_hosts=str(server.known_hosts),
        ) as client:
            for _ in range(4):
                await client.create_process("yes")  # some have not begun when the server stops
            client.abort()
    gc.collect()  # would find a pipe that is open
