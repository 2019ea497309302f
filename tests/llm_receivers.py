"""Calls LiteLLM for every provider without a network, and prints the hosts that it looks up.

Run it in a process of its own: LiteLLM leaves warnings and open clients behind, and the resolver is replaced.
"""

import asyncio
import json
import socket
import sys
from contextlib import suppress
from typing import Any

from llmkeys.model_names import LOG_IN_WHEN_ASKED
from llmkeys.providers import PROVIDERS
from llmkeys.resolve import Credentials
from llmkeys.secret import Secret
from tasks.executors.llm import litellm_calls
from tasks.executors.llm.prompt import Prompt


async def hosts_of(provider: str, asked: set[str]) -> list[str]:
    def granted(**_: object) -> Credentials:
        return Credentials(
            provider=provider, api_key=Secret("canary-of-the-receivers"), api_base=None, source="environment"
        )

    setattr(litellm_calls, "credentials", granted)  # noqa: B010  (it is imported there)
    prompt = Prompt(
        model=f"{provider}/x", messages=[{"role": "user", "content": "Hi"}], run_id="run-1", user_id="alice"
    )
    asked.clear()
    with suppress(Exception):  # each provider fails in a way of its own; only the hosts count
        async with asyncio.timeout(120):
            await litellm_calls.ask(prompt, heard=lambda _: None, spent=lambda _: None)
    return sorted(asked)


async def main() -> None:
    asked: set[str] = set()

    def look_up(host: Any, *_: object, **__: object) -> None:
        asked.add(host.decode() if isinstance(host, bytes) else str(host))
        raise socket.gaierror(socket.EAI_NONAME, "no network in this test")

    socket.getaddrinfo = look_up  # type: ignore[assignment]
    found = {provider: await hosts_of(provider, asked) for provider in sorted(PROVIDERS - LOG_IN_WHEN_ASKED)}
    sys.stdout.write(json.dumps(found))


def run() -> None:
    asyncio.run(main())
