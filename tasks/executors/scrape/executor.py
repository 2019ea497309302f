"""Fetches a web page, and returns its main text and metadata."""

import asyncio
import math
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import urljoin

import httpx
import orjson

from aipartnerupflow.executors import Context, Executor, ExecutorError, HttpResponse, Json
from aipartnerupflow.executors.http import MAX_BODY_BYTES, Fetch
from tasks.executors.http import fetch, host_of
from tasks.executors.http.file_bodies import saved_body
from tasks.executors.timeouts import timeout_of, timeout_schema
from tasks.rules.files import FILE_SCHEMA

PROGRAM: Final = str(Path(__file__).with_name("extract.py"))
TIMEOUT_SECONDS: Final = 30
MOST_CHARACTERS: Final = 1_000_000
MOST_REDIRECTS: Final = 5
MEMORY_BYTES: Final = 2**30
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MAY_PASS: Final = frozenset({408, 425, 429})
MEDIA_TYPES: Final = frozenset({"", "text/html", "application/xhtml+xml", "text/plain", "text/xml", "application/xml"})
TEXT: Json = {"type": ["string", "null"]}


class Scrape(Executor):
    """Fetches through the guarded client, and reads the page in a process that ends at the deadline."""

    id = "scrape_executor"
    name = "Web page"
    description = (
        "Fetches a web page and returns its main text, without menus and advertisements, and its title, author and date. "
        "Private addresses, and ports other than 80 and 443, require the operator's permission."
    )
    tags = ("core", "http")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "url": {"type": "string", "minLength": 1, "maxLength": 8192, "description": "http or https"},
            "max_chars": {
                "type": "integer",
                "minimum": 1,
                "maximum": MOST_CHARACTERS,
                "default": 5000,
                "description": "The most characters of the text",
            },
            "extract_metadata": {
                "type": "boolean",
                "default": True,
                "description": "Whether the result has title, author, date and the like",
            },
            "save": {
                "type": "boolean",
                "default": False,
                "description": "Save the page, or any other document at the address, such as a PDF, as a file",
            },
            **timeout_schema(TIMEOUT_SECONDS),
        },
        "required": ["url"],
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "url": {"type": "string", "description": "The page that was read, after redirects"},
            "text": {"type": "string", "description": "The main text; if none is found, all text"},
            "file": {**FILE_SCHEMA, "description": "With `save`: the page, or the document, which has no text"},
            "is_cut": {"type": "boolean", "description": "Whether the text was longer than `max_chars`"},
            "title": {**TEXT, "description": "The title of the page"},
            "author": {**TEXT, "description": "The author"},
            "date": {**TEXT, "description": "When it was published: YYYY-MM-DD"},
            "description": {**TEXT, "description": "Its summary"},
            "sitename": {**TEXT, "description": "The name of the site"},
            "image": {**TEXT, "description": "The URL of its main picture"},
            "pagetype": {**TEXT, "description": "The kind of page that it declares, such as article"},
        },
        "required": ["url"],
    }
    param_names = frozenset()
    example: ClassVar[Json] = {"url": "https://example.com/", "max_chars": 2000}
    example_result: ClassVar[Json] = {
        "url": "https://example.com/",
        "text": "This domain is for use in documentation examples without needing permission.",
        "is_cut": False,
        "title": "Example Domain",
    }
    answer = "text"
    pool = "process"
    extra = "scrape"

    def receiver(self, inputs: Json) -> str | None:
        return str(inputs.get("url"))

    async def execute(self, inputs: Json, context: Context) -> Json:
        seconds = timeout_of(inputs, TIMEOUT_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                if inputs.get("save"):
                    return await _saved(inputs, context, seconds=seconds)
                reply = await _page(inputs["url"], context.fetch, seconds=seconds)
                _check_type(reply)
                return {"url": reply.url, **await _read(reply.url, reply.body, inputs, seconds=seconds)}
        except TimeoutError:
            raise ExecutorError(f"{_shown(inputs['url'])}: the page was not read within {seconds:g} s.") from None


async def _saved(inputs: Json, context: Context, *, seconds: float) -> Json:
    """Save the document as it arrives, and read it if it is a page that is not too long. Raises ExecutorError."""
    result = Json()

    async def take(response: httpx.Response, parts: AsyncIterator[bytes]) -> bool:
        if response.is_success:
            kind = response.headers.get("content-type", "")
            result["file"] = await saved_body(str(response.url), kind, parts, context.files)
        return bool(result)

    reply = await _page(inputs["url"], partial(fetch, take=take), seconds=seconds)
    if _type_of(reply) in MEDIA_TYPES and result["file"]["bytes"] <= MAX_BODY_BYTES:
        body = await context.files.read(result["file"])
        result |= await _read(reply.url, body, inputs, seconds=seconds)
    return {"url": reply.url} | result


async def _page(url: str, fetch: Fetch, *, seconds: float) -> HttpResponse:
    """Fetch the page; every redirect is a request through the guard. Raises ExecutorError."""
    for _ in range(MOST_REDIRECTS + 1):
        reply = await fetch("GET", url, timeout_seconds=seconds)
        target = reply.headers.get("location") if reply.status_code in REDIRECTS else None
        if not target:
            break
        try:
            joined = urljoin(url, target).partition("#")[0]
            host_of(joined)
        except (ValueError, ExecutorError):
            raise ExecutorError(f"{_shown(url)} redirects to an address that is refused.", permanent=True) from None
        url = joined
    else:
        raise ExecutorError(f"{_shown(url)}: more than {MOST_REDIRECTS} redirects.", permanent=True)
    if not 200 <= reply.status_code < 300:
        raise ExecutorError(
            f"{_shown(url)} answered {reply.status_code}.",
            permanent=reply.status_code < 500 and reply.status_code not in MAY_PASS,
            retry_after_seconds=reply.retry_after_seconds,
        )
    return reply


def _type_of(reply: HttpResponse) -> str:
    return str(reply.headers.get("content-type", "")).partition(";")[0].strip().lower()


def _check_type(reply: HttpResponse) -> None:
    if (media_type := _type_of(reply)) not in MEDIA_TYPES:
        raise ExecutorError(
            f"{_shown(reply.url)} is {media_type[:100]}, and not a web page. To get it as a file, set `save`.",
            permanent=True,
        )


async def _read(url: str, body: bytes, inputs: Json, *, seconds: float) -> Json:
    """Return the text and the metadata of the page. Raises ExecutorError."""
    asked = {
        "url": url,
        "max_chars": inputs.get("max_chars", 5000),
        "metadata": inputs.get("extract_metadata", True),
        "cpu_seconds": math.ceil(seconds),
        "memory_bytes": MEMORY_BYTES,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-X", "utf8", PROGRAM),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
    )
    try:
        printed, _ = await process.communicate(orjson.dumps(asked) + b"\n" + body)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode:
        raise ExecutorError(
            f"{_shown(url)}: the page cannot be read within the limits of time and memory.", permanent=True
        )
    found: dict[str, Any] = orjson.loads(printed)
    return found


def _shown(url: str) -> str:
    return url.partition("?")[0]
