"""The tags of runs: short words by which people find runs again. Pure."""

import re
from collections.abc import Sequence
from typing import Final

from tasks.rules.exceptions import InvalidParams

MOST: Final = 10
"""The number of tags of a run."""
LONGEST: Final = 64
TAG: Final = re.compile(rf"[A-Za-z0-9_.:=/@+#-]{{1,{LONGEST}}}")
REPLAY: Final = "replay"
"""The tag of a scratch run; that of the replays of one call has the id of the call after a colon."""
RULE: Final = f"must have 1 to {LONGEST} letters, digits and any of _ . : = / @ + # -"


def checked_tags(tags: Sequence[str]) -> list[str]:
    """Return the tags without repetitions. Raises InvalidParams for one that is no tag, or for too many."""
    problems = [(f"tags[{place}]", RULE) for place, tag in enumerate(tags) if not TAG.fullmatch(tag)]
    if len(tags) > MOST:
        problems.append(("tags", f"a run has at most {MOST} tags"))
    if problems:
        raise InvalidParams(problems[: MOST + 1])
    return list(dict.fromkeys(tags))


def tags_in(text: str) -> list[str]:
    """Return the tags in a text, in which commas or spaces separate them."""
    return text.replace(",", " ").split()
