"""Large bodies of one user are decoded one after the other on threads, and the event loop does other work meanwhile."""

import asyncio
import threading
from itertools import pairwise

import pytest
from django.test import RequestFactory

from a2a.core import http
from accounts.callers import Caller
from tasks.rules import strict_json


async def test_others_are_served_between_the_large_bodies_of_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    threads: set[int] = set()

    def counted(body: bytes, *, nesting: int) -> object:
        order.append("large")
        threads.add(threading.get_ident())
        return strict_json.decode(body, nesting=nesting)

    monkeypatch.setattr("a2a.core.http.decode", counted)
    text = f'{{"text": "{"x" * http.LARGE_BYTES}"}}'.encode()
    caller = Caller(user_id="mallory")

    async def others() -> None:
        while order.count("large") < 3:
            order.append("other")
            await asyncio.sleep(0)

    def request() -> asyncio.Task[object]:
        asked = RequestFactory().post("/ag-ui", text, content_type="application/json")
        return asyncio.ensure_future(http.decoded(asked, caller))

    found = await asyncio.gather(request(), request(), request(), others())
    assert [len(each["text"]) for each in found[:3]] == [http.LARGE_BYTES] * 3  # type: ignore[index]
    assert ("large", "large") not in pairwise(order)
    assert threading.get_ident() not in threads
    assert not http.turns().of(caller).locked()
