"""Contexts for the tests of an executor: no server, no database, no network.

from aipartnerupflow.executors.testing import context

async def test_it_greets() -> None:
    here = context()
    assert await Greeting().execute({"name": "Ada"}, here) == {"greeting": "Hello, Ada!"}
    assert here.reports == [(1.0, "greeted")]
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aipartnerupflow.executors.base import (
    NO_FILES,
    Context,
    Json,
    LlmOf,
    Reply,
    no_client,
    no_models,
    no_secrets,
    unconnected,
)
from aipartnerupflow.executors.files import Files
from aipartnerupflow.executors.http import Fetch, HttpOf


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingContext(Context):
    """A context that records what the executor reports. `context()` makes it."""

    reports: list[tuple[float, str]] = field(default_factory=list)
    """The arguments of each call of `report`, in order."""
    logs: list[str] = field(default_factory=list)
    """The argument of each call of `log`, in order."""
    usages: list[Json] = field(default_factory=list)
    """The argument of each call of `spent`, in order."""


def context(
    *,
    task_id: str = "task-1",
    user_id: str = "alice",
    name: str = "a task",
    params: Mapping[str, Any] | None = None,
    schemas: Mapping[str, Any] | None = None,
    dependency_results: Mapping[str, Any] | None = None,
    attempt: int = 1,
    reply: Reply | None = None,
    is_forced: bool = False,
    is_given_up: bool = False,
    fetch: Fetch = unconnected,
    secrets: Mapping[str, str] | None = None,
    llm: LlmOf = no_models,
    http: HttpOf = no_client,
    files: Files = NO_FILES,
    config: Mapping[str, Any] | None = None,
) -> RecordingContext:
    """Return the context of a task that is the root of its tree, in run `run-1`.

    `params`, `schemas` and `dependency_results` are empty unless given; put what a dependency returned into the inputs as well, as the
    server does. `reply` is the answer of a second call, after `Parked`. `is_forced` and `is_given_up` are what the methods of these
    names return. `fetch` stands for the network: the default refuses each request with an ExecutorError. `secrets` maps the names of secrets to
    their values. `llm` stands for the language models: the default refuses each call with an ExecutorError. `http` makes
    the clients for SDKs, and `files` has files; the defaults refuse. `config` is what an operator would configure.
    """
    reports: list[tuple[float, str]] = []
    logs: list[str] = []
    usages: list[Json] = []

    async def secret(name: str, *, host: str | None = None) -> str:
        return secrets[name] if secrets and name in secrets else await no_secrets(name, host=host)

    return RecordingContext(
        task_id=task_id,
        run_id="run-1",
        root_task_id=task_id,
        user_id=user_id,
        name=name,
        params=params or {},
        schemas=schemas or {},
        dependency_results=dependency_results or {},
        attempt=attempt,
        report=lambda fraction, message: reports.append((fraction, message)),
        log=logs.append,
        reply=reply,
        is_forced=lambda: is_forced,
        is_given_up=lambda: is_given_up,
        spent=usages.append,
        fetch=fetch,
        secret=secret,
        llm=llm,
        http=http,
        files=files,
        config=config or {},
        reports=reports,
        logs=logs,
        usages=usages,
    )
