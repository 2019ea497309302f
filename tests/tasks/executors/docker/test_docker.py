"""Containers of a real Docker daemon."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import pytest
from django.test import override_settings
from jsonschema import Draft202012Validator
from pytest_django import Settings

from aipartnerupflow import doctor
from aipartnerupflow.doctor import Doubt
from aipartnerupflow.executors import Context, ExecutorError, Stopped
from tasks.executors.docker.executor import Docker, Output, check, doubt_of
from tasks.executors.docker.order import description, order_of
from tasks.models import Task
from tasks.status import Status
from tasks.worker import container_watch
from tests import sections
from tests.docker_daemon import IMAGE, DockerDaemon, docker_daemon, registry
from tests.servers import until
from tests.tasks.executors.conftest import count_around_begin

Json = dict[str, Any]
OTHER: Final = "other:1"
"""An image that is allowed, and not there."""


@pytest.fixture(scope="module")
def daemon() -> Iterator[DockerDaemon]:
    with docker_daemon() as daemon:
        yield daemon


@pytest.fixture
def docker(daemon: DockerDaemon, settings: Settings) -> Iterator[DockerDaemon]:
    """The daemon, of which no test leaves a container."""
    configure(settings, daemon=daemon.address)
    yield daemon
    assert daemon.containers() == []


def configure(settings: Settings, **given: Any) -> None:
    docker = sections.replace(settings.APFLOW.executors.docker, **{"images": (IMAGE, OTHER), **given})
    executors = sections.replace(settings.APFLOW.executors, docker=docker)
    settings.APFLOW = sections.replace(settings.APFLOW, executors=executors)


async def call(command: Any, context: Context, **inputs: Any) -> Json:
    given = {"image": IMAGE, "command": command, **inputs}
    Draft202012Validator(Docker.input_schema).validate(given)
    result: Json = await Docker().execute(given, context)
    Draft202012Validator(Docker.result_schema).validate(result)
    return result


async def refusal(command: Any, context: Context, **inputs: Any) -> ExecutorError:
    with pytest.raises(ExecutorError) as caught:
        await call(command, context, **inputs)
    return caught.value


def shell(script: str) -> list[str]:
    """It goes on for a second: Docker on a busy machine may lose the output of a container that ends sooner."""
    return ["sh", "-c", f"({script}); code=$?; sleep 1; exit $code"]


LOCKED: Final = """
id -u; id -g; env; pwd
grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status
ls /sys/class/net
touch /new 2>&1; touch /tmp/new && echo kept
cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>&- || cat /sys/fs/cgroup/memory.max
"""


async def test_a_container_is_locked_in(docker: DockerDaemon, context: Context, logs: list[str]) -> None:
    """It has no privileges, no network and one folder to write to, and is published line by line."""
    inputs = {"env": {"GREETING": "héllo wörld"}, "memory": "32m", "working_dir": "/tmp"}
    result = await call(shell(LOCKED), context, **inputs)
    said = result["logs"].splitlines()
    assert (result["exit_code"], said[:2]) == (0, ["65534", "65534"])
    assert {"GREETING=héllo wörld", "/tmp", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} <= {*said}
    assert said[-4:] == ["lo", "touch: /new: Read-only file system", "kept", f"{32 * 2**20}"]
    assert logs == said


async def test_a_command_line_is_split_and_bytes_are_decoded(docker: DockerDaemon, context: Context) -> None:
    command = r"""sh -c 'printf "a b|\0|\377|%s" "$0"; sleep 1' '$HOME;'"""
    assert await call(command, context) == {"exit_code": 0, "logs": "a b|\ufffd|\ufffd|$HOME;"}


@pytest.mark.parametrize(("finished", "is_doubted"), [("00:00:00.04", True), ("00:00:02", False)])
def test_a_container_that_ended_at_once_and_printed_nothing_is_doubted(finished: str, is_doubted: bool) -> None:
    doubt = doubt_of({"StartedAt": "2027-01-31T00:00:00.000000001Z", "FinishedAt": f"2027-01-31T{finished}Z"})
    assert doubt.startswith("It ended after 0.04 s, and no output of it arrived.") is is_doubted


async def test_the_beginning_is_stored_before_the_container_starts(
    docker: DockerDaemon, context: Context, logs: list[str]
) -> None:
    counted = await count_around_begin(partial(call, shell("echo")), context, lambda: len(logs))
    assert (counted, Docker.begins_itself) == ((0, [0], 1), True)


async def test_another_code_is_a_failure(docker: DockerDaemon, context: Context) -> None:
    error = await refusal(shell("echo oh no >&2; exit 3"), context)
    assert str(error) == f"The container of '{IMAGE}' ended with code 3. Its logs end with: oh no"
    assert not error.permanent


async def test_too_much_memory_is_named_as_the_reason(docker: DockerDaemon, context: Context) -> None:
    error = await refusal(["tail", "/dev/zero"], context, memory="16m")
    assert "needed more than 16 MiB of memory (inputs.memory" in str(error)


@pytest.mark.parametrize(
    ("is_known", "reason"),
    [
        (True, "was killed, because it needed more than 16 MiB"),
        (False, "was killed (code 137). It may have needed more than 16 MiB"),
    ],
)
def test_a_killed_container_may_have_needed_too_much_memory(is_known: bool, reason: str, settings: Settings) -> None:
    """Docker does not always learn that memory ran out."""
    configure(settings)
    order, output = order_of({"image": IMAGE, "memory": "16m"}), Output(most_bytes=1, log=print)
    with pytest.raises(ExecutorError) as caught:
        check({"ExitCode": 137, "OOMKilled": is_known}, order, output)
    assert (reason in str(caught.value), caught.value.permanent) == (True, is_known)


async def test_a_container_that_takes_too_long_is_removed(docker: DockerDaemon, context: Context) -> None:
    error = await refusal(["sleep", "600"], context, timeout_seconds=10)
    assert ("it took more than 10 s" in str(error), error.permanent) == (True, False)


@pytest.mark.parametrize("is_forced", [False, True])
async def test_cancelling_removes_the_container_and_keeps_its_output(
    is_forced: bool, docker: DockerDaemon, context: Context, logs: list[str]
) -> None:
    script = "trap '' TERM INT; echo begun; sleep 600"
    task = asyncio.create_task(call(shell(script), replace(context, is_forced=lambda: is_forced)))
    await asyncio.to_thread(until, lambda: logs, seconds=60, what="the first line")
    task.cancel()
    with pytest.raises(Stopped) as caught:
        await task
    assert caught.value.result == {"exit_code": None, "logs": "begun\n"}


async def test_too_much_output_stops_the_container(docker: DockerDaemon, context: Context, settings: Settings) -> None:
    limits = sections.replace(settings.APFLOW.limits, result_bytes=100_000)
    settings.APFLOW = sections.replace(settings.APFLOW, limits=limits)
    error = await refusal(["yes"], context)
    assert ("it printed more than a result may have" in str(error), error.permanent) == (True, True)
    assert len(str(error)) < 3_000


async def test_a_program_that_is_not_there_and_an_image_that_is_not_there_are_named(
    docker: DockerDaemon, context: Context
) -> None:
    error = await refusal(["no-such-program"], context)
    assert ('"no-such-program": executable file not found' in str(error), error.permanent) == (True, True)
    error = await refusal(["sh"], context, image=OTHER)
    assert (f"docker pull {OTHER}" in str(error), error.permanent) == (True, True)


async def test_an_image_is_pulled_if_the_operator_wants_it(
    docker: DockerDaemon, context: Context, settings: Settings, logs: list[str]
) -> None:
    with registry() as address:
        images = (f"{address}/box:2", f"{address}/none:1")
        configure(settings, daemon=docker.address, images=images)
        assert "is not on the worker's machine" in str(await refusal(["echo", "here"], context, image=images[0]))
        configure(settings, daemon=docker.address, images=images, pull="missing")
        assert (await call(shell("echo here"), context, image=images[0]))["logs"] == "here\n"
        assert logs == [f"Pulling the image {images[0]}", "here"]
        error = await refusal(["echo", "here"], context, image=images[1])
        assert str(error) == f"Docker did not run '{images[1]}': manifest unknown"


def test_the_doctor_names_what_is_missing(docker: DockerDaemon, settings: Settings) -> None:
    with pytest.raises(Doubt, match=rf"^Images that are not on this machine: {OTHER}\.$"):
        doctor.docker(settings.APFLOW)
    configure(settings, daemon=docker.address, images=(IMAGE,))
    assert doctor.docker(settings.APFLOW) == "answers; images to pull when a task needs them: none"
    configure(settings, daemon="unix:///tmp/no-such-socket")
    with pytest.raises(Doubt, match="The Docker daemon does not answer at unix:///tmp/no-such-socket"):
        doctor.docker(settings.APFLOW)


async def test_without_a_daemon_the_task_may_be_tried_again(context: Context, settings: Settings) -> None:
    for address in ("unix:///tmp/no-such-socket", "tcp://127.0.0.1:1"):
        configure(settings, daemon=address)
        error = await refusal(["sh"], context)
        assert f"The Docker daemon does not answer at {address}" in str(error)
        assert not error.permanent


async def test_an_attempt_removes_the_containers_of_earlier_ones(docker: DockerDaemon, context: Context) -> None:
    """Also of those that were left running by a worker that died. Those of other tasks are left alone."""
    left = [
        replace(context, attempt=1),
        replace(context, run_id="run-0", attempt=2),
        replace(context, task_id="task-2"),
    ]
    ids = [leave_behind(docker, each, starts=each is left[0]) for each in left]
    await call(["sh", "-c", "exit"], replace(context, attempt=2))
    assert [each["Id"] for each in docker.containers()] == ids[2:]
    docker.client.delete(f"/containers/{ids[2]}", params={"force": "true"})


@pytest.mark.django_db(transaction=True)
def test_containers_without_an_attempt_in_progress_are_removed(docker: DockerDaemon, context: Context) -> None:
    """Those of another installation at the same daemon are left alone."""
    at = datetime.now(UTC)
    for task_id, status in (("task-1", Status.IN_PROGRESS), ("task-2", Status.FAILED)):
        Task.objects.create(
            id=task_id,
            root_id=task_id,
            user_id="alice",
            name="n",
            status=status,
            attempt=2,
            created_at=at,
            updated_at=at,
        )
    known = [
        replace(context, task_id=task_id, attempt=attempt) for task_id in ("task-1", "task-2") for attempt in (1, 2)
    ]
    kept = leave_behind(docker, known[1], starts=False)
    for each in (known[0], *known[2:], replace(context, task_id="task-3")):
        leave_behind(docker, each, starts=each is known[2])
    with override_settings(SECRET_KEY="of another installation"):
        foreign = leave_behind(docker, known[0], starts=False)
    container_watch.sweep()
    assert {each["Id"] for each in docker.containers()} == {kept, foreign}
    for container_id in (kept, foreign):
        docker.client.delete(f"/containers/{container_id}")


def leave_behind(docker: DockerDaemon, context: Context, *, starts: bool) -> str:
    """A container of the attempt, as a worker leaves it that is killed. Returns its id."""
    what = {**description(order_of({"image": IMAGE, "command": ["sleep", "600"]}), context)}
    made = docker.client.post("/containers/create", json=what).json()["Id"]
    if starts:
        docker.client.post(f"/containers/{made}/start").raise_for_status()
    return str(made)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (
            {"image": "alpine"},
            "inputs.image: 'alpine' is not allowed. Images (executors.docker.images): box:1, other:1",
        ),
        ({"image": f"{IMAGE}@sha256:0"}, "inputs.image: "),
        ({"command": "rm {{list.path}}"}, "inputs.command: has places"),
        ({"volumes": {"/": "/host"}}, "inputs.volumes: is not an input (nothing of the host is mounted)"),
        ({"privileged": True}, "inputs.privileged: is not an input"),
        ({"network": "host"}, "inputs.network: is not an input (executors.docker.network)"),
        ({"user": "0"}, "inputs.user: is not an input (executors.docker.user)"),
        ({"memory": "3g"}, "inputs.memory: may be at most 2147483648 (executors.docker.max_memory_bytes)"),
        ({"cpus": 2.5}, "inputs.cpus: may be at most 2 (executors.docker.max_cpus)"),
        ({"timeout_seconds": 3601}, "inputs.timeout_seconds: may be at most 3600 (executors.docker.timeout_seconds)"),
    ],
)
def test_what_the_operator_decides_is_refused_before_anything_is_stored(
    inputs: Json, says: str, settings: Settings
) -> None:
    configure(settings)
    later = {"memory": "{{size.memory}}", "cpus": "{{size.cpus}}", "timeout_seconds": "{{size.seconds}}"}
    Docker().check_with_inputs({}, {"image": "{{choice.image}}", "command": ["rm", "{{list.path}}"], **later})
    with pytest.raises(ExecutorError) as caught:
        Docker().check_with_inputs({}, {"image": IMAGE, "command": "ls", **inputs})
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"image": "alpine"}, "inputs.image: 'alpine' is not allowed"),
        ({"command": "sh 'a"}, "inputs.command: cannot be split"),
        ({"command": ["a\0b"]}, "inputs.command: contains the character NUL"),
        ({"env": {"A=B": "c"}}, "inputs.env: 'A=B' is not the name of a variable"),
        ({"env": {"A": "\0"}}, "inputs.env.A: contains the character NUL"),
        ({"working_dir": "\0"}, "inputs.working_dir: contains the character NUL"),
        ({"memory": "1.5g"}, "inputs.memory: is not a number of bytes"),
        ({"memory": 1024}, "inputs.memory: is less than '6m'"),
        ({"memory": "3g"}, "inputs.memory: may be at most 2147483648 (executors.docker.max_memory_bytes)"),
        ({"cpus": 2.5}, "inputs.cpus: may be at most 2 (executors.docker.max_cpus)"),
        ({"timeout_seconds": 3601}, "inputs.timeout_seconds: may be at most 3600 (executors.docker.timeout_seconds)"),
        ({"timeout": 3601}, "inputs.timeout: may be at most 3600 (executors.docker.timeout_seconds)"),
    ],
)
def test_what_cannot_be_passed_on_is_refused(inputs: Json, says: str, settings: Settings) -> None:
    configure(settings)
    with pytest.raises(ExecutorError) as caught:
        order_of({"image": IMAGE, **inputs})
    assert says in str(caught.value)
    assert caught.value.permanent


@pytest.mark.parametrize("user", ["0:0", "app"])
def test_a_container_that_may_be_root_gets_files_only_if_it_may_store_some(user: str, settings: Settings) -> None:
    configure(settings, user=user)
    with pytest.raises(ExecutorError, match=r"inputs.files: is not allowed.*executors\.docker\.save"):
        Docker().check_with_inputs({}, {"image": IMAGE, "files": {"a": {"$file": "1"}}})
    configure(settings, user=user, save=True)
    Docker().check_with_inputs({}, {"image": IMAGE, "files": {"a": {"$file": "1"}}})


@pytest.mark.parametrize("size", [1, 3, 8, 10, 1000])
def test_frames_may_be_cut_anywhere(size: int, logs: list[str]) -> None:
    frames = b"".join(
        bytes([1, 0, 0, 0]) + len(part).to_bytes(4, "big") + part for part in (b"one\n", b"", b"two", b"\n")
    )
    output = Output(most_bytes=7, log=logs.append)
    for at in range(0, len(frames), size):
        output.feed(frames[at : at + size])
    output.close()
    assert (output.text, output.is_flooding, logs) == ("one\ntwo", True, ["one", "two"])
