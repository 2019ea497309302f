"""What others wrote and pages use: just what the lock says, with its licence, and nothing else."""

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest

from tests.servers import ROOT

VENDOR: Final = ROOT / "tasks" / "static" / "vendor"
LOCK: Final = {each["file"]: each for each in json.loads((VENDOR / "vendor.lock.json").read_text())}
OURS: Final = [*(ROOT / "templates").rglob("*.html"), *(ROOT / "tasks" / "static" / "dashboard").iterdir()]


@pytest.mark.parametrize("file", LOCK)
def test_each_file_is_the_one_that_is_locked(file: str) -> None:
    locked = LOCK[file]
    assert sha256((VENDOR / file).read_bytes()).hexdigest() == locked["sha256"]
    assert {"name", "version", "source", "licence"} <= locked.keys()
    assert (VENDOR / locked["licence_file"]).read_text().strip()


def test_nothing_is_there_that_is_not_locked() -> None:
    licences = {each["licence_file"] for each in LOCK.values()}
    assert {path.name for path in VENDOR.iterdir()} == LOCK.keys() | licences | {"vendor.lock.json"}


def test_everything_that_is_locked_is_used() -> None:
    sources = "".join(path.read_text() for path in OURS)
    assert [file for file in LOCK if f"vendor/{file}" not in sources] == []


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_no_page_fetches_anything_from_elsewhere(path: Path) -> None:
    fetched = re.findall(
        r"""(?:src|href|from|import|url)\s*[=(]?\s*["'(]?(https?://[^\s"')]+|//[a-z][^\s"')]+)""", path.read_text()
    )
    assert fetched == []
