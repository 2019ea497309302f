"""The cache of results: `params.cache` lets a task take the result of an equal one that completed before. Pure.

`"1h"`, or `{"for": "1h", "key": ["inputs.prompt"], "scope": "user", "refresh": false}`; all but `for` are optional.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import orjson

from tasks.rules.conditions import is_index
from tasks.rules.strict_json import Json

DURATION: Final = re.compile(r"([1-9][0-9]{0,8})([smhd])")
SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
MOST_SECONDS: Final = 366 * 86_400
PATH: Final = re.compile(r"inputs(\.[^.\s]+)+")
PATH_CHARACTERS: Final = 255
MOST_PATHS: Final = 20
FIELDS: Final = ("for", "key", "scope", "refresh")
USER: Final = "user"
SHARED: Final = "shared"

Problem = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """The way in which a task uses the cache. `key` has the paths of the inputs that tell calls apart; None: everything does."""

    seconds: int
    key: tuple[str, ...] | None
    is_shared: bool
    refreshes: bool


class NothingThere(Exception):
    """The inputs have nothing at a path of `params.cache.key`. The message says so."""


def cache_of(params: Mapping[str, Any] | None) -> CacheSettings | None:
    """Read `params.cache`, which has been checked; None if there is none."""
    given = (params or {}).get("cache")
    if given is None:
        return None
    if isinstance(given, str):
        given = {"for": given}
    key = given.get("key")
    return CacheSettings(
        seconds=seconds_of(given["for"]) or 0,
        key=None if key is None else tuple(key),
        is_shared=given.get("scope") == SHARED,
        refreshes=given.get("refresh", False),
    )


def seconds_of(duration: object) -> int | None:
    """Return the seconds of a text such as `90s`, `15m`, `1h` or `7d`; None if it is none, or too long."""
    found = DURATION.fullmatch(duration) if isinstance(duration, str) else None
    seconds = 0 if found is None else int(found[1]) * SECONDS[found[2]]
    return seconds if 0 < seconds <= MOST_SECONDS else None


def problems(value: object, path: str) -> Iterator[Problem]:
    """Yield what is wrong with the shape of `params.cache`."""
    given = {"for": value} if isinstance(value, str) else value
    if not isinstance(given, dict):
        yield path, 'must be a duration, such as "1h", or an object, such as {"for": "1h", "key": ["inputs.prompt"]}'
        return
    for field in sorted(given.keys() - set(FIELDS)):
        yield f"{path}.{field[:255]}", f"is not known; known are {', '.join(FIELDS)}"
    if seconds_of(given.get("for")) is None:
        place = path if isinstance(value, str) else f"{path}.for"
        yield place, "must be a duration of 1 s to 366 days as a number with s, m, h or d, such as 90s, 15m, 1h or 7d"
    key = given.get("key")
    if key is not None and not (
        isinstance(key, list)
        and 0 < len(key) <= MOST_PATHS
        and all(isinstance(each, str) and len(each) <= PATH_CHARACTERS and PATH.fullmatch(each) for each in key)
    ):
        yield f"{path}.key", f"must be a list of 1 to {MOST_PATHS} paths of inputs, such as inputs.prompt"
    if given.get("scope", USER) not in (USER, SHARED):
        yield f"{path}.scope", f"must be {USER} or {SHARED}"
    if not isinstance(given.get("refresh", False), bool):
        yield f"{path}.refresh", "must be true or false"


def parts_at(paths: Sequence[str], inputs: Json) -> Json:
    """Map each path to its value in the inputs. Raises NothingThere."""
    found: Json = {}
    for path in paths:
        value: Any = inputs
        for step in path.split(".")[1:]:
            try:
                value = value[int(step)] if isinstance(value, list) and is_index(step) else value[step]
            except (LookupError, TypeError):
                raise NothingThere(f"params.cache.key: the inputs have nothing at '{path}'.") from None
        found[path] = value
    return found


def digest_of(parts: Any) -> str:
    """Return the key of a call: a digest of the JSON value that tells it apart."""
    return sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()
