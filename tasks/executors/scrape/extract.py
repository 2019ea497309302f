"""The program that reads one web page from its standard input, and prints its text and metadata as JSON.

A page may be made so that reading it takes hours and all memory, so this runs in a process of its own,
with limits of its own, that can be killed. It imports nothing of ours.
"""

import json
import resource
import sys
from typing import Any, Final

METADATA: Final = ("author", "date", "description", "sitename", "image", "pagetype")
SHOWN: Final = 2_000
"""Characters of each field of the metadata."""


def main() -> None:
    asked = json.loads(sys.stdin.buffer.readline())
    _limit(resource.RLIMIT_CPU, asked["cpu_seconds"])
    _limit(resource.RLIMIT_AS, asked["memory_bytes"])
    page = sys.stdin.buffer.read()
    from trafilatura.baseline import html2txt  # noqa: PLC0415  (under the limits)
    from trafilatura.core import bare_extraction  # noqa: PLC0415

    found: Any = bare_extraction(page, url=asked["url"], include_comments=False, with_metadata=asked["metadata"])
    text = (found.text if found is not None else None) or html2txt(page)
    result: dict[str, Any] = {"text": text[: asked["max_chars"]], "is_cut": len(text) > asked["max_chars"]}
    if asked["metadata"]:
        fields = {name: getattr(found, name, None) for name in ("title", *METADATA)}
        result |= {name: value[:SHOWN] if isinstance(value, str) else None for name, value in fields.items()}
    json.dump(result, sys.stdout)


def _limit(which: int, most: int) -> None:
    """Lower a limit, unless it is lower already."""
    _, hard = resource.getrlimit(which)
    lowest = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (lowest, lowest))


if __name__ == "__main__":
    main()
