"""Resources: runs, their trees and their events, and files, for clients that read and watch them by URI."""

import re
from collections.abc import Sequence
from functools import partial
from typing import Final

import orjson

from a2a.core.mapping import native_tree
from a2a.mcp import skills
from a2a.mcp.tools import app
from a2a.mcp.tools.file_blocks import SCHEME as FILES
from a2a.mcp.tools.file_blocks import contents_of
from a2a.mcp.tools.outcomes import SCHEME, outcome_of
from a2a.methods.runs import native_run
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.events.log import read_page
from tasks.rules.exceptions import RunNotFound
from tasks.rules.strict_json import Json
from tasks.rules.words import as_sent
from tasks.services import history
from tasks.services.files import list_files
from tasks.services.history.past_trees import past_tree

PAGE: Final = 50
"""The number of runs in one page of the list."""
NEWEST: Final = 100
"""The number of runs among which an id is completed."""
JSON_TYPE: Final = "application/json"
URI: Final = re.compile(
    rf"{SCHEME}(?P<run_id>[^/?#]{{1,255}})(?P<part>/tree|/events(\?after=(?P<after>[0-9]{{1,18}}))?)?"
)
TEMPLATES: Final[Sequence[Json]] = (
    {"uriTemplate": f"{SCHEME}{{id}}", "name": "run", "title": "A run", "description": "Its status, and its result."},
    {
        "uriTemplate": f"{SCHEME}{{id}}/tree",
        "name": "tree",
        "title": "The tree of a run",
        "description": "All tasks with their results, as they were at the end of the run or, before it, as they are.",
    },
    {
        "uriTemplate": f"{SCHEME}{{id}}/events{{?after}}",
        "name": "events",
        "title": "The events of a run",
        "description": "A page of its events in their order, after the event with that number.",
    },
)
FILE_TEMPLATE: Final[Json] = {
    "uriTemplate": f"{FILES}{{id}}",
    "name": "file",
    "title": "A file",
    "description": "A file that a result names: a text, or its bytes in base64. Larger ones than 4 MiB are read by HTTP.",
}


class Runs:
    """The resources: the runs of the caller, and the files that their results name."""

    async def page(self, caller: Caller, cursor: str) -> tuple[Sequence[Json], str | None]:
        """Return a page of the caller's resources, and the cursor of the next one. Raises InvalidParams."""
        wanted = history.RunFilter()
        runs, following = await pools.read(
            partial(history.list_runs, caller=caller, wanted=wanted, limit=PAGE, cursor=cursor)
        )
        return [
            {
                "uri": f"{SCHEME}{facts.run.id}",
                "name": facts.name,
                "description": f"Run {facts.run.number}: {facts.run.status}.",
                "mimeType": JSON_TYPE,
            }
            for facts in runs
        ], following

    def templates(self) -> Sequence[Json]:
        """Return the templates of their URIs."""
        return [*(template | {"mimeType": JSON_TYPE} for template in TEMPLATES), FILE_TEMPLATE]

    async def read(self, caller: Caller, uri: str) -> Sequence[Json] | None:
        """Return the contents of a resource; None if the caller has none at this URI."""
        if uri.startswith(FILES):
            shown = await pools.read(contents_of, uri.removeprefix(FILES), caller=caller)
            return None if shown is None else [shown]
        if uri == app.URI:
            return [app.resource()]
        if uri.startswith(skills.SCHEME):
            file = await skills.read(caller, uri)
            return None if file is None else [file]
        found = URI.fullmatch(uri)
        if found is None:
            return None
        try:
            content = await pools.read(_read, caller, found["run_id"], found["part"] or "", int(found["after"] or 0))
        except RunNotFound:
            return None
        return [{"uri": uri, "mimeType": JSON_TYPE, "text": content}]

    async def run_of(self, caller: Caller, uri: str) -> str | None:
        """Return the id of the run whose events change a resource; None if the caller has none at this URI."""
        run_id = run_in(uri)
        try:
            return run_id and (await pools.read(history.own_run, caller=caller, run_id=run_id)).id
        except RunNotFound:
            return None

    async def complete(self, caller: Caller, uri: str, argument: str) -> Sequence[str] | None:
        """Return values of a variable of a template: the ids of the caller's newest runs. None: there is no such template."""
        if uri not in {template["uriTemplate"] for template in self.templates()}:
            return None
        if argument != "id":
            return []
        if uri.startswith(FILES):
            own = await pools.read(list_files, caller=caller, limit=NEWEST)
            return [file.id for file in own]
        wanted = history.RunFilter()
        newest, _ = await pools.read(partial(history.list_runs, caller=caller, wanted=wanted, limit=NEWEST))
        return [facts.run.id for facts in newest]


def run_in(uri: str) -> str | None:
    """Return the id of the run that a URI names; None if it names none."""
    found = URI.fullmatch(uri)
    return found and found["run_id"]


def _read(caller: Caller, run_id: str, part: str, after: int) -> str:
    run = history.own_run(caller=caller, run_id=run_id)
    if part == "/tree":
        past = past_tree(caller=caller, run_id=run.id)
        shown: Json = {
            "run": native_run(past.facts),
            "tree": native_tree(past.tasks) | {"run_status": past.facts.run.status},
            "warnings": past.warnings,
        }
    elif part:
        page, _ = read_page(run_id=run.id, after=after)
        shown = {"events": [as_sent(event, has_tokens=False) for event in page]}
    else:
        shown = outcome_of(caller=caller, run_id=run.id, with_tree=False)["structuredContent"]
    return orjson.dumps(shown).decode()
