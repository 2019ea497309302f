"""docs/reference/cli.md against the real commands: each with its sentence, its arguments and its options, and no others."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from aipartnerupflow.cli import FLAGS, app
from aipartnerupflow.cli.options import ExitCode
from apflow_site.config import known_settings
from tests.servers import ROOT

PAGE = (ROOT / "docs/reference/cli.md").read_text()
COMMON = {"--url", "--token", "--config", "--json", "--help"}
"""Described once for all commands that have them."""


def commands(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command by its full name."""
    for word, command in group.commands.items():
        full = f"{name} {word}".strip()
        if hasattr(command, "commands"):
            yield from commands(command, full)
        else:
            yield full, command


COMMANDS = dict(commands(typer.main.get_command(app)))


def section(name: str) -> str:
    found = re.search(rf"^### `{name}`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/reference/cli.md has no section for {name}"
    return found[1]


def rows_of(command: Any) -> list[tuple[str, str]]:
    """What the table of the command says: the name of each parameter, and its help."""
    rows = [(" ".join([*param.opts, *param.secondary_opts]), param) for param in command.params]
    return [
        (param.metavar or name.upper() if param.param_type_name == "argument" else name, param.help)
        for name, param in rows
        if name not in COMMON
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_described_as_its_help_describes_it(name: str) -> None:
    text = section(name)
    assert " ".join(COMMANDS[name].help.split()) in " ".join(text.split())
    assert re.findall(r"^\| `(.+?)` \| (.+?) \|$", text, re.MULTILINE) == rows_of(COMMANDS[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_no_type_of_python(name: str) -> None:
    printed = COMMANDS[name].get_help(typer.Context(COMMANDS[name], info_name=name))
    assert not re.findall(r"<\w+>|<list\[|range>|\.{6}|\{[A-Za-z.]+\} ", printed)


def test_no_command_is_described_that_is_not_there() -> None:
    assert re.findall(r"^### `(.+?)`$", PAGE, re.MULTILINE) == list(COMMANDS)


def test_every_exit_code_is_explained() -> None:
    explained = re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)
    assert explained == [str(int(code)) for code in ExitCode]


@pytest.mark.parametrize(("key", "flag"), [(key, flag) for key, flag in FLAGS.items() if flag != "--no-worker"])
def test_the_help_of_a_flag_names_the_default_of_its_setting(key: str, flag: str) -> None:
    [option] = [option for option in COMMANDS["serve"].params if flag in option.opts]
    default = known_settings()[key].default
    assert option.help.endswith(f"(default: {'none' if default is None else default}).")
