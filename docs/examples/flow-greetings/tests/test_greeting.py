"""The executor, called as the server calls it, without a server."""

import asyncio

import pytest
from flow_greetings import Greeting

from aipartnerupflow.executors import ExecutorError, Parked, Reply
from aipartnerupflow.executors.testing import context


def test_it_greets_in_the_language() -> None:
    attempt = context()
    result = asyncio.run(Greeting().execute({"name": "Ada", "language": "it"}, attempt))
    assert result == {"greeting": "Buongiorno, Ada!"}
    assert attempt.reports == [(1.0, "greeted")]


def test_an_unknown_language_fails_for_good() -> None:
    with pytest.raises(ExecutorError, match="Use one of de, en, it") as caught:
        asyncio.run(Greeting().execute({"name": "Ada", "language": "tlh"}, context()))
    assert caught.value.permanent


def test_it_asks_for_the_name() -> None:
    with pytest.raises(Parked, match="What is the name"):
        asyncio.run(Greeting().execute({}, context()))
    answered = context(reply=Reply(answer="Ada", by="alice"))
    assert asyncio.run(Greeting().execute({}, answered)) == {"greeting": "Hello, Ada!"}
