"""Earlier versions of the product, from the history of the repository."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Final

from tests.servers import ROOT

MIGRATIONS: Final = ":(glob)*/migrations/0*.py"
SQUASHED: Final = ":(glob)*/migrations/0001_squashed_*.py"


def before_the_newest_migration() -> str:
    """The last commit before our newest migration: the previous release, as long as no commit is tagged."""
    return _before_newest(MIGRATIONS)


def with_the_oldest_schema() -> str:
    """The last commit with the migrations that ours replace. We migrate no database of an earlier one."""
    return _before_newest(SQUASHED)


def _before_newest(files: str) -> str:
    return _git("rev-parse", f"{_git('log', '-1', '--no-renames', '--diff-filter=A', '--format=%H', '--', files)}^")


def checked_out(commit: str, folder: Path) -> Path:
    """The files of this commit, in a new folder there."""
    made = folder / "checkout"
    made.mkdir()
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(made)], input=archive, check=True)
    return made


def import_path(checkout: Path) -> str:
    """What PYTHONPATH has to be for this version: its files, and the libraries that it needs and ours does not."""
    needed = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["dependencies"]
    missing = [each for each in needed if not _is_installed(re.split(r"[^\w.-]", each, maxsplit=1)[0])]
    if not missing:
        return str(checkout)
    libraries = checkout.with_name("libraries")
    install = [sys.executable, "-m", "uv", "--quiet", "pip", "install", "--no-deps", "--target", str(libraries)]
    subprocess.run([*install, *missing], check=True)
    return f"{checkout}:{libraries}"


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _git(*words: str) -> str:
    found = subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    assert found, "This test needs the history of the repository: git fetch --unshallow"
    return found
