"""Named limits of calls of models: a real server and its workers, and a provider on loopback that asks for time."""

from collections.abc import Iterator
from itertools import count
from typing import Final

import pytest

from tests.llm_formats import Says
from tests.llm_site import LlmSite
from tests.servers import until

NUMBERS: Final = count(1)
EXECUTOR = "llm_executor"
MODEL = "openai/limited-by-name"
CHAT = {"prompt": "Hi", "model": MODEL}
RATE = {"match": {"model": MODEL, "provider": "openai"}, "requests_per_minute": 10**6, "tokens_per_minute": 10**7}


@pytest.fixture
def limit(site: LlmSite) -> Iterator[str]:
    """The name of a limit of this model, which the worker knows: it has counted a call. No other test uses the name: its row stays."""
    name = f"of_model_{next(NUMBERS)}"
    site.server.rpc("limits.set", {"name": name, "limit": RATE})

    def has_counted() -> bool:
        site.run(EXECUTOR, CHAT)
        return bool(site.server.query("SELECT 1 FROM tasks_sharedlimit WHERE key = %s", name))

    try:
        until(has_counted, seconds=60, what="a call that counts")
        yield name
    finally:
        site.server.rpc("limits.delete", {"name": name})


def test_a_provider_that_asks_for_time_gets_it_from_all_calls(site: LlmSite, limit: str) -> None:
    site.llm.asked.clear()
    site.llm.will(Says(status=429, headers={"Retry-After": "50"}), Says(text="Later."))
    assert "(429)" in site.error_of(EXECUTOR, CHAT)
    waiting = site.start(EXECUTOR, CHAT)
    wait = until(
        lambda: site.server.rpc("tasks.detail", {"task_id": waiting})["wait"], seconds=60, what="the wait of the next"
    )
    assert (wait["limit"], wait["text"].startswith(f"for limit {limit}, about ")) == (limit, True)
    assert len(site.llm.asked) == 1
    site.server.rpc("limits.delete", {"name": limit})
    assert site.end_of(waiting).task["result"]["content"] == "Later."
    assert len(site.llm.asked) == 2


def test_what_a_provider_says_is_left_tightens_the_limit_for_all_workers(site: LlmSite, limit: str) -> None:
    site.llm.asked.clear()
    left = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "50m0s",
    }
    site.llm.will(Says(text="The last one.", headers=left), Says(text="Later."))
    site.run(EXECUTOR, CHAT)
    waiting = site.start(EXECUTOR, CHAT)
    wait = until(
        lambda: site.server.rpc("tasks.detail", {"task_id": waiting})["wait"], seconds=60, what="the wait of the next"
    )
    assert (wait["limit"], wait["text"].startswith(f"for limit {limit}, about ")) == (limit, True)
    site.server.rpc("limits.delete", {"name": limit})
    assert site.end_of(waiting).task["result"]["content"] == "Later."
    assert len(site.llm.asked) == 2
