"""The definition of one container: its image and command, its limits, and its restrictions."""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.utils.crypto import salted_hmac

from aipartnerupflow.executors import Context, ExecutorError, Json
from tasks.rules.places import places_in

FOLDER: Final = "/task"
"""The folder of a container that has files."""
MEMORY: Final = re.compile(r"([1-9][0-9]{0,8})([kmg]?)b?", re.IGNORECASE)
LEAST_MEMORY: Final = 6 * 2**20
"""Docker starts no container with less."""
ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
UNITS: Final[Mapping[str, int]] = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
INSTALLATION, TASK, RUN, ATTEMPT = (f"aipartnerupflow.{name}" for name in ("installation", "task", "run", "attempt"))
"""The labels of our containers."""
INSTALLATION_VARIABLE: Final = "APFLOW_INTERNAL_INSTALLATION"
"""The environment variable of processes of pools, which do not have the secret that the label is made of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A container. `command` is None for that of the image; `memory_bytes` includes what it writes to /tmp."""

    image: str
    command: Sequence[str] | None
    env: Mapping[str, str]
    working_dir: str | None
    memory_bytes: int
    cpus: float
    seconds: float
    files: Json | None
    """The files for its folder; None: it has no folder."""
    saves: bool


def order_of(inputs: Json) -> Order:
    """Raise ExecutorError for what the operator does not allow, and what cannot be passed to a container."""
    rules, image = _rules(), inputs["image"]
    check_image(image)
    check_save(inputs)
    command, env = inputs.get("command"), inputs.get("env", {})
    try:
        argv = shlex.split(command) if isinstance(command, str) else command
    except ValueError as error:
        raise refused("command", f"cannot be split: {error}. Give a list, which needs no quotes") from error
    for name, value in env.items():
        if not ENV_NAME.fullmatch(name):
            raise refused("env", f"'{name[:100]}' is not the name of a variable. Names have letters, 0 to 9 and _")
        _text(value, f"env.{name}")
    return Order(
        image=image,
        command=None if argv is None else [_text(argument, "command") for argument in argv],
        env=env,
        working_dir=_text(inputs["working_dir"], "working_dir") if "working_dir" in inputs else None,
        memory_bytes=_memory(inputs["memory"]) if "memory" in inputs else rules.memory_bytes,
        cpus=_at_most(rules.max_cpus, inputs.get("cpus", rules.cpus), "cpus", "max_cpus"),
        seconds=_seconds(inputs),
        files=inputs.get("files", {}) if "files" in inputs or inputs.get("save") else None,
        saves=inputs.get("save", False),
    )


def check_image(image: str) -> None:
    """Raise ExecutorError unless the operator allows the image."""
    images = _rules().images
    if image not in images:
        raise refused("image", f"'{image[:200]}' is not allowed. Images (executors.docker.images): {', '.join(images)}")


def check_limits(inputs: Json) -> None:
    """Raise ExecutorError if the memory, processors or time exceed the operator's limits. Places are checked when they are filled."""
    memory, cpus = inputs.get("memory"), inputs.get("cpus")
    if memory is not None and next(places_in(memory, "memory"), None) is None:
        _memory(memory)
    if isinstance(cpus, int | float):
        _at_most(_rules().max_cpus, cpus, "cpus", "max_cpus")
    if all(isinstance(inputs.get(name, 0), int | float) for name in ("timeout_seconds", "timeout")):
        _seconds(inputs)


def check_save(inputs: Json) -> None:
    """Raise ExecutorError if the container could store files on the daemon's disk, and the operator does not allow it."""
    rules = _rules()
    uid = rules.user.partition(":")[0]
    may_be_root = not uid.isdigit() or int(uid) == 0  # and the folder is root's
    name = "save" if inputs.get("save") is True else "files"
    if not rules.save and (name == "save" or (may_be_root and name in inputs)):
        raise refused(name, "is not allowed. The operator may allow it (executors.docker.save)")


def refused(name: str, why: str) -> ExecutorError:
    return ExecutorError(f"inputs.{name}: {why}.", permanent=True)


def description(order: Order, context: Context) -> Json:
    """Return the container for the Docker daemon: without privileges, mounts, logs on its disk and, by default, a network."""
    rules = _rules()
    has_folder = order.files is not None
    working_dir = order.working_dir or (FOLDER if has_folder else None)
    largest: int = settings.APFLOW.limits.file_bytes
    return {
        "Image": order.image,
        **({} if order.command is None else {"Cmd": list(order.command)}),
        **({} if working_dir is None else {"WorkingDir": working_dir}),
        "Env": [f"{name}={value}" for name, value in ({"HOME": "/tmp"} | dict(order.env)).items()],  # noqa: S108  (in the container)
        "User": rules.user,
        "Labels": labels(context),
        "HostConfig": {
            "NetworkMode": rules.network,
            "Memory": order.memory_bytes,
            "MemorySwap": order.memory_bytes,  # the sum of both: no swap
            "NanoCpus": round(order.cpus * 1e9),
            "PidsLimit": rules.processes,
            "Ulimits": [
                {"Name": "core", "Soft": 0, "Hard": 0},
                *([{"Name": "fsize", "Soft": largest, "Hard": largest}] if order.saves else []),
            ],
            "ReadonlyRootfs": True,
            **({"Mounts": [{"Type": "volume", "Target": FOLDER}]} if has_folder else {}),
            "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,mode=1777"},  # noqa: S108
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "IpcMode": "private",
            "LogConfig": {"Type": "none"},
        },
    }


def labels(context: Context) -> dict[str, str]:
    """Return the labels that name the owner of the container, so that one without a worker is found."""
    return {
        INSTALLATION: installation(),
        TASK: context.task_id,
        RUN: context.run_id,
        ATTEMPT: str(context.attempt),
    }


def installation() -> str:
    """Return the label that distinguishes our containers from those of another server at the same daemon."""
    given = os.environ.get(INSTALLATION_VARIABLE)
    return given or salted_hmac("containers", "installation", algorithm="sha256").hexdigest()[:32]


def _rules() -> Any:
    return settings.APFLOW.executors.docker


def _text(text: str, name: str) -> str:
    if "\0" in text:
        raise refused(name, "contains the character NUL, which would end the text")
    return text


def _memory(given: int | str) -> int:
    match = MEMORY.fullmatch(str(given))
    if match is None:
        raise refused("memory", "is not a number of bytes, or one with k, m or g, such as '512m'")
    size = int(match[1]) * UNITS[match[2].lower()]
    if size < LEAST_MEMORY:
        raise refused("memory", "is less than '6m', the least that Docker gives to a container")
    return int(_at_most(_rules().max_memory_bytes, size, "memory", "max_memory_bytes"))


def _seconds(inputs: Json) -> float:
    longest: int = _rules().timeout_seconds
    name = "timeout_seconds" if "timeout_seconds" in inputs else "timeout"
    return _at_most(longest, inputs.get(name, longest), name, "timeout_seconds")


def _at_most(most: float, given: float, name: str, setting: str) -> float:
    if given > most:
        raise refused(name, f"may be at most {most:.15g} (executors.docker.{setting})")
    return given
