"""Writes docs/reference/settings.md and docs/config.example.yaml from the declarations: `python -m apflow_site.config.reference`."""

import re
import textwrap
from collections.abc import Iterator
from os.path import normpath
from pathlib import Path
from typing import Any, Final

import yaml

from apflow_site.config.known import Setting, known_settings, sections_in, variables
from apflow_site.config.sections import Config
from apflow_site.config.values import Section

DOCS: Final = Path(__file__).parents[2] / "docs"
UNITS: Final = (("PiB", 2**50), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
NO_BREAK: Final = "\N{NO-BREAK SPACE}"
HEAD: Final = "| key | environment | default | meaning |\n|---|---|---|---|\n"
EXAMPLE_HEAD: Final = """\
# Every key of the configuration. A key whose comment names a default shows an example instead:
# change it or remove it. Use the file with
#   aipartnerupflow serve --config config.yaml
# Omitted keys keep their default: see docs/reference/settings.md. `make reference` writes this file.
"""


def page(text: str) -> str:
    """Return the page with a new table below the heading of each section."""
    for section in Config.model_fields:
        rows = [_row(setting) for key, setting in known_settings().items() if f"{key}.".startswith(f"{section}.")]
        before, heading, rest = text.partition(f"\n## {section}\n\n")
        if not heading:
            raise LookupError(
                f"{DOCS}/reference/settings.md has no heading for the section '{section}': write it first."
            )
        _, end, after = rest.partition("\n\n")
        table = HEAD + "\n".join(rows)
        text = f"{before}{heading}{table}{end}{after}"
    return text


def example() -> str:
    return EXAMPLE_HEAD + "".join(_example_lines(Config, key="", indent=""))


def meaning(setting: Setting) -> str:
    """Return the description, and what the declaration says otherwise."""
    parts = ["Secret." if setting.is_secret else "", setting.description, _range(setting)]
    return " ".join(part for part in parts if part)


def as_text(default: Any) -> str:
    """Return a default as the environment has it."""
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return str(default).lower() if isinstance(default, bool) else str(default)


def _row(setting: Setting) -> str:
    names = " or ".join(f"`{name}`" for name in variables(setting.key))
    return f"| `{setting.key}` | {names} | {_default(setting)} | {meaning(setting)} |"


def _default(setting: Setting) -> str:
    if setting.is_computed:
        return "computed"
    if setting.default is None:
        return "none"
    return f"`{as_text(setting.default)}`" if setting.default != () else "empty"


def _range(setting: Setting) -> str:
    if setting.limits is None:
        return ""
    is_size = setting.key.endswith("_bytes")
    least, most = (_size(limit) if is_size else str(limit) for limit in setting.limits)
    return f"Range: {least} to {most}."


def _size(count: int) -> str:
    unit, size = next(((unit, size) for unit, size in UNITS if count >= size), ("", 1))
    return f"{count // size} {unit}".strip()


def _example_lines(section: type[Section], *, key: str, indent: str) -> Iterator[str]:
    inner = sections_in(section)
    for name in section.model_fields:
        if name in inner:
            yield f"{indent}{name}:\n" if indent else f"\n{name}:\n"
            yield from _example_lines(inner[name], key=f"{key}{name}.", indent=f"{indent}  ")
        else:
            setting = known_settings()[f"{key}{name}"]
            text = _comment(setting, width=100 - len(indent)) + _pair(name, setting)
            yield textwrap.indent(text, indent) if indent else f"\n{text}"


def _comment(setting: Setting, *, width: int) -> str:
    text = f"{meaning(setting)} {_default_beside_example(setting)}"
    plain = re.sub(r"\[.*?\]\((.*?)(#.*?)?\)", lambda link: normpath(f"docs/reference/{link[1]}"), text)
    whole = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", NO_BREAK), plain)
    lines = textwrap.wrap(whole, width - 2, break_long_words=False, break_on_hyphens=False)
    return "".join(f"# {line}\n" for line in lines).replace(NO_BREAK, " ")


def _default_beside_example(setting: Setting) -> str:
    """Return the default, if the file shows something else and the description does not say it."""
    if setting.example in (None, setting.default) or "Default:" in setting.description:
        return ""
    return f"Default: {_default(setting)}."


def _pair(name: str, setting: Setting) -> str:
    value = setting.default if setting.example is None else setting.example
    plain = list(value) if isinstance(value, tuple) else value
    in_one_line = None if isinstance(plain, list | dict) else False
    return yaml.safe_dump({name: plain}, default_flow_style=in_one_line, width=1000)


if __name__ == "__main__":
    settings = DOCS / "reference/settings.md"
    settings.write_text(page(settings.read_text()))
    (DOCS / "config.example.yaml").write_text(example())
