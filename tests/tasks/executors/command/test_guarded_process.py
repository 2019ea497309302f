"""A command ends, with everything that it started, whatever it does against that and whoever else dies."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
from pytest_django import Settings

from aipartnerupflow.executors import Context, ExecutorError, Stopped
from tasks.executors.command import guarded_process
from tests.servers import until
from tests.tasks.executors.command.commands import OTHERS, Shell, alive, allowing, children

ROOT = Path(__file__).parents[4]
END_SECONDS = 150.0
"""The longest wait for an end on a busy machine. By themselves these commands last longer than a test may."""
#: Ignores SIGTERM, as do its children; one of them leaves the process group, and is nobody's child any more.
STUBBORN = """
    trap '' TERM
    sleep 600 & one=$!
    sh -c 'sleep 600 & echo $!; wait' >> pids &
    (setsid sh -c 'echo $$ >> pids; exec sleep 600' &)
    until [ "$(cat pids 2> /dev/null | wc -l)" = 2 ]; do sleep 0.01; done
    echo $$ $one $(cat pids) $HOME
    sleep 600
"""


@pytest.fixture(autouse=True)
def sh(settings: Settings) -> None:
    settings.APFLOW_COMMAND = allowing("/bin/sh", processes=20)


@pytest.fixture(autouse=True)
def others() -> None:
    OTHERS.clear()
    OTHERS.update(psutil.Process().children())


async def stopped(shell: Shell) -> Stopped:
    """Cancel it once it is ready."""
    task = shell.start()
    await asyncio.wait_for(shell.ready.wait(), timeout=END_SECONDS)
    task.cancel()
    with pytest.raises(Stopped) as caught:
        await asyncio.wait_for(task, timeout=END_SECONDS)
    return caught.value


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard has the time that it needs to end what it guards, and itself."""
    monkeypatch.setattr(guarded_process, "LAST_SECONDS", 60)


@pytest.fixture
def grace_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is asked to end has more time to do so than a test may take."""
    monkeypatch.setattr(guarded_process, "GRACE_SECONDS", 3600)


@pytest.mark.usefixtures("patient")
async def test_cancelling_ends_a_command_that_ignores_sigterm_and_all_its_children(context: Context) -> None:
    shell = Shell(STUBBORN, context)
    task = shell.start()
    await asyncio.wait_for(shell.ready.wait(), timeout=END_SECONDS)
    assert len(alive(shell.lines)) == 4
    task.cancel()
    with pytest.raises(Stopped) as caught:
        await task
    assert alive(shell.lines) == []
    assert children() == []
    assert caught.value.result == {"return_code": None, "stdout": f"{shell.lines[0]}\n", "stderr": ""}


async def test_a_command_may_say_goodbye(context: Context, grace_without_end: None) -> None:
    shell = Shell("trap 'echo bye; echo really >&2; exit 4' TERM; echo ready; while :; do :; done", context)
    assert (await stopped(shell)).result == {"return_code": 4, "stdout": "ready\nbye\n", "stderr": "really\n"}


@pytest.mark.usefixtures("patient")
async def test_force_kills_at_once(context: Context, grace_without_end: None) -> None:
    shell = Shell(STUBBORN, context, is_forced=lambda: True)
    assert (await stopped(shell)).result["stdout"]
    assert alive(shell.lines) == []


async def test_cancelling_again_while_it_stops_kills_at_once(context: Context, grace_without_end: None) -> None:
    shell = Shell("trap 'echo asked' TERM; echo ready; while :; do :; done", context)
    task = shell.start()
    await asyncio.wait_for(shell.ready.wait(), timeout=END_SECONDS)
    shell.ready.clear()
    task.cancel()
    await asyncio.wait_for(shell.ready.wait(), timeout=END_SECONDS)
    task.cancel()
    with pytest.raises(Stopped) as caught:
        await task
    assert caught.value.result["stdout"] == "ready\nasked\n"


async def test_cancelling_before_it_has_started_leaves_nothing(context: Context) -> None:
    for pauses in range(12):
        task = Shell("sleep 600", context).start()
        for _ in range(pauses):
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, Stopped)):
            await task
    assert await gone(children())


async def test_what_a_command_leaves_in_the_background_ends_with_it(context: Context) -> None:
    shell = Shell("sleep 600 & echo $!; (setsid sh -c 'echo $$; exec sleep 600' &) | head -n 1", context)
    assert (await shell.start())["return_code"] == 0
    assert len(shell.lines) == 2
    assert alive(shell.lines) == []


@pytest.mark.usefixtures("patient")
async def test_a_timeout_ends_a_command_that_ignores_sigterm(context: Context) -> None:
    shell = Shell(STUBBORN, context, {"timeout_seconds": 10})
    with pytest.raises(ExecutorError, match="it took more than 10 s"):
        await shell.start()
    assert alive(shell.lines) == []


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    "bomb",
    [
        "while :; do sleep 600 & done",
        "f() { f & f; }; f",
        "while :; do setsid sleep 600 & done",
    ],
)
async def test_a_fork_bomb_is_put_out(bomb: str, context: Context) -> None:
    with pytest.raises(ExecutorError, match=r"it had more than 20 processes at once \(executors.command.processes\)"):
        await Shell(f"n=0; {bomb}", context).start()
    assert children() == []


async def test_a_command_whose_guard_is_killed_ends_with_it(context: Context) -> None:
    shell = Shell("sleep 600 & echo $$ $!; sleep 600", context)
    task = shell.start()
    await asyncio.wait_for(shell.ready.wait(), timeout=END_SECONDS)
    os.kill(children()[0].pid, signal.SIGKILL)
    with pytest.raises(ExecutorError, match="was killed from outside"):
        await task
    assert await gone(alive(shell.lines))


async def test_a_command_whose_guard_is_frozen_is_stopped_all_the_same(context: Context) -> None:
    shell = Shell("sleep 600 & echo $$ $!; sleep 600", context, {"timeout_seconds": 10})
    task = shell.start()
    await asyncio.wait_for(shell.ready.wait(), timeout=END_SECONDS)
    os.kill(children()[0].pid, signal.SIGSTOP)
    with pytest.raises(ExecutorError, match=r"it took more than 10 s"):
        await task
    assert await gone(alive(shell.lines))


@pytest.mark.usefixtures("patient")
async def test_nothing_is_left_open(context: Context) -> None:
    async def once(script: str) -> None:
        with pytest.raises(ExecutorError):
            await Shell(script, context, {"timeout_seconds": 0.2}).start()

    await once("exit 1")
    before = psutil.Process().num_fds()
    for script in ("exit 1", "sleep 60", "yes"):
        await once(script)
    assert psutil.Process().num_fds() <= before
    assert children() == []


@pytest.mark.usefixtures("patient")
async def test_many_commands_run_at_once(context: Context) -> None:
    commands = [Shell(f"sleep 0.2; echo {number}", context).start() for number in range(20)]
    assert [result["stdout"] for result in await asyncio.gather(*commands)] == [f"{number}\n" for number in range(20)]
    assert children() == []


WORKER = """
    import asyncio, sys, django
    django.setup()
    from aipartnerupflow.executors import Context
    from tasks.executors.command.executor import Command
    context = Context(
        task_id="t", run_id="r", root_task_id="t", user_id="u", name="n", params={}, schemas={}, dependency_results={},
        attempt=1, report=print, log=lambda line: print(line, flush=True),
    )
    asyncio.run(Command().execute({"argv": ["/bin/sh", "-c", sys.argv[1]]}, context))
"""


async def test_a_command_dies_with_its_worker() -> None:
    shell = {"AIPARTNERUPFLOW_EXECUTORS_COMMAND_ALLOW": "/bin/sh"}
    environ = os.environ | shell | {f"{name}_ANYWAY": path for name, path in shell.items()}
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", textwrap.dedent(WORKER), STUBBORN), stdout=subprocess.PIPE, cwd=ROOT, env=environ
    )
    assert worker.stdout
    line = (await asyncio.wait_for(worker.stdout.readline(), timeout=END_SECONDS)).decode()
    processes = alive([line])
    assert len(processes) == 4
    home = Path(line.split()[-1])
    worker.kill()
    await worker.wait()
    assert await gone(processes)
    await asyncio.to_thread(until, lambda: not home.exists(), seconds=END_SECONDS, what="the end of its folder")


async def gone(processes: list[psutil.Process]) -> bool:
    """Whether all of them are, soon."""
    _, left = await asyncio.to_thread(psutil.wait_procs, processes, timeout=END_SECONDS)
    return [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
