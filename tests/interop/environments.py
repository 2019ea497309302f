"""Environments of their own for clients that cannot share ours; made on first use, and kept below `build/`."""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "build/interop"
TIMEOUT_SECONDS: Final = 60
Json = dict[str, Any]


def python_with(name: str, *requirements: str) -> Path:
    """The interpreter of the environment of this name, which has these requirements and what they need."""
    folder = FOLDER / name
    if not folder.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=FOLDER))
        _uv("venv", "--clear", "--python", sys.executable, str(unfinished))
        _uv("pip", "install", "--python", str(unfinished / "bin/python"), *requirements)
        with suppress(OSError):  # somebody else was faster
            unfinished.rename(folder)
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder / "bin/python"


def node_packages(source: Path) -> Path:
    """A copy of the folder, with the packages of its package-lock.json installed."""
    lock = (source / "package-lock.json").read_bytes()
    folder = FOLDER / f"{source.name}-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not folder.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=FOLDER))
        shutil.copytree(source, unfinished, dirs_exist_ok=True)
        npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(npm, cwd=unfinished, check=True, timeout=10 * TIMEOUT_SECONDS, capture_output=True)
        with suppress(OSError):  # somebody else was faster
            unfinished.rename(folder)
        shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(source, folder, dirs_exist_ok=True)  # the scripts may have changed
    return folder


def run(python: Path, script: str, *arguments: str) -> Json:
    """What a script beside this file prints as JSON. Raises AssertionError with what it complains about."""
    return printed(str(python), "-I", str(Path(__file__).parent / script), *arguments)


def printed(*command: str) -> Json:
    """What a command prints as JSON. Raises AssertionError with what it complains about."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    said: Json = json.loads(done.stdout)
    return said


def _uv(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "uv", "--quiet", *arguments], cwd=ROOT, check=True, timeout=10 * TIMEOUT_SECONDS
    )
