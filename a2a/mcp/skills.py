"""The caller's flows as skills (SEP-2640): instructions that a host gives its model when they are needed.

A skill is one file, `SKILL.md`, made from the newest version of its flow. A flow is a skill if its name can be that of
one: lowercase letters, digits and single hyphens.
"""

import re
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from typing import Final

import orjson

from accounts.callers import Caller
from apflow_site.db import pools
from tasks.models import FlowVersion
from tasks.rules.exceptions import FlowNotFound
from tasks.rules.strict_json import Json
from tasks.services import flows
from tasks.services.flows import flow_lists

EXTENSION: Final = "io.modelcontextprotocol/skills"
SCHEME: Final = "skill://flows/"
FILE: Final = "/SKILL.md"
MARKDOWN: Final = "text/markdown"
NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
LONGEST_NAME: Final = 64
LONGEST_DESCRIPTION: Final = 1024
PAGE: Final = 50
TEXT: Final = """\
---
name: {name}
description: {description}
---

# {title}

{about}

Call the tool `run_flow` with `{{"name": {name}, "inputs": {{…}}}}`. To let the user fill in the inputs, call `show_flow`.
If the result has the status `in_progress`, call `get_run` with its `run_id` and `wait_seconds`.
If it has questions, ask the user, and answer with `answer_question`.

The JSON Schema of the inputs:

```json
{schema}
```
"""


async def page(caller: Caller, cursor: str) -> tuple[Sequence[Json], str | None]:
    """Return the entries of a page of skills, and the cursor of the next one. Raises InvalidParams."""
    read = partial(flow_lists.list_flows, caller=caller, user_id=caller.user_id, limit=PAGE, cursor=cursor or None)
    found, following = await pools.read(read)
    return [_entry(each.flow.name, each.version) for each in found if _fits(each.flow.name)], following


async def get(caller: Caller, uri: str) -> Json | None:
    """Return the entry of a skill; None if the caller has none at this URI."""
    found = await _flow(caller, uri)
    return None if found is None else _entry(*found)


async def read(caller: Caller, uri: str) -> Json | None:
    """Return the content of a file; None if no skill of the caller has it."""
    found = await _flow(caller, uri)
    return None if found is None else {"uri": uri, "mimeType": MARKDOWN, "text": _text(*found)}


async def _flow(caller: Caller, uri: str) -> tuple[str, FlowVersion] | None:
    """Return the name and the newest version of the flow whose skill is at this URI."""
    name = uri.removeprefix(SCHEME).removesuffix(FILE)
    if uri != _uri(name) or not _fits(name):
        return None
    try:
        _, version = await pools.read(partial(flows.read_version, caller=caller, name=name))
    except FlowNotFound:
        return None
    return name, version


def _fits(name: str) -> bool:
    return len(name) <= LONGEST_NAME and NAME.fullmatch(name) is not None


def _uri(name: str) -> str:
    return f"{SCHEME}{name}{FILE}"


def _description(name: str, version: FlowVersion) -> str:
    return version.description[:LONGEST_DESCRIPTION].strip() or f"Runs the flow {name}."


def _text(name: str, version: FlowVersion) -> str:
    about = _description(name, version)
    return TEXT.format(
        name=orjson.dumps(name).decode(),  # as JSON, which YAML has as well: the name may be a number
        title=name,
        description=orjson.dumps(about).decode(),
        about=about,
        schema=orjson.dumps(version.inputs_schema or {}, option=orjson.OPT_INDENT_2).decode(),
    )


def _entry(name: str, version: FlowVersion) -> Json:
    content = _text(name, version).encode()
    file = {"uri": _uri(name), "digest": f"sha256:{sha256(content).hexdigest()}", "size": len(content)}
    described = {"name": name, "description": _description(name, version)}
    return {"uri": _uri(name), "frontmatter": described, "resources": [file]}
