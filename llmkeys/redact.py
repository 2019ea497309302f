"""Mask what looks like a key: in logs, in the errors of tasks, in what executors report."""

import logging
import re
import traceback
from typing import Final

from llmkeys.secret import texts_in_memory

MASK: Final = "…"

#: The one group of a match is kept. A key begins where a word begins: `task-…` does not contain
#: `sk-…`.
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
    """Replace secrets by `…`.

    These are the secrets in this process's memory, and what looks like a key, a token or the
    password in a URL.
    """
    for secret in sorted(texts_in_memory(), key=len, reverse=True):  # one may contain another
        text = text.replace(secret, MASK)
    return KEYS.sub(_masked, text)


def _masked(match: re.Match[str]) -> str:
    return f"{match[match.lastgroup or 0]}{MASK}"


class Redaction(logging.Filter):
    """A filter for handlers: masks the message of a record, and the text of its exception."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = mask(record.getMessage()), None
        if record.exc_info and record.exc_info[1] is not None:
            # Formatters use this text if it is already set.
            record.exc_text = mask("".join(traceback.format_exception(record.exc_info[1])).rstrip("\n"))
        return True
