"""How `--help` prints options and arguments: flags without a type, and one spelling of the types of all others."""

import re
from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption


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
        if param.metavar is None:
            param.metavar = _type(param, ctx) if isinstance(param, TyperOption) else param.name.upper()
    return found


def _type(option: Any, ctx: Any) -> str:
    """`<bool>` is nothing, `<list[str]>` is `<str>`, and `<int range>` is `<int>`: the range follows it."""
    if option.is_flag:
        return ""
    return re.sub(r"<(?:list\[)?(.+?)(?: range)?\]?>", r"<\1>", option.display_type(ctx))


def _without_braces(piece: str) -> str:
    """`{ID...}...` is `ID...`; what may be omitted keeps its brackets."""
    return re.sub(r"^\{(.+?)(?:\.\.\.)?\}", r"\1", piece)
