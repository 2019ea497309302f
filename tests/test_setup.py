"""`make serve` and `make test` do all the set-up, on a machine that has Python, make and Debian's base system."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which
from typing import Final, NamedTuple

import httpx
import pytest

from tests.curl import curl
from tests.documents import texts
from tests.ports import free_port
from tests.servers import until

ROOT: Final = Path(__file__).parent.parent
PYTHON: Final = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}").resolve()
BASE_SYSTEM: Final = (
    "basename bash cat chmod cp cut date dirname du env expr find getopt grep head id ln ls mkdir mktemp mv ps readlink "
    "realpath rm sed sh sleep sort stat tail tee touch tr uname wc"
).split()
"""Programs of Debian's essential packages: coreutils, dash, bash, grep, sed, findutils, util-linux; and ps."""
PROGRAMS: Final = ["chromium", "nginx", "pgbouncer", "systemd-analyze", "dockerd", "busybox"]
PACKAGES: Final = "chromium-headless-shell nginx-light pgbouncer systemd docker.io busybox-static"
SET_UP: Final = ["sh", "scripts/set-up", "dev", *PROGRAMS]
INSTALL_SECONDS: Final = 400
LOCKED: Final = re.compile(r"^([a-z0-9._-]+)==(\S+?)(?: ; (.+?))? \\$", re.MULTILINE)
FILES_THAT_CONFIGURE_TESTS: Final = [
    "pyproject.toml",
    "Makefile",
    "scripts/run-tests",
    ".ci/run",
    "requirements/dev.txt",
]


class Machine(NamedTuple):
    """A clone of the repository, and the folder that is the whole PATH."""

    clone: Path
    path: Path

    def has(self, name: str, script: str) -> None:
        """Put a program on the PATH."""
        program = self.path / name
        program.unlink(missing_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def has_our(self, *names: str) -> None:
        for name in names:
            program = which(name, path=f"{os.environ['PATH']}:/usr/sbin")
            assert program, f"These tests need {name}"
            (self.path / name).symlink_to(program)

    def environment(self, **variables: str) -> dict[str, str]:
        """Ours without what configures a server, pytest or make."""
        ours = ("AIPARTNERUPFLOW_", "APFLOW_", "DJANGO_", "MAKE", "MFLAGS", "PYTEST_", "PYTHON", "TEST_", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return kept | {"PATH": str(self.path)} | variables

    def run(self, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            cwd=self.clone,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with Python, make and Debian's base system."""
    clone, path = tmp_path / "clone", tmp_path / "bin"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    path.mkdir()
    machine = Machine(clone=clone, path=path)
    machine.has_our(*BASE_SYSTEM, "make", "git")
    (path / "python3").symlink_to(PYTHON)
    return machine


@pytest.fixture
def user(machine: Machine) -> Machine:
    """The same machine for a user who is not root."""
    machine.has("id", "echo 1000")
    machine.has("apt-get", 'echo "$@" >> apt-get.log')
    return machine


@pytest.fixture
def root(machine: Machine) -> Machine:
    """The same machine for root. Its apt-get writes down what it is asked for and installs empty programs."""
    machine.has("id", "echo 0")
    machine.has(
        "apt-get", f'echo "$@" >> apt-get.log; for name in {" ".join(PROGRAMS)}; do touch "{machine.path}/$name"; done'
    )
    return machine


def installed_nothing(machine: Machine) -> bool:
    new = machine.run("git", "status", "--short", "--ignored").stdout
    return new == "" and not (machine.clone / ".venv").exists()


# --- programs that are missing ---


def test_make_test_names_what_is_missing_and_the_line_that_installs_it(user: Machine) -> None:
    done = user.run("make", "test")
    first, line, *_ = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        r"Missing: chromium (nginx )?(pgbouncer )?systemd-analyze (dockerd )?busybox\. This line installs them:", first
    )
    assert re.fullmatch(
        r"su -c 'apt-get install -y --no-install-recommends chromium-headless-shell (nginx-light )?(pgbouncer )?systemd (docker\.io )?busybox-static'",
        line,
    )
    assert installed_nothing(user)


def test_a_sudo_that_would_ask_for_a_password_is_only_named(user: Machine) -> None:
    user.has("sudo", '[ "$1" = -n ] || echo "$@" >> sudo.log; exit 1')
    done = user.run(*SET_UP)
    assert (done.returncode, done.stderr.splitlines()[1:]) == (
        1,
        [f"sudo apt-get install -y --no-install-recommends {PACKAGES}"],
    )
    assert installed_nothing(user)


def test_without_apt_get_the_programs_are_named(machine: Machine) -> None:
    done = machine.run(*SET_UP)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Missing: chromium nginx pgbouncer systemd-analyze dockerd busybox. Install them and try again.",
        f"On Debian: apt-get install -y --no-install-recommends {PACKAGES}. On macOS: brew install chromium nginx pgbouncer.",
    ]
    assert installed_nothing(machine)


def test_the_benchmarks_name_their_client(machine: Machine) -> None:
    done = machine.run("make", "bench")
    assert done.stderr.splitlines()[:2] == [
        "Missing: wrk. Install them and try again.",
        "On Debian: apt-get install -y --no-install-recommends wrk. On macOS: brew install wrk.",
    ]
    assert installed_nothing(machine)


def test_root_is_told_before_packages_are_installed(root: Machine) -> None:
    done = root.run(*SET_UP)
    assert (
        done.stdout
        == f"Missing: chromium nginx pgbouncer systemd-analyze dockerd busybox. Installing with apt-get: {PACKAGES}\n"
    )
    assert (
        root.clone / "apt-get.log"
    ).read_text() == f"update -qq\ninstall -y -qq --no-install-recommends {PACKAGES}\n"
    assert done.stderr == (
        f"apt-get installed {PACKAGES}, but these are still missing: chromium nginx pgbouncer systemd-analyze dockerd busybox.\n"
    )


def test_a_sudo_without_a_password_installs(user: Machine) -> None:
    user.has("sudo", 'if [ "$1" = -n ]; then shift; else echo "$@" >> sudo.log; fi; "$@"')
    done = user.run(*SET_UP)
    assert done.stdout.endswith(f"Installing with sudo apt-get: {PACKAGES}\n")
    assert (
        user.clone / "apt-get.log"
    ).read_text() == f"update -qq\ninstall -y -qq --no-install-recommends {PACKAGES}\n"


def test_a_python_that_cannot_make_environments_is_completed(user: Machine, tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without/ensurepip.py").write_text("raise ImportError")
    user.has("python3", f'PYTHONPATH={tmp_path}/without exec {PYTHON} "$@"')
    done = user.run("make", "serve")
    assert done.stderr.splitlines()[:2] == [
        "Missing: ensurepip. This line installs them:",
        "su -c 'apt-get install -y --no-install-recommends python3-venv'",
    ]
    assert installed_nothing(user)


@pytest.mark.parametrize(
    ("found", "said"), [("exit 1", "none"), ("[ $1 = --version ] && echo Python 3.9.2", "Python 3.9.2")]
)
def test_a_python_that_fits_is_asked_for(user: Machine, found: str, said: str) -> None:
    user.has("python3", found)
    done = user.run("make", "serve")
    assert done.stderr.startswith("This needs Python 3.11, 3.12, 3.13 or 3.14 on PATH, as one of: ")
    assert f"Found: {said}.\nOn Debian: apt-get install -y python3 python3-venv." in done.stderr
    assert installed_nothing(user)


# --- files that agree ---


def test_ci_runs_the_tests_and_the_checks_and_nothing_else() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == [
        "set -euo pipefail",
        'cd "$(dirname "$0")/.."',
        "exec </dev/null",
        "make install",
        "make check &",
        "make test",
        "wait $!",
    ]


@pytest.mark.parametrize("name", FILES_THAT_CONFIGURE_TESTS)
def test_no_failed_test_runs_again(name: str) -> None:
    assert "rerun" not in (ROOT / name).read_text().lower()


def locked(name: str) -> set[tuple[str, ...]]:
    """The packages of a lock, each with its version and its condition."""
    return set(LOCKED.findall((ROOT / "requirements" / f"{name}.txt").read_text()))


def test_serving_without_the_large_executors_is_a_part_of_all() -> None:
    packages = {(name, version) for name, version, _ in locked("serve")}
    assert packages < {(name, version) for name, version, _ in locked("all")}


@pytest.mark.parametrize("part", ["serve", "all", "build"])
def test_development_includes_what_serving_and_building_need(part: str) -> None:
    packages = {(name, version) for name, version, _ in locked(part)}
    assert packages
    assert packages <= {(name, version) for name, version, _ in locked("dev")}


# --- the two commands ---


@contextmanager
def serving(machine: Machine, *, port: int, log: Path) -> Iterator[str]:
    """The URL of the server that `make serve` starts. It installs first."""
    url, environment = f"http://127.0.0.1:{port}", machine.environment(AIPARTNERUPFLOW_DATA_DIR=f"{log.parent}/data")
    command = ["make", "serve", f"ARGS=--port {port}"]

    def is_healthy() -> bool:
        assert make.poll() is None, log.read_text()
        with suppress(httpx.TransportError):
            return httpx.get(f"{url}/health").is_success
        return False

    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, cwd=machine.clone, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        ) as make,
    ):
        try:
            until(is_healthy, seconds=INSTALL_SECONDS, what=f"200 from {url}/health", pause_seconds=0.1)
            yield url
        finally:
            make.terminate()


def said(pattern: str, text: str) -> Mapping[str, str]:
    found = re.search(pattern, text, re.MULTILINE)
    assert found, text
    return found.groupdict()


def gigabytes(output: str) -> object:
    """The size that was printed after an installation, give or take what differs between machines."""
    printed = said(r"^Installed \d+ packages, (?P<size>[\d.]+)\s+GB, in \d+ s$", output)
    return pytest.approx(float(printed["size"]), rel=0.2)


def documented(document: str, pattern: str) -> float:
    return float(said(pattern, (ROOT / document).read_text())["size"])


@pytest.mark.nightly
@pytest.mark.timeout(2 * INSTALL_SECONDS)
def test_make_serve_is_all_that_an_empty_clone_needs(machine: Machine, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(machine, port=free_port(), log=log) as url:
        install, size, *_ = log.read_text().splitlines()
        assert install == "Installing what serving needs into .venv"
        assert gigabytes(size) == documented("README.md", r"(?P<size>[\d.]+)\s+GB on disk")
        printed = said(r"^Try +(?P<command>\.venv/bin/aipartnerupflow run .+)$", log.read_text())["command"]
        tried = machine.run("sh", "-c", printed.replace("--watch", "--no-wait"))  # it waits for an answer
        assert (tried.returncode, tried.stderr) == (0, "")
        answer = curl(texts("README.md", "The same over HTTP", "sh")[0], base_url=url).json()
        assert answer["result"]["contextId"] == "task1"
    assert [
        name for name in ("pytest", "mypy", "mkdocs", "ruff") if (machine.clone / ".venv/bin" / name).exists()
    ] == []
    (machine.clone / "requirements/serve.txt").touch()
    again = machine.run("make", ".venv/serving")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


@pytest.mark.nightly
@pytest.mark.timeout(2 * INSTALL_SECONDS)
def test_make_test_is_all_that_an_empty_clone_needs(machine: Machine) -> None:
    machine.has_our(*PROGRAMS)
    files = "tests/test_browser.py tests/tasks/rules/test_tree.py tests/llmkeys/test_keys.py"
    done = machine.run("make", "test", f"ARGS={files}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert gigabytes(done.stdout) == documented("CONTRIBUTING.md", r"`requirements/dev.txt`, (?P<size>[\d.]+)\s+GB")
    again = machine.run("make", ".venv/serving")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
