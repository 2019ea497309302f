"""Questions that show something: a text, and parts with a title whose lines are indented. Every interface shows them as they are, and pages side by side. Pure."""

import re
from collections.abc import Iterable
from typing import Final

INDENT: Final = "    "
PART: Final = re.compile(rf"\n\n(?P<title>[^\n]{{1,40}}):\n(?P<lines>{INDENT}[^\n]*(?:\n{INDENT}[^\n]*)*)")


def exhibited(text: str, parts: Iterable[tuple[str, str, int]]) -> str:
    """Return a question with parts: the title of each, its content, and the characters that it may have."""
    return text.strip() + "".join(f"\n\n{title}:\n{_indented(content, most)}" for title, content, most in parts)


def exhibits_of(question: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the text of a question, and the titles and contents of its parts; none unless it is of this form to its end."""
    found = list(PART.finditer(question))
    if not found or "".join(each[0] for each in found) != question[found[0].start() :]:
        return question, []
    parts = [(each["title"], each["lines"].removeprefix(INDENT).replace(f"\n{INDENT}", "\n")) for each in found]
    return question[: found[0].start()], parts


def _indented(content: str, most: int) -> str:
    indented = "\n".join(f"{INDENT}{line}" for line in content.splitlines() or [""])
    if len(indented) <= most:
        return indented
    return f"{indented[:most].rstrip()} …\n{INDENT}(The rest is too long.)"
