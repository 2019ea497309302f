"""Keeps what Python has compiled of the installed packages in ~/.cache, beside uv's copy of the packages themselves.

It does so after the tests have run, and install.py puts it into a new .venv: compiling the 8,500 modules that the tests load
takes a twentieth of their processor time. Both make hard links. Python compares what it finds with the size and the time of
the source, and replaces what does not fit.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

VENV: Final = Path(__file__).resolve().parents[1] / ".venv"
STAMP: Final = VENV / "installed"
"""Contains the hash of what is installed."""
CACHE: Final = Path.home() / ".cache/aipartnerupflow/bytecode"


def keep() -> None:
    """Keep what is compiled for the requirements that are installed, and nothing of others."""
    name = STAMP.read_text()
    for other in CACHE.glob("*"):
        if other.name != name:
            shutil.rmtree(other, ignore_errors=True)
    link_compiled(VENV, CACHE / name)


def restore() -> None:
    """Put in what was kept for them."""
    link_compiled(CACHE / STAMP.read_text(), VENV)


def link_compiled(source: Path, target: Path) -> None:
    """Give each file of byte code below `source` the same place below `target`, if they are on the same disk."""
    with suppress(OSError):
        for folder, _, files in os.walk(source):
            if folder.endswith("__pycache__"):
                place = target / Path(folder).relative_to(source)
                place.mkdir(parents=True, exist_ok=True)
                for file in files:
                    _link(Path(folder, file), place / file)


def _link(file: Path, place: Path) -> None:
    if not place.exists():
        place.hardlink_to(file)
    elif not place.samefile(file):
        place.unlink()
        place.hardlink_to(file)


if __name__ == "__main__":
    keep()
