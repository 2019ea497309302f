"""Figures of several rounds as Markdown: the median, and the lowest and highest in parentheses."""

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.peers.registry import System
from benchmarks.peers.work import Figures

Rounds = Sequence[Figures]


def number(figure: float) -> str:
    """Three digits, as far as there are decimals."""
    return f"{figure:,.{0 if figure >= 100 else 1 if figure >= 10 else 2}f}"


def cell(figures: Sequence[float]) -> str:
    """The median and the spread; of one figure, only that; of none, a dash."""
    if not figures:
        return "–"
    if len(figures) == 1:
        return number(figures[0])
    return f"{number(median(figures))} ({number(min(figures))}–{number(max(figures))})"


def table_of_systems(rounds: Mapping[System, Rounds]) -> str:
    """One line for each system, and a column for each name that any of them has."""
    names = _names(rounds)
    lines = ["| | process killed | power cut | " + " | ".join(names) + " |", "|---|---|---|" + "---:|" * len(names)]
    for system, measured in rounds.items():
        cells = [cell([figures[name] for figures in measured if name in figures]) for name in names]
        lines.append(f"| {system} | {system.killed} | {system.power_cut} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def table_of_ratios(rounds: Mapping[System, Rounds], *, base: System) -> str:
    """How many times as fast as the base each system is in the same round."""
    names = _names(rounds)
    lines = [f"| times as fast as {base} | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for system, measured in rounds.items():
        pairs = list(zip(measured, rounds[base], strict=True))
        cells = [
            cell([speed(name, one, other) for one, other in pairs if {name} <= one.keys() & other.keys()])
            for name in names
        ]
        lines.append(f"| {system} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def speed(name: str, figures: Figures, base: Figures) -> float:
    """How many times as fast: of what is not per second, less is faster."""
    return figures[name] / base[name] if name.endswith("/s") else base[name] / figures[name]


def table_of_the_machine(rounds: Rounds) -> str:
    lines = ["| the machine | |", "|---|---:|"]
    lines += [f"| {name} | {cell([figures[name] for figures in rounds])} |" for name in rounds[0]]
    return "\n".join(lines)


def _names(rounds: Mapping[System, Rounds]) -> list[str]:
    return list(dict.fromkeys(name for measured in rounds.values() for figures in measured for name in figures))
