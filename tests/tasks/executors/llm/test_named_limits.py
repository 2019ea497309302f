"""Named limits of calls of models: a real server and its workers, and a provider on loopback that asks for time."""

from collections.abc import Iterator
from hashlib import sha256
from itertools import count
from typing import Any, Final

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


KEYS: Final = ("sk-of-the-first-agent-0001", "sk-of-the-second-agent-0002")
DIGEST: Final = sha256(KEYS[0].encode()).hexdigest()[:16]


@pytest.mark.parametrize("limit", [{"per": "key"}, {"match": {"key": DIGEST}}], ids=["each", "one"])
def test_a_limit_is_for_the_calls_with_an_llm_key(site: LlmSite, limit: dict[str, Any]) -> None:
    name, model = f"of_key_{next(NUMBERS)}", f"openai/keyed-{next(NUMBERS)}"
    match = {"model": model, **limit.get("match", {})}
    site.server.rpc("limits.set", {"name": name, "limit": limit | {"match": match, "requests_per_minute": 1}})
    first, second = ({"X-LLM-API-KEY": f"openai:{key}"} for key in KEYS)
    started = list[str]()

    def waits() -> bool:
        """The worker knows the limit, and its unit is taken."""
        started.append(site.start(EXECUTOR, CHAT | {"model": model}, first))

        def at_rest() -> Any:
            found = site.server.rpc("tasks.detail", {"task_id": started[-1]})
            return found["wait"] or found["status"] == "completed"

        return until(at_rest, seconds=60, what="its wait or its end") is not True

    try:
        until(waits, seconds=60, what="a call that waits")
        assert site.run(EXECUTOR, CHAT | {"model": model}, second).task["status"] == "completed"
    finally:
        site.server.rpc("limits.delete", {"name": name})
    assert site.end_of(started[-1]).task["status"] == "completed"
