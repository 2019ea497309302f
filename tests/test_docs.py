"""The documentation: what it shows is valid, what it refers to is there, and it becomes a site."""

import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from typer.main import get_command

from aipartnerupflow.cli import app
from tests.documents import BLOCKS, PAGES, Block, named
from tests.servers import ROOT

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
IMAGE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)|<img[^>]+src=\"([^\"]+)\"")
PROGRAM = re.compile(r"^(?:[A-Z_]+=\S+ )*(?:\S*/)?aipartnerupflow(-server)? ([^|<>#;&\n]*)", re.MULTILINE)


@pytest.mark.parametrize("document", PAGES, ids=named)
def test_code_is_what_it_says_it_is(document: Path) -> None:
    for block in BLOCKS:
        if block.page == named(document):
            check(block)


def check(block: Block) -> None:
    match block.language:
        case "json":
            json.loads(block.text)
        case "yaml":
            yaml.safe_load(block.text)
        case "python":
            compile(block.text, block.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def commands() -> Iterator[tuple[str, str]]:
    for block in BLOCKS:
        if block.language in ("sh", "bash", "shell"):
            text = block.text.replace("\\\n", " ")
            for is_server, words in PROGRAM.findall(text):
                yield block.page, f"serve {words}" if is_server else words


@pytest.mark.parametrize(("page", "words"), sorted(set(commands())))
def test_a_command_that_is_shown_is_one_of_ours(page: str, words: str) -> None:
    command: Any = get_command(app)
    arguments = shlex.split(words)
    while isinstance(commands := getattr(command, "commands", None), dict):
        name = arguments.pop(0)
        assert name in commands, f"{page}: there is no command '{name}'"
        command = commands[name]
    if "--help" not in arguments and "…" not in arguments:
        command.make_parser(command.context_class(command)).parse_args(arguments)


@pytest.mark.parametrize("document", PAGES, ids=named)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    links = [*LINK.findall(text), *(first or second for first, second in IMAGE.findall(text))]
    for link in links:
        if not link.startswith(("http://", "https://", "mailto:")):
            path, _, anchor = link.partition("#")
            target = (document.parent / path).resolve() if path else document
            assert target.exists(), f"{link} is not there"
            assert not anchor or target.suffix != ".md" or anchor in anchors(target), f"{link} has no such heading"


def anchors(page: Path) -> set[str]:
    """The names of the headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ +(.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


#: The pages for users; decisions are for those who change the code.
OF_THE_SITE = [page for page in PAGES if ROOT / "docs" in page.parents and "design" not in page.parts]


def test_every_page_is_in_the_menu_and_in_the_index() -> None:
    names = sorted(str(page.relative_to(ROOT / "docs")) for page in OF_THE_SITE)
    menu = re.findall(r"^ +- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    index = re.findall(r"\]\(([\w/.-]+\.md)", (ROOT / "docs" / "index.md").read_text())
    assert sorted(menu) == names
    assert sorted({"index.md", *index} - {"../clients/typescript/README.md"}) == names


def _dead_links(site: Path) -> Iterator[str]:
    """The links within a built site that lead to no file of it."""
    for page in sorted(site.rglob("index.html")):
        for link in re.findall(r'href="([^"#:]+)(?:#[^"]*)?"', page.read_text()):
            target = page.parent / unquote(link)
            if not (target.is_file() or (target / "index.html").is_file()):
                yield f"{page.relative_to(site)}: {link}"


def test_the_site_is_built(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    pages = {page.relative_to(ROOT / "docs").with_suffix("") for page in OF_THE_SITE}
    assert all((tmp_path / page / "index.html").is_file() or page.name == "index" for page in pages)
    assert not (tmp_path / "design").exists()
    assert [*_dead_links(tmp_path)] == []
    front = (tmp_path / "index.html").read_text()
    assert not re.search(r"(?:src|href)=\"https?://(?!squidfunk|github)", front)  # nothing is loaded from elsewhere
