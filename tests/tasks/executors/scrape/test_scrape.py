"""Web pages, good and hostile ones, from a real server on loopback."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import psutil
import pytest
from jsonschema import Draft202012Validator

from aipartnerupflow.executors import Context, ExecutorError
from tasks.executors.http import fetch
from tasks.executors.scrape.executor import PROGRAM, Scrape
from tests.servers import children_with, until
from tests.tasks.executors.conftest import Web

pytestmark = pytest.mark.usefixtures("allow_loopback")
Json = dict[str, Any]
HTML: Final = "text/html; charset=utf-8"
SENTENCE: Final = "The river rises in the mountains and flows past three towns before it meets the sea."
PAGE: Final = f"""<!doctype html><html lang="en"><head><title>The river</title>
<meta name="author" content="Ada Lovelace"><meta name="description" content="About a river">
<meta property="article:published_time" content="2024-03-05"></head>
<body><nav><a href="/">Home</a> <a href="/all">All pages</a></nav>
<article><h1>The river</h1>{"".join(f"<p>{SENTENCE} Part {number}.</p>" for number in range(20))}</article>
<footer>Cookies and imprint</footer></body></html>""".encode()
ENDLESS: Final = b"<html><body>" + b"<p>one two</p>" * 280_000
"""It takes minutes to read, and has less than 4 MiB."""


@pytest.fixture
def scraping(context: Context) -> Context:
    return replace(context, fetch=fetch)


async def call(inputs: Json, context: Context) -> Json:
    Draft202012Validator(Scrape.input_schema).validate(inputs)
    result: Json = await Scrape().execute(inputs, context)
    Draft202012Validator(Scrape.result_schema).validate(result)
    return result


async def refusal(inputs: Json, context: Context) -> ExecutorError:
    with pytest.raises(ExecutorError) as caught:
        await Scrape().execute(inputs, context)
    return caught.value


def readers() -> list[psutil.Process]:
    """The processes of this one that read pages."""
    return children_with(PROGRAM)


async def test_the_main_text_and_metadata_are_returned(web: Web, scraping: Context) -> None:
    web.answer(200, PAGE, Content_Type=HTML)
    result = await call({"url": f"{web.url}/river?x=1"}, scraping)
    assert result["text"].count(SENTENCE) == 20
    assert "Cookies" not in result["text"]
    assert result["url"] == f"{web.url}/river?x=1"
    shown = [result[name] for name in ("title", "author", "date", "description")]
    assert shown == ["The river", "Ada Lovelace", "2024-03-05", "About a river"]


async def test_the_text_is_cut_and_metadata_left_out(web: Web, scraping: Context) -> None:
    web.answer(200, PAGE, Content_Type=HTML)
    result = await call({"url": web.url, "max_chars": 40, "extract_metadata": False}, scraping)
    assert sorted(result) == ["is_cut", "text", "url"]
    assert (len(result["text"]), result["is_cut"]) == (40, True)


@pytest.mark.parametrize("body", [b"", b"<html></html>", b"\x00\xff\xfe", b"<" * 1000, b"{}"])
async def test_a_page_without_text_has_none(body: bytes, web: Web, scraping: Context) -> None:
    web.answer(200, body, Content_Type=HTML)
    assert len((await call({"url": web.url}, scraping))["text"]) <= 1000


async def test_another_charset_is_read(web: Web, scraping: Context) -> None:
    web.answer(200, PAGE.replace(b"sea.", "Straße.".encode("latin-1")), Content_Type="text/html; charset=iso-8859-1")
    assert "Straße" in (await call({"url": web.url}, scraping))["text"]


@pytest.mark.parametrize(
    ("status", "headers", "says", "is_permanent"),
    [
        (404, {}, "answered 404", True),
        (503, {}, "answered 503", False),
        (429, {"Retry-After": "7"}, "answered 429", False),
        (
            200,
            {"Content-Type": "application/pdf"},
            "is application/pdf, and not a web page. To get it as a file, set `save`",
            True,
        ),
        (302, {"Location": "http://169.254.169.254/"}, "is not public", True),
        (302, {"Location": "http://2130706433/"}, "is refused", True),
        (302, {"Location": "file:///etc/passwd"}, "redirects to an address that is refused", True),
        (302, {"Location": "/again"}, "more than 5 redirects", True),
    ],
)
async def test_what_is_no_page_is_refused(
    status: int, headers: Mapping[str, str], says: str, is_permanent: bool, web: Web, scraping: Context
) -> None:
    web.answer(status, PAGE, **{name.replace("-", "_"): value for name, value in headers.items()})
    error = await refusal({"url": f"{web.url}/?token=canary"}, scraping)
    assert says in str(error)
    assert error.permanent is is_permanent
    assert "canary" not in str(error)
    assert error.retry_after_seconds == (7 if status == 429 else None)


async def test_a_page_that_takes_too_long_is_given_up_and_its_process_ended(web: Web, scraping: Context) -> None:
    web.answer(200, ENDLESS, Content_Type=HTML)
    error = await refusal({"url": web.url, "timeout_seconds": 1}, scraping)
    assert "was not read within 1 s" in str(error)
    assert readers() == []


async def test_cancelling_ends_the_process(web: Web, scraping: Context) -> None:
    web.answer(200, ENDLESS, Content_Type=HTML)
    task = asyncio.create_task(Scrape().execute({"url": web.url}, scraping))
    await asyncio.to_thread(until, readers, seconds=60, what="the process")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert readers() == []


async def test_a_page_that_takes_too_much_memory_fails_for_good(
    web: Web, scraping: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.executors.scrape.executor.MEMORY_BYTES", 200 * 2**20)
    web.answer(200, ENDLESS, Content_Type=HTML)
    error = await refusal({"url": web.url, "timeout_seconds": 300}, scraping)
    assert "within the limits of time and memory" in str(error)
    assert error.permanent
