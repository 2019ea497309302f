"""Completions: the values that an argument of a prompt, or a variable in the URI of a resource, may have."""

from collections.abc import Sequence
from typing import Final

from a2a.mcp.catalogue import Catalogue
from accounts.callers import Caller
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json

MOST: Final = 100
"""The protocol allows no more values in one reply."""
PROMPT: Final = "ref/prompt"
RESOURCE: Final = "ref/resource"


async def completed(catalogue: Catalogue, caller: Caller, params: Json) -> Json:
    """Return the values that begin with what the user has typed, in upper or lower case. Raises InvalidParams."""
    ref, argument = params.get("ref"), params.get("argument")
    if not isinstance(ref, dict) or not isinstance(argument, dict):
        raise InvalidParams([("ref", "required, an object, and so is argument")])
    name, typed = argument.get("name"), argument.get("value")
    if not isinstance(name, str) or not isinstance(typed, str):
        raise InvalidParams([("argument", "must have a name and a value, both strings")])
    known = await _known(catalogue, caller, ref, name)
    found = [value for value in known if value.casefold().startswith(typed.casefold())]
    return {"completion": {"values": found[:MOST], "total": len(found), "hasMore": len(found) > MOST}}


async def _known(catalogue: Catalogue, caller: Caller, ref: Json, argument: str) -> Sequence[str]:
    """Return all values. Raises InvalidParams if the caller has nothing of this name."""
    prompt, uri = ref.get("name"), ref.get("uri")
    found: Sequence[str] | None = None
    if ref.get("type") == PROMPT and isinstance(prompt, str):
        found = await catalogue.prompts.complete(caller, prompt, argument)
    elif ref.get("type") == RESOURCE and isinstance(uri, str):
        found = await catalogue.resources.complete(caller, uri, argument)
    if found is None:
        raise InvalidParams([("ref", "names no prompt and no template of a resource; call prompts/list")])
    return found
