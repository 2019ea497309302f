"""Hosts on one machine: network namespaces with a hostname and an address each, on a switch with cables that fail.

Everything here needs root: `is_possible` says whether it works.
"""

import json
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Literal

from tests.servers import PYTHON, ROOT

SUBNET: Final = f"10.213.{os.getpid() % 255}"
"""Of this process, so that two of them do not meet."""
CLIENT: Final = "client"
"""The port of the machine itself, where the tests run."""

Direction = Literal["in", "out"]


def why_impossible() -> str:
    """Why there can be no hosts here; empty if there can."""
    if os.geteuid() != 0:
        return "Network namespaces need root: run `sudo make faults`, or leave these tests out."
    if not shutil.which("ip"):
        return "Network namespaces need the program ip: apt-get install iproute2."
    if not Path("/dev/net/tun").exists():
        return "The switch needs /dev/net/tun: modprobe tun, or give the container the device."
    return ""


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace on the switch."""

    name: str
    namespace: str
    address: str
    started: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def start(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> subprocess.Popen[bytes]:
        """Start a program on the host. Its output is appended to the log."""
        name_host = f'hostname {self.name} && exec "$@"'
        inside = ["ip", "netns", "exec", self.namespace, "unshare", "--uts", "sh", "-c", name_host, "sh"]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*inside, *command], env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.started.append(process)
        return process

    def pids(self) -> list[int]:
        return [int(pid) for pid in _output("ip", "netns", "pids", self.namespace).split()]

    def kill(self) -> None:
        """Kill -9 all processes, as a power failure does."""
        while pids := self.pids():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        while self.started:
            self.started.pop().wait()

    def stop(self) -> None:
        """Send SIGTERM to what was started, and wait for its end, as a service manager does."""
        for process in self.started:
            process.terminate()
        while self.started:
            self.started.pop().wait()


@dataclass(frozen=True, slots=True)
class Network:
    """A switch with hosts, and this machine as `client`."""

    hosts: Mapping[str, Host]
    ports: Mapping[str, str]
    control: IO[str]

    def cut(self, name: str, *directions: Direction) -> None:
        """Let no frame through from the host (`out`), to it (`in`), or, by default, both."""
        for direction in directions or ("in", "out"):
            self.set(name, direction, loss=1.0)

    def mend(self, name: str) -> None:
        for direction in ("in", "out"):
            self.set(name, direction)

    def set(self, name: str, direction: str, *, loss: float = 0, delay: float = 0, jitter: float = 0) -> None:
        """Losses are shares, times seconds."""
        self.control.write(json.dumps([self.ports[name], direction, loss, delay, jitter]) + "\n")
        self.control.flush()


@contextmanager
def network(*names: str) -> Iterator[Network]:
    """Hosts of these names; all their processes are killed at the end."""
    tag = uuid.uuid4().hex[:6]
    ports = {name: f"af{tag}{number}" for number, name in enumerate((CLIENT, *names))}
    hosts = {name: Host(name, f"apflow-{tag}-{name}", f"{SUBNET}.{n}") for n, name in enumerate(names, start=2)}
    command = [PYTHON, "-m", "tests.faults.switch", *ports.values()]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as switch:
        assert switch.stdin
        assert switch.stdout
        try:
            assert switch.stdout.readline() == "ready\n"
            _run("ip", "address", "add", f"{SUBNET}.1/24", "dev", ports[CLIENT])
            _run("ip", "link", "set", ports[CLIENT], "up")
            for host in hosts.values():
                _plug_in(host, ports[host.name])
            made = Network(hosts, ports, switch.stdin)
            made.mend(CLIENT)  # the first command: the devices are up
            yield made
        finally:
            for host in hosts.values():
                host.kill()
            switch.stdin.close()
            switch.wait()
            for host in hosts.values():
                subprocess.run(["ip", "netns", "delete", host.namespace], check=True)


def _plug_in(host: Host, port: str) -> None:
    _run("ip", "netns", "add", host.namespace)
    _run("ip", "link", "set", port, "netns", host.namespace, "name", "eth0")
    inside = ("ip", "-n", host.namespace)
    _run(*inside, "address", "add", f"{host.address}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        _run(*inside, "link", "set", device, "up")


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
