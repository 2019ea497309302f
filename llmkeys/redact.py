"""What looks like a key is not written down: in logs, in the errors of tasks, in what executors tell."""

import logging
import re
import traceback
from typing import Final

from llmkeys.secret import texts_in_memory

MASK: Final = "…"

#: What stays of a match is the one group that it has. A key begins where a word does: `task-…` holds no `sk-…`.
KEYS: Final = re.compile(
    r"""
      (?P<prefix> (?<![A-Za-z0-9]) (?: sk-|xai-|pplx-|nvapi-|gsk_|apf_|hf_|r8_|whsec_ ) ) [A-Za-z0-9_-]{8,}
    | (?P<google> (?<![A-Za-z0-9]) AIza ) [A-Za-z0-9_-]{16,}
    | (?P<jwt> (?<![A-Za-z0-9]) eyJ ) [A-Za-z0-9_-]{8,} \. [A-Za-z0-9_-]{8,} \. [A-Za-z0-9_-]*
    | (?P<header> (?i: x-llm-api-key ['"]? \s* [:=] \s* ['"]? ) ) (?! [^\s'",]*< ) [^\s'",]+  # not the <key> of a manual
    | (?P<bearer> (?i: \b bearer \s+ ) ) (?= \S* \d ) [^\s'",]{8,}
    | (?P<url> [a-z][a-z0-9+]* :// [^\s/:@]* : ) [^\s/@]+ (?= @ )
    """,
    re.VERBOSE,
)


def mask(text: str) -> str:
    """The text with `…` in the place of every secret that this process holds, and of what looks like a key, a token or the password in a URL."""
    for secret in sorted(texts_in_memory(), key=len, reverse=True):  # one may hold another
        text = text.replace(secret, MASK)
    return KEYS.sub(_masked, text)


def _masked(match: re.Match[str]) -> str:
    return f"{match[match.lastgroup or 0]}{MASK}"


class Redaction(logging.Filter):
    """On a handler: masks the message of a record, and the text of its exception."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = mask(record.getMessage()), None
        if record.exc_info and record.exc_info[1] is not None:
            # Formatters take the text that is there already.
            record.exc_text = mask("".join(traceback.format_exception(record.exc_info[1])).rstrip("\n"))
        return True
