"""`GET /llms.txt`: what this server is and how to call it, for language models (llmstxt.org). Public."""

from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views.decorators.http import require_safe

from a2a.core.http import public_url

TEXT: Final = """\
# aipartnerupflow

> Runs trees of tasks: HTTP calls, language models, crews of agents, commands, questions to people. Each
> task waits for its dependencies and gets their results. The server stores every step, so that
> nothing is lost when a process dies.

{access}

A tree is a list of tasks. One has no `parent_id`; `dependencies` decide the order. The shortest request
that runs one and waits for its result:

```
POST {url}tasks
Content-Type: application/json

{{"jsonrpc": "2.0", "id": 1, "method": "tasks.execute",
 "params": {{"tasks": [{{"name": "hello", "schemas": {{"method": "echo_executor"}}, "inputs": {{"say": "hello"}}}}],
 "wait": true}}}}
```

`schemas.method` names the executor; `system.executors`, a method of `POST {url}system`, lists all of them
with the JSON Schemas of their inputs and results. `{{{{fetch.json.title}}}}` in an input is a place: the value
in the result of the dependency `fetch`. Errors say what to correct.

## Interfaces

- [OpenRPC]({url}tasks): call `rpc.discover` by `POST` for all JSON-RPC methods, with schemas
- [OpenAPI]({url}openapi.json): the REST interface under `/api/`
- [MCP]({url}mcp): tools, resources and prompts of the Model Context Protocol, by `POST`
- [AG-UI]({url}ag-ui): runs with their events for front ends, by `POST`
- [Agent card]({url}.well-known/agent-card.json): the skills of this server as an A2A agent

## Optional

- [Documentation of the API for people]({url}docs)
"""
OPEN: Final = "No authentication is needed."
CLOSED: Final = "Send `Authorization: Bearer` with an API key or a token; the user who runs you has one."


@require_safe
def llms(request: HttpRequest) -> HttpResponseBase:
    """`GET /llms.txt`, in Markdown."""
    access = CLOSED if settings.APFLOW.auth.is_on else OPEN
    text = TEXT.format(url=public_url(request), access=access)
    return HttpResponse(text, content_type="text/markdown; charset=utf-8", headers={"Cache-Control": "no-cache"})
