"""A call of a database that has stopped answering ends; a call that only takes long does not."""

import asyncio
from typing import Any

import pytest
from django.db import OperationalError

from apflow_site.db import calls
from apflow_site.db.calls import DatabaseSilent, Patience


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(calls, "PROBE_SECONDS", 0.05)


@pytest.mark.parametrize("how", ["is silent", "refuses"])
async def test_a_call_ends_if_the_database_does_not_answer_a_short_query_either(how: str) -> None:
    call: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def probe() -> None:
        if how == "refuses":
            raise OperationalError("the database system is shutting down")
        await asyncio.get_running_loop().create_future()

    Patience(call, probe)
    with pytest.raises(DatabaseSilent, match="The database does not answer"):
        await call


async def test_a_call_that_takes_long_is_waited_for_while_the_database_answers() -> None:
    call: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    probes = list[int]()

    async def probe() -> None:
        probes.append(1)
        if len(probes) == 3:
            call.set_result("at last")

    Patience(call, probe)
    assert await call == "at last"
