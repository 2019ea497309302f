"""The summary at the top of docs/benchmarks.md: a picture and a short table, made from the long tables of that page.

    python -m benchmarks.peers.picture

Run it after the tables of `make bench-peers` have been copied into the page.
"""

from html import escape
from typing import Final

from benchmarks.peers.environments import ROOT

PAGE: Final = ROOT / "docs" / "benchmarks.md"
PICTURE: Final = ROOT / "docs" / "images" / "peers.svg"
BEGIN, END = "<!-- begin: summary -->\n", "<!-- end: summary -->\n"
LEFT_OUT: Final = ("synchronous full", "durability async", "gevent")
"""Variants of systems, which only the long tables have."""
NAMES, COLUMN, ROW, TOP = 220, 150, 26, 46
LONGEST: Final = 2.5
"""The times as fast that fill a column."""
INK, OURS, OTHERS = "#6e7781", "#2563eb", "#9aa4b2"  # readable on white and on black
Table = dict[str, list[str]]


def tables_of(page: str) -> tuple[Table, Table]:
    """The cells of the figures and of the ratios, without spreads, by system. The first row has the heads."""
    figures, ratios, found = Table(), Table(), Table()
    for line in page.splitlines():
        if not line.startswith("| "):
            found = found if line.startswith("|---") else Table()
            continue
        name, *cells = (cell.split(" (")[0].strip() for cell in line.strip("|").split("|"))
        if cells[0] == "process killed":
            found = figures
        elif name.startswith("times as fast"):
            found = ratios
        if not any(each in name for each in LEFT_OUT):
            found[name] = cells
    return figures, ratios


def summary(figures: Table) -> str:
    """The medians as Markdown. The best that survive a killed process and a power cut are bold."""
    (_, heads), *rows = figures.items()
    columns = heads[2:]
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    durable = [cells[2:] for _, cells in rows if cells[:2] == ["yes", "yes"]]
    best = []
    for place, column in enumerate(columns):
        numbers = {_number(cells[place]): cells[place] for cells in durable if cells[place] != "–"}
        best.append(numbers[max(numbers) if column.endswith("/s") else min(numbers)])
    for name, cells in rows:
        is_durable = cells[:2] == ["yes", "yes"]
        shown = [
            f"**{cell}**" if is_durable and cell == first else cell for cell, first in zip(cells[2:], best, strict=True)
        ]
        lines.append(f"| {name}{'' if is_durable else ' *'} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _number(cell: str) -> float:
    return float(cell.replace(",", ""))


def picture(ratios: Table) -> str:
    """Draw a bar for each system and work, as an SVG. A line marks the speed of the system that is compared with."""
    (title, heads), *rows = ratios.items()
    width, height = NAMES + COLUMN * len(heads), TOP + ROW * len(rows) + 6
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="13" fill="{INK}"><title>{escape(title)}</title>',
        f'<text x="0" y="16">{escape(title)}: longer is faster</text>',
    ]
    for place, head in enumerate(heads):
        left = NAMES + COLUMN * place
        parts.append(f'<text x="{left}" y="36" font-weight="bold">{escape(head)}</text>')
    for number, (name, cells) in enumerate(rows):
        top = TOP + ROW * number
        colour = OURS if name.startswith("ours") else OTHERS
        parts.append(f'<text x="0" y="{top + 16}">{escape(name.replace(", durability sync", ""))}</text>')
        for place, cell in enumerate(cells):
            left = NAMES + COLUMN * place
            length = 0.0 if cell == "–" else (COLUMN - 50) * min(_number(cell), LONGEST) / LONGEST
            parts.append(f'<rect x="{left}" y="{top + 4}" width="{length:.1f}" height="{ROW - 10}" fill="{colour}"/>')
            parts.append(f'<text x="{left + COLUMN - 45}" y="{top + 16}">{escape(cell)}</text>')
    for place in range(len(heads)):
        one = NAMES + COLUMN * place + (COLUMN - 50) / LONGEST
        parts.append(f'<line x1="{one:.1f}" x2="{one:.1f}" y1="{TOP}" y2="{height - 6}" stroke="{INK}"/>')
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    page = PAGE.read_text()
    figures, ratios = tables_of(page)
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{summary(figures)}\n\n{END}{rest.partition(END)[2]}")
    PICTURE.write_text(picture(ratios))


if __name__ == "__main__":
    main()
