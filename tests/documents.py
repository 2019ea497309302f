"""The documentation's pages and their blocks of code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.servers import ROOT

PAGES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "clients").glob("*/*.md"), *(ROOT / "docs").rglob("*.md")])
PARTS: Final = re.compile(
    r"^#+ +(?P<heading>[^\n]*)$|^( *)```(?P<language>\w*)\n(?P<text>.*?)^\2```", re.MULTILINE | re.DOTALL
)
"""Headings and fenced blocks; a block is matched first, so that no comment in it is taken for a heading."""


class Block(NamedTuple):
    """`heading` is the one that it stands under."""

    page: str
    heading: str
    language: str
    text: str


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> Iterator[Block]:
    """In their order."""
    heading = ""
    for part in PARTS.finditer(page.read_text()):
        if part["heading"] is None:
            yield Block(named(page), heading, part["language"], part["text"])
        else:
            heading = part["heading"]


BLOCKS: Final = tuple(block for page in PAGES for block in blocks_of(page))


def texts(page: str, heading: str, language: str) -> list[str]:
    """What the blocks of this language hold that stand under a heading of a page."""
    return [text for *found, text in BLOCKS if found == [page, heading, language]]


def text(page: str, heading: str, language: str) -> str:
    """The only one of them. Raises ValueError when there are others, or none."""
    (found,) = texts(page, heading, language)
    return found
