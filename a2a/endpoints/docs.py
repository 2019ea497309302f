"""`/openapi.json`, Swagger UI at `/docs`, and the schemas of files with trees and flows at `/schemas/`.

The files of Swagger UI come from drf-spectacular-sidecar, not from other hosts.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

import orjson
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import get_conditional_response
from django.views.decorators.http import require_safe

from a2a.core.http import public_url
from a2a.protocol.agent_card import etag_of

FILES: Final = files("drf_spectacular_sidecar") / "static" / "drf_spectacular_sidecar" / "swagger-ui-dist"
#: The files under `/docs/`, with their media types.
ASSETS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "swagger-ui.css": "text/css",
        "swagger-ui-bundle.js": "text/javascript",
        "favicon-32x32.png": "image/png",
        "start.js": "text/javascript",
    }
)
START: Final = b"""SwaggerUIBundle({url: "/openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null});"""
PAGE: Final = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>aipartnerupflow: API</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="docs"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
"""
SCHEMAS: Final = files("aipartnerupflow") / "schemas"
SCHEMA_NAMES: Final = frozenset({"flow.json", "tree.json"})
PAGE_HEADERS: Final = MappingProxyType(
    {
        # Swagger UI uses inline styles. Scripts and requests are limited to this server.
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
    }
)
MAX_AGE_SECONDS: Final = 3600


@require_safe
def openapi(request: HttpRequest) -> HttpResponseBase:
    """`GET /openapi.json`. Public, like the agent card."""
    return _cached(request, _openapi(with_authentication=settings.APFLOW.auth.is_on), "application/json")


@require_safe
def page(request: HttpRequest) -> HttpResponseBase:
    """`GET /docs`: the page of Swagger UI."""
    return HttpResponse(PAGE, content_type="text/html; charset=utf-8", headers=dict(PAGE_HEADERS))


@require_safe
def asset(request: HttpRequest, name: str) -> HttpResponseBase:
    """`GET /docs/{name}`: a file of Swagger UI. Raises Http404 for all other names."""
    if name not in ASSETS:
        raise Http404
    return _cached(request, _asset(name), ASSETS[name])


@require_safe
def schema(request: HttpRequest, name: str) -> HttpResponseBase:
    """`GET /schemas/{name}`: the JSON Schema of a file with a tree or a flow, for editors. Raises Http404 for all other names."""
    if name not in SCHEMA_NAMES:
        raise Http404
    return _cached(request, (SCHEMAS / name).read_bytes(), "application/schema+json")


@cache
def _openapi(*, with_authentication: bool) -> bytes:
    from a2a.rest.openapi import openapi_document  # noqa: PLC0415  it imports drf-spectacular, for few clients

    return orjson.dumps(openapi_document(with_authentication=with_authentication))


@cache
def _asset(name: str) -> bytes:
    return START if name == "start.js" else (FILES / name).read_bytes()


def _cached(request: HttpRequest, body: bytes, content_type: str) -> HttpResponseBase:
    """Return a response with an ETag, or 304 if the client has this version."""
    etag = etag_of(body)
    headers = {"Cache-Control": f"public, max-age={MAX_AGE_SECONDS}", "ETag": etag}
    response = HttpResponse(body, content_type=content_type, headers=headers)
    return get_conditional_response(request, etag=etag, response=response) or response


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
- [JSON Schema of a tree]({url}schemas/tree.json), and of [a flow]({url}schemas/flow.json), for files and editors
- [MCP]({url}mcp): tools, resources and prompts of the Model Context Protocol, by `POST`
- [AG-UI]({url}ag-ui): runs with their events for front ends, by `POST`
- [OpenAI's wires]({url}v1/models): `POST {url}v1/responses` and `{url}v1/chat/completions` run these models
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
