"""A real Docker daemon of its own, with one small image, made of busybox. It needs root, and the Debian packages docker.io and busybox-static."""

import io
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tests.servers import until

BUSYBOX: Final = Path("/usr/bin/busybox")
COMMANDS: Final = ("cat", "echo", "env", "grep", "id", "ls", "printf", "pwd", "sh", "sleep", "tail", "touch", "yes")
IMAGE: Final = "box:1"
ALONE: Final = ("--storage-driver=vfs", "--iptables=false", "--ip6tables=false", "--bridge=none", "--log-level=error")
"""It changes nothing of the machine's network, and mounts no images."""


@dataclass(slots=True, kw_only=True)
class DockerDaemon:
    """`address` is that for `executors.docker.daemon`."""

    address: str
    client: httpx.Client

    def containers(self) -> list[dict[str, Any]]:
        """All that there are, also ended ones."""
        found: list[dict[str, Any]] = self.client.get("/containers/json", params={"all": "true"}).json()
        return found

    def load(self, image: str = IMAGE) -> None:
        name, _, tag = image.rpartition(":")
        parameters = {"fromSrc": "-", "repo": name, "tag": tag}
        kind = {"Content-Type": "application/x-tar"}
        self.client.post("/images/create", params=parameters, headers=kind, content=root_of_image()).raise_for_status()


@contextmanager
def docker_daemon() -> Iterator[DockerDaemon]:
    """A daemon until the end of the block. Nothing is left of it, neither processes nor mounts."""
    folder = Path(tempfile.mkdtemp(prefix="dk-", dir="/tmp"))  # the path of a socket has to be short
    socket = folder / "s"
    command = ["dockerd", *ALONE, f"--host=unix://{socket}", f"--pidfile={folder}/pid"]
    command += [f"--data-root={folder}/data", f"--exec-root={folder}/exec"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: socket.is_socket() or process.poll() is not None, seconds=60, what="the socket of dockerd")
        assert process.poll() is None, f"dockerd, which needs root, ended: {(folder / 'log').read_text()}"
        transport = httpx.HTTPTransport(uds=str(socket))
        with httpx.Client(transport=transport, base_url="http://docker", timeout=60) as client:
            daemon = DockerDaemon(address=f"unix://{socket}", client=client)
            daemon.load()
            yield daemon
            for each in daemon.containers():
                client.delete(f"/containers/{each['Id']}", params={"force": "true", "v": "true"})
    finally:
        process.send_signal(signal.SIGTERM)  # it ends its containerd, too
        process.wait(60)
        for mount in _mounts_below(folder):
            subprocess.run(["umount", "--lazy", mount], check=True)
        shutil.rmtree(folder)


def root_of_image() -> bytes:
    """An archive with busybox and links to it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(BUSYBOX, "bin/busybox")
        for name in COMMANDS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        folder = tarfile.TarInfo("tmp")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    return buffer.getvalue()


def _mounts_below(folder: Path) -> list[str]:
    mounts = (line.split()[1] for line in Path("/proc/mounts").read_text().splitlines())
    return sorted((mount for mount in mounts if mount.startswith(f"{folder}/")), reverse=True)
