"""Benchmark of files: a large one in and out by HTTP beside nginx, and the memory of the server while a larger one passes.

    python -m benchmarks.files [--mib 1024] [--rounds 3] [--memory-mib 5120]

Starts `aipartnerupflow serve` with one web process and one worker process, and nginx with its module for WebDAV, both with
their files in a new folder under `build/`: the same disk. `curl` sends the same file to both and gets it, in turns. Prints
the medians, the ratios of the same round, and the processor time of the server for a GiB.

Then a client sends the larger file, a task copies it, and the client gets the copy. Prints how much the resident memory of
each process has grown at its height since a small file has passed. 0 leaves a part out. The larger one takes two times its
size on the disk.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.request import Request, urlopen

from aipartnerupflow.executors import current_context, python_function
from benchmarks.http import Json, free_port, serving_at
from benchmarks.processes import cpu_of_web, processes_below

MIB: Final = 2**20
NGINX: Final = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; {user}
events {{}}
http {{
  access_log off; sendfile on; client_max_body_size 0;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; location / {{ root {folder}/files; dav_methods PUT DELETE; }} }}
}}
"""
FILES_SYNC: Final = "AIPARTNERUPFLOW_FILES_SYNC"


@python_function
async def copy_of(document: Json) -> Json:
    """Save the file again, a MiB at a time."""
    files = current_context().files
    return await files.save("copy", files.stream(document))


# --- beside nginx ---


@contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """Run nginx with its files in the folder. Yields its address."""
    (folder / "files").mkdir(parents=True)
    port, user = free_port(), "user root;" if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, user=user))
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None
    command = [program, "-p", str(folder), "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log"]
    with subprocess.Popen(command) as process:
        try:
            while not (folder / "pid").exists():
                assert process.poll() is None, "nginx has ended"
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def curl(*arguments: str) -> tuple[float, str]:
    """Make a request. Returns its seconds and the end of its output. Raises CalledProcessError for a status of an error."""
    command = ["curl", "-sSf", "-H", "Expect:", "-w", "\n%{time_total}", *arguments]
    *output, seconds = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    return float(seconds), "".join(output)


def rpc(port: int, method: str, params: Json) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    address = f"http://127.0.0.1:{port}/tasks"
    with urlopen(Request(address, body, {"Content-Type": "application/json"}), timeout=600) as reply:
        found = json.load(reply)
    assert "result" in found, found
    return found["result"]


def rates(size: int, *, rounds: int, folder: Path, sync: str) -> dict[str, list[float]]:
    """Send and get a file of so many bytes in turns. Returns MiB/s, and the processor time of the web process in s/GiB."""
    source = folder / "source"
    with source.open("wb") as opened:
        for _ in range(size // MIB):
            opened.write(os.urandom(MIB))
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    with (
        serving_at(None, folder=str(folder / "ours"), settings={FILES_SYNC: sync}) as port,
        nginx(folder / "nginx") as other,
    ):
        ours = f"http://127.0.0.1:{port}/files"
        for number in range(rounds + 1):  # the first warms both up
            os.sync()
            put, _ = curl("-T", str(source), f"{other}/file")
            os.sync()
            get, _ = curl("-o", os.devnull, f"{other}/file")
            spent = cpu_of_web(port)
            posted, sent = curl("-X", "POST", "-T", str(source), f"{ours}?name=file")
            spent_in = cpu_of_web(port) - spent
            os.sync()
            file_id = json.loads(sent)["$file"]
            spent = cpu_of_web(port)
            got, _ = curl("-o", os.devnull, f"{ours}/{file_id}")
            spent_out = cpu_of_web(port) - spent
            rpc(port, "files.delete", {"file_id": file_id})
            if number:
                for name, seconds in (("nginx in", put), ("nginx out", get), ("in", posted), ("out", got)):
                    note(name, size / MIB / seconds)
                note("cpu in", spent_in * 1024 * MIB / size)
                note("cpu out", spent_out * 1024 * MIB / size)
    return found


# --- memory ---


def pass_through(port: int, source: Path) -> None:
    """Send the file, let a task copy it, and get the copy."""
    address = f"http://127.0.0.1:{port}/files"
    _, sent = curl("-X", "POST", "-T", str(source), f"{address}?name=file")
    inputs = {"function": "copy_of", "arguments": {"document": json.loads(sent)}}
    tasks = [{"name": "python_executor", "inputs": inputs}]
    done = rpc(port, "tasks.execute", {"tasks": tasks, "wait": True, "wait_timeout_seconds": 600})
    assert done["status"] == "completed", done
    copy = rpc(port, "tasks.get", {"task_id": done["root_task_id"]})["result"]
    curl("-o", os.devnull, f"{address}/{copy['$file']}")


def growth(port: int, size: int, *, folder: Path, pids: Sequence[int]) -> dict[int, float]:
    """Let a file of so many bytes pass. Returns by how many MiB each process has grown at its height."""
    small, large = folder / "small", folder / "large"
    small.write_bytes(b"x")
    large.touch()
    os.truncate(large, size)  # of zeros, which take no room here
    pass_through(port, small)  # what is imported at the first use is there
    before = {pid: memory(pid, "VmRSS") for pid in pids}
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the kernel forgets the height
    pass_through(port, large)
    return {pid: memory(pid, "VmHWM") - before[pid] for pid in pids}


def memory(pid: int, line: str) -> float:
    """Return the MiB that a process has in memory now (VmRSS), or had at its height (VmHWM)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{line}:")[2].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-mib", type=int, default=5120)
    given = parser.parse_args()
    build = Path(__file__).parents[1] / "build"
    build.mkdir(exist_ok=True)
    for sync in ("always", "never") if given.mib else ():
        with tempfile.TemporaryDirectory(dir=build) as folder:
            found = rates(given.mib * MIB, rounds=given.rounds, folder=Path(folder), sync=sync)
        print(f"\n{table(found, sync)}\nLoad average: {os.getloadavg()[0]:.1f}", flush=True)
    if given.memory_mib:
        with tempfile.TemporaryDirectory(dir=build) as folder:
            print(memory_table(given.memory_mib * MIB, folder=Path(folder)))


def memory_table(size: int, *, folder: Path) -> str:
    """Return the growth of each process in MiB while the file passed, as Markdown."""
    settings = {
        "AIPARTNERUPFLOW_WORKER_PROCESSES": "1",
        "AIPARTNERUPFLOW_EXECUTORS_MODULES": "benchmarks.files",
        "AIPARTNERUPFLOW_LIMITS_FILE_BYTES": str(size),
    }
    with serving_at(None, folder=str(folder / "ours"), settings=settings) as port:
        names = {process.pid: process.name for process in processes_below(os.getpid())}
        grown = growth(port, size, folder=folder, pids=list(names))
    lines = [f"\n| {size // MIB:,} MiB in, copied and out | MiB more at the height |", "|---|---:|"]
    return "\n".join([*lines, *(f"| `{names[pid]}` | {mib:.1f} |" for pid, mib in grown.items())])


def table(found: dict[str, list[float]], sync: str) -> str:
    """The medians, and the ratios of the same round, as Markdown."""
    lines = [f"| files.sync: {sync} | MiB/s | nginx | ratio | processor s/GiB |", "|---|---:|---:|---:|---:|"]
    for way in ("in", "out"):
        ours, theirs, spent = (found[name] for name in (way, f"nginx {way}", f"cpu {way}"))
        ratio = median(one / other for one, other in zip(ours, theirs, strict=True))
        figures = f"{median(ours):,.0f} | {median(theirs):,.0f} | {ratio:.2f} | {median(spent):.2f}"
        lines.append(f"| {way} | {figures} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
