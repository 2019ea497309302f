"""A real SSH server on loopback, which runs what it is asked to in a shell, and passes signals on."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh


@dataclass(slots=True, kw_only=True)
class SshServer:
    """`commands` are the lines that it has run. `client_key` may log in as `deploy`; `known_hosts` knows it."""

    port: int
    client_key: Path
    known_hosts: Path
    commands: list[str] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)
    jobs: "set[asyncio.Task[None]]" = field(default_factory=set)
    """Those of the commands that run: until the process has ended and its pipes are closed."""
    groups: set[int] = field(default_factory=set)
    """The process groups of these commands."""
    is_over: bool = False

    def kill(self) -> None:
        for group in self.groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


@contextmanager
def ssh_server(folder: Path, *, has_files: bool = False) -> Iterator[SshServer]:
    """A server until the end of the block, with its keys in the folder. With files (SFTP), its commands end by themselves."""
    host_key, client_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    client_key.write_private_key(folder / "id")
    (folder / "authorized").write_bytes(client_key.export_public_key())
    server = SshServer(port=0, client_key=folder / "id", known_hosts=folder / "known_hosts")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    begun = asyncio.run_coroutine_threadsafe(_listening(server, host_key, folder / "authorized", has_files), loop)
    listening = begun.result(60)
    server.port = listening.get_port()
    public = host_key.export_public_key().decode()
    server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {public}")
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(_closed(server, listening), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _run(process: "asyncssh.SSHServerProcess[bytes]") -> None:
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec("/bin/sh", "-c", process.command or "", stdout=pipe, stderr=pipe)
    out, errors = await child.communicate()
    process.stdout.write(out)
    process.stderr.write(errors)
    process.exit(child.returncode or 0)


async def _listening(
    server: SshServer, host_key: asyncssh.SSHKey, authorized: Path, has_files: bool
) -> asyncssh.SSHAcceptor:
    more: Any = {"process_factory": _run, "sftp_factory": True} if has_files else {}
    return await asyncssh.create_server(
        asyncssh.SSHServer if has_files else lambda: _Server(server),
        "127.0.0.1",
        0,
        **more,
        server_host_keys=[host_key],
        authorized_client_keys=str(authorized),
        encoding=None,
    )


async def _closed(server: SshServer, listening: asyncssh.SSHAcceptor) -> None:
    listening.close()
    server.is_over = True
    server.kill()
    await listening.wait_closed()
    await asyncio.gather(*server.jobs)
    await asyncio.sleep(0)  # the transports close in the next turn


class _Server(asyncssh.SSHServer):
    def __init__(self, server: SshServer) -> None:
        self._server = server

    def begin_auth(self, username: str) -> bool:
        return True

    def session_requested(self) -> "asyncssh.SSHServerSession[bytes]":
        return _Session(self._server)


class _Session(asyncssh.SSHServerSession[bytes]):
    """A command in a process group of its own."""

    def __init__(self, server: SshServer) -> None:
        self._server = server
        self._process: asyncio.subprocess.Process | None = None

    def connection_made(self, chan: "asyncssh.SSHServerChannel[bytes]") -> None:
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        self._server.commands.append(command)
        job = asyncio.get_running_loop().create_task(self._run(command))
        self._server.jobs.add(job)
        job.add_done_callback(self._server.jobs.discard)
        return True

    def signal_received(self, signal: str) -> None:
        if self._process is not None and self._process.returncode is None:
            os.killpg(self._process.pid, getattr(_signals, f"SIG{signal}"))

    async def _run(self, command: str) -> None:
        pipe = asyncio.subprocess.PIPE
        self._process = process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", command, stdout=pipe, stderr=pipe, start_new_session=True
        )
        self._server.pids.append(process.pid)
        self._server.groups.add(process.pid)
        if self._server.is_over:
            self._server.kill()
        await asyncio.gather(self._pass_on(process.stdout, None), self._pass_on(process.stderr, 1))
        code = await process.wait()
        self._server.groups.discard(process.pid)
        if code < 0:
            self._channel.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
        else:
            self._channel.exit(code)

    async def _pass_on(self, stream: Any, datatype: int | None) -> None:
        while chunk := await stream.read(65_536):
            with suppress(OSError):  # the client has gone
                self._channel.write(chunk, datatype)


_signals = signal
