"""A real Docker daemon of its own, with one small image, made of busybox. It needs root, and the Debian packages docker.io and busybox-static."""

import gzip
import hashlib
import io
import json
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import httpx

from tests.servers import until

BUSYBOX: Final = Path("/usr/bin/busybox")
COMMANDS: Final = ("cat", "echo", "env", "grep", "id", "ls", "printf", "pwd", "sh", "sleep", "tail", "touch", "yes")
IMAGE: Final = "box:1"
UNKNOWN: Final = b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'
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


@contextmanager
def registry() -> Iterator[str]:
    """The address of a registry, which has the image under every name but `none`."""
    archive, kind = root_of_image(), "application/vnd.docker"
    layer = gzip.compress(archive, compresslevel=1)
    root = {"type": "layers", "diff_ids": [_digest(archive)]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": root}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.distribution.manifest.v2+json",
        "config": _blob(config, f"{kind}.container.image.v1+json"),
        "layers": [_blob(layer, f"{kind}.image.rootfs.diff.tar.gzip")],
    }
    blobs = {_digest(each): each for each in (config, layer)}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = 200, "application/octet-stream", blobs.get(self.path.rpartition("/")[2], b"{}")
            if "/none/" in self.path:
                status, kind, body = 404, "application/json", UNKNOWN
            elif "/manifests/" in self.path:
                kind, body = str(manifest["mediaType"]), json.dumps(manifest).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _blob(body: bytes, kind: str) -> dict[str, Any]:
    return {"mediaType": kind, "size": len(body), "digest": _digest(body)}


def _mounts_below(folder: Path) -> list[str]:
    mounts = (line.split()[1] for line in Path("/proc/mounts").read_text().splitlines())
    return sorted((mount for mount in mounts if mount.startswith(f"{folder}/")), reverse=True)
