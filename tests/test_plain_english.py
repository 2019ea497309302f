"""The texts that people read avoid the words that CONTRIBUTING.md rules out, and Markdown prose is wrapped."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from typer.main import get_command

from aipartnerupflow.cli import app
from tests.documents import PAGES, named
from tests.servers import ROOT

#: Each hides the subject of its sentence, or replaces a term of docs/reference/glossary.md.
TO_AVOID: Final = """
    whoever, whomever, whatever, somebody, nobody, everybody, anybody,
    anew, told, by then, in its turn, gives way, becomes of, became of, comes of, came of, comes to,
    stands in, stand in, stands where, stands under, where it stands, how tasks stand,
    goes on, go on, went on, hears of, hear of, tells of, tells whose, lets go of,
    is sealed, are sealed, seals, doorbell, at every door, by every door, whichever door,
    is said, what it is for, who asks, what is asked, what was asked, what is wanted, what was wrong,
    what there is, wants patience, looked at, so long it
"""
PER_THOUSAND_WORDS: Final = 0.3
#: A sentence begins with its subject, a docstring of a function with a verb (ruff D401): these hide it.
OPENINGS: Final = re.compile(
    r"(?:\A\s*(?=(?:By|From|That|Where|Why|With)\b)"
    r"|(?:\A\s*|[.!?:]\s+|\n\s*\n\s*|\|\s|^- )(?=(?:Those|Of|The same|What|Which|How|Whose?)\b))"
    r"(The same|\w+)(?![^.!?|]*\?)",
    re.MULTILINE,
)
WIDTH: Final = 100
PACKAGES: Final = ("a2a", "accounts", "aipartnerupflow", "apflow_site.db", "apflow_site", "llmkeys", "tasks")
PHRASES: Final = [r"\s+".join(phrase.split()) for phrase in TO_AVOID.split(",")]
AVOIDED: Final = re.compile(rf"\b(?:{'|'.join(PHRASES)})\b", re.IGNORECASE)
FENCES: Final = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
INLINE_CODE: Final = re.compile(r"(`+)[^`].*?\1")
NOT_SHOWN: Final = re.compile(r"{%.*?%}|{#.*?#}|{{.*?}}|<(script|style)\b.*?</\1>", re.DOTALL)
SHOWN_ATTRIBUTES: Final = re.compile(r'\b(?:title|alt|placeholder|aria-label)="([^"]*)"')
TAG: Final = re.compile(r"<[^>]*>")


class Passage(NamedTuple):
    """A text, the file or command it is in, and the number of its first line."""

    place: str
    line: int
    text: str


def documentation() -> Iterator[Passage]:
    for page in PAGES:
        yield Passage(named(page), 1, INLINE_CODE.sub("", _without_fences(page)))


def docstrings() -> Iterator[Passage]:
    """Of modules, classes and functions, and those below constants and fields."""
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                yield Passage(str(path.relative_to(ROOT)), node.lineno, INLINE_CODE.sub("", node.value.value))


def templates() -> Iterator[Passage]:
    """The text of the pages, and of the attributes that browsers show or read aloud."""
    for path in sorted((ROOT / "templates").rglob("*.html")):
        html = NOT_SHOWN.sub(_newlines_of, path.read_text())
        yield Passage(str(path.relative_to(ROOT)), 1, TAG.sub(_shown_of, html))


def command_line_help() -> Iterator[Passage]:
    for name, command in _commands(get_command(app), "aipartnerupflow"):
        yield Passage(f"{name} --help", 1, command.help or "")
        for parameter in command.params:
            yield Passage(f"{name} {parameter.name}", 1, getattr(parameter, "help", None) or "")


#: A part joins once its texts pass; one is still to come: docstrings.
PARTS: Final[list[Callable[[], Iterable[Passage]]]] = [documentation, docstrings, templates, command_line_help]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_texts_are_plain_english(part: Callable[[], Iterable[Passage]]) -> None:
    passages = list(part())
    words = sum(len(passage.text.split()) for passage in passages)
    found = [place for passage in passages for place in places(passage)]
    assert len(found) <= PER_THOUSAND_WORDS * words / 1000, "\n".join([f"{words} words:", *found])


def places(passage: Passage, pattern: re.Pattern[str] = AVOIDED) -> Iterator[str]:
    for match in pattern.finditer(passage.text):
        line = passage.line + passage.text.count("\n", 0, match.start(pattern.groups))
        yield f"{passage.place}:{line}: {' '.join(match[pattern.groups].split())}"


@pytest.mark.parametrize("part", [documentation, docstrings], ids=lambda part: part.__name__)
def test_sentences_begin_with_their_subject(part: Callable[[], Iterable[Passage]]) -> None:
    passages = [passage for passage in part() if passage.place != "CHANGELOG.md"]
    assert [place for passage in passages for place in places(passage, OPENINGS)] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Those of the run.", ["Those"]),
        ("It runs. What it returns is stored.", ["What"]),
        ("What runs now?", []),
        ("The tasks of the run. Of a copy they are new.", ["Of"]),
        ("| a | How long it takes. |", ["How"]),
        ("Say what it returns.", []),
        ("By name.", ["By"]),
        ("Rows. By name.", []),
    ],
)
def test_openings_are_found(text: str, found: list[str]) -> None:
    assert OPENINGS.findall(text) == found


def test_a_phrase_is_found_across_lines_and_named_with_its_line() -> None:
    assert list(places(Passage("page", 7, "A run\nthat in its\nturn ends."))) == ["page:8: in its turn"]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_prose_is_wrapped(page: Path) -> None:
    """Tables and images need their lines whole."""
    lines = enumerate(_without_fences(page).splitlines(), start=1)
    assert [number for number, line in lines if len(line) > WIDTH and not line.startswith(("|", "!["))] == []


def _without_fences(page: Path) -> str:
    """With as many lines."""
    return FENCES.sub(_newlines_of, page.read_text())


def _newlines_of(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


def _shown_of(tag: re.Match[str]) -> str:
    return f" {' . '.join(SHOWN_ATTRIBUTES.findall(tag[0]))} {_newlines_of(tag)}"


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for word, below in getattr(command, "commands", {}).items():
        yield from _commands(below, f"{name} {word}")
