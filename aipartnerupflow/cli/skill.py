"""`aipartnerupflow skill …`: what a coding agent needs to know to write flows, workflows and executors."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final

import typer

from aipartnerupflow.cli.options import refuse
from aipartnerupflow.cli.output import line

skill = typer.Typer(no_args_is_help=True, help="Install the skill for coding agents.")

NAME: Final = "aipartnerupflow"
DEFAULT: Final = Path(".agents/skills")
"""The folder in which coding agents look for the skills of a project."""


@skill.command("install")
def install(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of the agent's skills (default: .agents/skills).")
    ] = DEFAULT,
) -> None:
    """Write a skill file for coding agents: how to write flows, workflows and executors. An older one is replaced."""
    text = (files("aipartnerupflow") / "skill" / "SKILL.md").read_text()
    file = folder / NAME / "SKILL.md"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    except OSError as error:
        refuse(f"Cannot write {file}: {error.strerror or error}.")
    line(f"Wrote {file}.")
