"""Mask what looks like a key: in logs, in the errors of tasks, in what executors report."""

import logging
import re
import traceback
from typing import Final

from llmkeys.masker import MASK, masked_here
from llmkeys.secret import texts_in_memory

MAX_CHARACTERS: Final = 65_536
"""The number of characters of a text that `mask_start` keeps."""
LONGEST_SECRET: Final = 4_096

#: The named group of a match is kept. A key begins where a word begins: `task-…` does not contain
#: `sk-…`. Texts come from users and providers, so each alternative takes linear time: it begins with
#: a fixed text, and a character is read again only a fixed number of times.
WORDS: Final = r"""
      (?P<prefix> (?<![A-Za-z0-9]) (?: sk-|xai-|pplx-|nvapi-|gsk_|apf_|hf_|r8_|whsec_ ) ) [A-Za-z0-9_-]{8,}
    | (?P<google> (?<![A-Za-z0-9]) AIza ) [A-Za-z0-9_-]{16,}
    """
KEYS: Final = re.compile(
    WORDS
    + r"""
    | (?P<jwt> (?<![A-Za-z0-9]) eyJ ) [A-Za-z0-9_-]{8,}+ (?: \. [A-Za-z0-9_-]{8,}+ (?P<whole> \. [A-Za-z0-9_-]* ) )?
    | (?P<header> (?i: x-llm-api-key ['"]? \s* [:=] \s* ['"]? ) ) (?! [^\s'",<]{0,100}< ) [^\s'",]+  # not the <key> of a manual
    | (?P<bearer> (?i: \b bearer \s+ ) ) (?= \S* \d ) [^\s'",]{8,}
    | (?P<url> :// [^\s/:@]* : ) [^\s/@]++ (?= @ )
    """,
    re.VERBOSE,
)
#: Each match of `KEYS` contains one of these in lower case; finding none is twenty times quicker.
SIGNS: Final = (
    *("sk-", "xai-", "pplx-", "nvapi-", "gsk_", "apf_", "hf_", "r8_", "whsec_", "aiza", "eyj"),
    *("x-llm-api-key", "bearer", "://"),
)
KEYS_IN_A_WORD: Final = re.compile(WORDS, re.VERBOSE)


def mask(text: str) -> str:
    """Replace secrets by `…`.

    These are the secrets in this process's memory, and what looks like a key, a token or the
    password in a URL.
    """
    for secret in sorted(texts_in_memory(), key=len, reverse=True):  # one may contain another
        text = text.replace(secret, MASK)
    return mask_keys(text)


def mask_keys(text: str) -> str:
    """Replace what looks like a key, a token or the password in a URL by `…`."""
    lower = text.lower()
    return KEYS.sub(_masked, text) if any(sign in lower for sign in SIGNS) else text


def mask_start(text: str) -> str:
    """Replace secrets in the first 65,536 characters by `…`, and say how many are left out."""
    if len(text) <= MAX_CHARACTERS:
        return mask(text)
    start = mask(text[: MAX_CHARACTERS + LONGEST_SECRET])[:MAX_CHARACTERS]  # a secret at the cut is masked too
    return f"{start}… ({len(text) - MAX_CHARACTERS:,} more characters)"


def _masked(match: re.Match[str]) -> str:
    groups = match.groupdict()
    if groups.get("jwt") and not groups["whole"]:
        # Not a token: only one part. It was matched all the same, so that it is not read again from
        # each `eyJ` in it on. It may contain another kind of key.
        return match["jwt"] + KEYS_IN_A_WORD.sub(_masked, match[0][len(match["jwt"]) :])
    kept = match.lastgroup if match.lastgroup != "whole" else "jwt"
    return f"{match[kept or 0]}{MASK}"


class Redaction(logging.Filter):
    """A filter for handlers: masks the message of a record, and the text of its exception.

    The named secrets of a run are masked in the lines that its tasks write.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = mask_start(masked_here(record.getMessage())), None
        if record.exc_info and record.exc_info[1] is not None:
            # Formatters use this text if it is already set.
            text = "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n")
            record.exc_text = mask_start(masked_here(text))
        return True
