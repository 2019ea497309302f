"""The options and arguments in `--help`: flags without a type, and one spelling of the types of all others."""

import re
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, Final

from typer.core import TyperCommand, TyperGroup, TyperOption

WORDS: Final = MappingProxyType({"str": "TEXT", "int": "NUMBER", "float": "NUMBER", "path": "FILE"})
"""Type of Python → its word in the help."""


class PlainCommand(TyperCommand):
    """A command with plain help."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _plain(super().get_params(ctx), ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [_without_braces(piece) for piece in super().collect_usage_pieces(ctx)]


class PlainGroup(TyperGroup):
    """A group of commands with plain help."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _plain(super().get_params(ctx), ctx)


def _plain(params: Iterable[Any], ctx: Any) -> list[Any]:
    """Name arguments in capitals and give each option the type that help prints."""
    found = list(params)
    for param in found:
        if isinstance(param, TyperOption):
            param.metavar = _type(param, ctx) if param.metavar is None else param.metavar
        else:
            param.metavar = param.metavar or param.name.upper()
            param.display_type_rich = _no_type
    return found


def _type(option: Any, ctx: Any) -> str:
    """Return the text after the option: TEXT, NUMBER or FILE; its range follows it. Empty for a flag."""
    if option.is_flag:
        return ""
    found = re.fullmatch(r"<(?:list\[)?(\w+)(?: range)?\]?>(.*)", option.display_type(ctx))
    return option.display_type(ctx) if found is None else f"{WORDS.get(found[1], found[1].upper())}{found[2]}"


def _no_type(ctx: Any) -> None:
    """Leave out the type of an argument, whose name is enough."""


def _without_braces(piece: str) -> str:
    """`{ID...}...` is `ID...`; what may be omitted keeps its brackets."""
    return re.sub(r"^\{(.+?)(?:\.\.\.)?\}", r"\1", piece)
