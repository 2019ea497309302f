"""Clocks that are wrong: libfaketime, for the processes that are started with this environment."""

from pathlib import Path
from typing import Final

LIBRARIES: Final = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")


def library() -> Path:
    """Raises AssertionError where it is not installed."""
    found = [path for pattern in LIBRARIES for path in Path("/").glob(pattern.removeprefix("/"))]
    assert found, "This test needs libfaketime: apt-get install libfaketime"
    return found[0]


def shifted(file: Path) -> dict[str, str]:
    """The environment of a process whose clock is shifted by what the file says, `+10` seconds for example, at every moment.

    The monotonic clock is right, as on a machine whose clock is set.
    """
    return {
        "LD_PRELOAD": str(library()),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }


def set_clock(file: Path, shift: str) -> None:
    """Shift the clocks of the processes that read this file; they may read it at any moment."""
    new = file.with_suffix(".new")
    new.write_text(f"{shift}\n")
    new.rename(file)
