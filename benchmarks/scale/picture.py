"""Curves on two logarithmic axes as an SVG, without a library."""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10
from typing import Final

WIDTH: Final = 800
HEIGHT: Final = 420
LEFT, RIGHT, TOP, BOTTOM = 70, 330, 20, 45
COLOURS: Final = ("#2563eb", "#93c5fd", "#16a34a", "#86efac", "#d97706", "#fcd34d", "#9333ea", "#d8b4fe")
Points = Sequence[tuple[float, float]]


def curves(lines: Mapping[str, Points], *, x: str, y: str) -> str:
    """Draw each line, with its name beside it. The axes have a mark at each power of ten."""
    across = _axis([point[0] for points in lines.values() for point in points])
    upwards = _axis([point[1] for points in lines.values() for point in points])
    parts = [_vertical(power, across, x) for power in _powers(across)]
    parts += [_horizontal(power, upwards, y) for power in _powers(upwards)]
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = " ".join(f"{_across(left, across):.1f},{_up(height, upwards):.1f}" for left, height in points)
        parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>')
        top = TOP + 14 + 20 * number
        parts.append(f'<rect x="{WIDTH - RIGHT + 15}" y="{top - 9}" width="12" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 33}" y="{top}">{escape(name)}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">'
    ground = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    return "\n".join([head, ground, *parts, "</svg>\n"])


def _axis(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten below and above all values."""
    first, last = floor(log10(max(min(values), 1e-3))), ceil(log10(max(*values, 1e-3)))
    return first, max(last, first + 1)


def _powers(axis: tuple[int, int]) -> range:
    return range(axis[0], axis[1] + 1)


def _across(value: float, axis: tuple[int, int]) -> float:
    return LEFT + (log10(max(value, 1e-3)) - axis[0]) / (axis[1] - axis[0]) * (WIDTH - LEFT - RIGHT)


def _up(value: float, axis: tuple[int, int]) -> float:
    return HEIGHT - BOTTOM - (log10(max(value, 1e-3)) - axis[0]) / (axis[1] - axis[0]) * (HEIGHT - TOP - BOTTOM)


def _vertical(power: int, axis: tuple[int, int], unit: str) -> str:
    left = _across(10**power, axis)
    line = f'<line x1="{left:.1f}" x2="{left:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#e5e7eb"/>'
    return f'{line}<text x="{left:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{10**power:,} {unit}</text>'


def _horizontal(power: int, axis: tuple[int, int], unit: str) -> str:
    top = _up(10**power, axis)
    line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{top:.1f}" y2="{top:.1f}" stroke="#e5e7eb"/>'
    return f'{line}<text x="{LEFT - 8}" y="{top + 4:.1f}" text-anchor="end">{10**power:,} {unit}</text>'
