"""The same in every pool of this machine: results, errors, progress, cancellation and calls of the worker."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from pytest_django import Settings

from aipartnerupflow.executors import Context, ExecutorError, HttpResponse, Parked, Reply, Spawn, Stopped
from aipartnerupflow.executors.testing import RecordingContext, context
from apflow_site.config import PREFIX
from apflow_site.config.elsewhere import for_processes
from tasks.executors import get_executor
from tasks.executors.llm.client import DIRECT, MODELS, ignore
from tasks.executors.llm.prompt import Completion, Prompt
from tasks.pools import line, thread
from tasks.pools.base import Pool, RaisedElsewhere
from tasks.pools.pools import make_pools
from tasks.pools.process import ProcessPool
from tasks.rules.pools import LOOP, PROCESS, THREAD
from tests import sections
from tests.tasks.executors.conftest import forget_registry
from tests.tasks.pools.conftest import MODULES

pytestmark = pytest.mark.asyncio(loop_scope="module")
Pools = Mapping[str, Pool]
Json = dict[str, Any]
EVERYWHERE = pytest.mark.parametrize("name", [LOOP, THREAD, PROCESS])
OWN_LOOP = pytest.mark.parametrize("name", [THREAD, PROCESS])
BOUND_SECONDS = 150


@pytest.fixture(autouse=True)
def registry(settings: Settings) -> Iterator[None]:
    settings.APFLOW_EXECUTOR_MODULES = tuple(MODULES.split(","))
    forget_registry()
    yield
    forget_registry()


class Listener:
    """Models of the worker, and the words that it has heard of them."""

    def __init__(self) -> None:
        self.words: list[str] = []

    async def ask(
        self,
        prompt: Prompt,
        *,
        spent: Callable[[Json], None],
        heard: Callable[[str], None],
        thought: Callable[[str], None] = ignore,
    ) -> Completion:
        def listened(text: str) -> None:
            self.words.append(text)
            heard(text)

        return await DIRECT.ask(prompt, spent=spent, heard=listened, thought=thought)

    async def check(self, prompt: Prompt) -> None:
        await DIRECT.check(prompt)


@pytest.fixture
def models() -> Iterator[Listener]:
    listener = Listener()
    token = MODELS.set(listener)
    yield listener
    MODELS.reset(token)


async def execute(pool: Pool, executor: str, inputs: Json, here: Context | None = None) -> Any:
    async with asyncio.timeout(BOUND_SECONDS):
        return await pool.execute(get_executor(executor), inputs, here or context())


async def call(pool: Pool, function: str, here: Context | None = None, **arguments: Any) -> Any:
    return await execute(pool, "python_executor", {"function": function, "arguments": arguments}, here)


async def until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        while not look():  # noqa: ASYNC110  (nothing tells of files and processes)
            await asyncio.sleep(0.01)


@EVERYWHERE
async def test_a_result_comes_back(pools: Pools, name: str) -> None:
    assert await call(pools[name], "add", a=2) == 3


@EVERYWHERE
async def test_what_is_spawned_comes_back(pools: Pools, name: str) -> None:
    tasks = [{"id": "a", "name": "A", "inputs": {"text": "é"}}]
    spawned = await execute(pools[name], "spawning_executor", {"tasks": tasks, "join": False, "result": [1]})
    assert spawned == Spawn(tasks=tasks, join=False, result=[1])
    reply = Reply(answer={"a": {"status": "failed", "error": "no"}}, by="", memo=["before"])
    step = await execute(pools[name], "stepping_executor", {"steps": [{}, {}, {"tasks": tasks}]}, context(reply=reply))
    assert step == Spawn(tasks=tasks, again=True, memo=["before", reply.answer])


@EVERYWHERE
async def test_work_sees_its_context_and_reports_back(pools: Pools, name: str) -> None:
    here = context(
        task_id="task-9",
        user_id="bob",
        attempt=2,
        params={"a": 1},
        dependency_results={"d": [1]},
        config={"url": "https://x"},
    )
    assert await execute(pools[name], "confiding_executor", {"x": 1}, here) == {
        "task_id": "task-9",
        "user_id": "bob",
        "attempt": 2,
        "params": {"a": 1},
        "dependency_results": {"d": [1]},
        "config": {"url": "https://x"},
        "inputs": {"x": 1},
    }
    await asyncio.sleep(0)
    assert here.reports == [(0.5, "half")]
    assert [line.replace("\ud800", "?") for line in here.logs] == ["a line", "a torn ? one"]
    assert here.usages == [{"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cost_usd": 0.5}]


@EVERYWHERE
async def test_work_asks_for_a_secret_and_says_where_it_goes(pools: Pools, name: str) -> None:
    async def secret(name: str, *, host: str | None = None) -> str:
        if host is None:
            raise ExecutorError(f"Where does {name} go?", permanent=True)
        return f"{name} for {host}"

    here = replace(context(), secret=secret)
    asked = {"name": "token", "host": "a.example"}
    assert "token for a.example" in await execute(pools[name], "telling_executor", asked, here)
    with pytest.raises(ExecutorError, match="Where does token go"):
        await execute(pools[name], "telling_executor", {"name": "token"}, here)


@EVERYWHERE
async def test_an_executor_error_keeps_its_facts(pools: Pools, name: str) -> None:
    with pytest.raises(ExecutorError) as caught:
        await call(pools[name], "refuse")
    error = caught.value
    assert (str(error), error.permanent, error.retry_after_seconds) == ("The stock is empty.", True, 3)


@EVERYWHERE
async def test_a_question_comes_back_and_its_answer_goes_in(pools: Pools, name: str) -> None:
    with pytest.raises(Parked) as caught:
        await execute(pools[name], "asking_executor", {"until": "yes"})
    assert (caught.value.question, caught.value.memo) == ("What do you say?", '{"times":1}')
    form = {"properties": {"word": {"type": "string"}}}
    with pytest.raises(Parked) as caught:
        await execute(pools[name], "asking_executor", {"until": "yes", "schema": form})
    assert caught.value.schema == form
    here = context(reply=Reply(answer="yes", by="alice", memo={"times": 1}))
    assert await execute(pools[name], "asking_executor", {"until": "yes"}, here) == {"said": "yes", "times": 1}


@EVERYWHERE
async def test_an_unknown_exception_has_its_type_and_its_text_stays_in_the_log(pools: Pools, name: str) -> None:
    with pytest.raises((RuntimeError, RaisedElsewhere)) as caught:
        await execute(pools[name], "scripted_executor", {"then": "raise"})
    assert getattr(caught.value, "kind", "RuntimeError") == "RuntimeError"


@pytest.mark.parametrize("odd", ["usage", "progress", "partial result"])
async def test_what_is_no_value_of_its_field_fails_the_task(pools: Pools, odd: str) -> None:
    here = replace(context(), spent=lambda usage: usage["prompt_tokens"] + 1)
    with pytest.raises((TypeError, RaisedElsewhere)) as caught:
        await execute(pools["process"], "confiding_executor", {"odd": odd}, here)
    assert getattr(caught.value, "kind", "TypeError") in ("TypeError", "ValueError")
    assert await call(pools["process"], "add", a=1) == 2


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cancelled has the time that it needs to return what it has."""
    for module in (line, thread):
        monkeypatch.setattr(module, "STOP_SECONDS", 60)


@OWN_LOOP
@pytest.mark.usefixtures("patient")
async def test_cancelling_keeps_a_partial_result(pools: Pools, name: str) -> None:
    here = context()
    work = asyncio.create_task(execute(pools[name], "confiding_executor", {"stays": True}, here))
    await until(lambda: here.reports)
    work.cancel()
    with pytest.raises(Stopped) as caught:
        await work
    assert caught.value.result == "so far"


@OWN_LOOP
async def test_a_request_is_sent_by_the_worker(pools: Pools, name: str) -> None:
    asked: list[Json] = []

    async def fetch(method: str, url: str, **options: Any) -> HttpResponse:
        asked.append({"method": method, "url": url, **options})
        return HttpResponse(url=url, status_code=418, headers={"X-Pot": "tea"}, body=b"\xff\x00", elapsed_ms=1.0)

    here = context(fetch=fetch)
    assert await execute(pools[name], "fetching_executor", {"url": "http://example.com/"}, here) == {"status_code": 418}
    assert asked == [{"method": "GET", "url": "http://example.com/", "timeout_seconds": 60}]


@OWN_LOOP
async def test_a_timeout_of_the_executor_ends_a_request_as_on_the_loop(pools: Pools, name: str) -> None:
    async def fetch(method: str, url: str, **options: Any) -> HttpResponse:
        await asyncio.sleep(3600)
        raise AssertionError

    with pytest.raises(ExecutorError, match=r"^The page was not fetched within 0.1 s$"):
        await execute(pools[name], "impatient_executor", {"url": "http://example.com/"}, context(fetch=fetch))


async def test_the_start_of_the_process_counts_for_the_timeout(environment: None) -> None:
    """The nursery stands still, as on a machine that is busy."""
    pool = make_pools()[PROCESS]
    assert isinstance(pool, ProcessPool)
    work = asyncio.create_task(execute(pool, "scrape_executor", {"url": "http://example.com/", "timeout_seconds": 1}))
    await until(lambda: pool._processes._nurseries)
    [nursery] = pool._processes._nurseries.values()
    os.kill(nursery._process.pid, signal.SIGSTOP)
    with pytest.raises(ExecutorError, match=r"^Web page: not done within 1 s \(timeout_seconds\)"):
        await work
    await pool.close()


async def test_code_in_a_process_gets_no_secret_but_what_the_operator_lists(
    environment: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = sections.replace(
        settings.APFLOW,
        pools=sections.replace(
            settings.APFLOW.pools,
            process=sections.replace(settings.APFLOW.pools.process, environment=("LISTED_*", f"{PREFIX}REDIS_URL")),
        ),
        database=sections.replace(settings.APFLOW.database, url="postgresql://user:canary@localhost/db"),
    )
    settings.APFLOW_PROCESS_ENVIRONMENT = partial(for_processes, config)
    given = {"LISTED_KEY": "listed", f"{PREFIX}REDIS_URL": "redis://named@localhost", f"{PREFIX}LIMITS_NESTING": "9"}
    names = ("OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", f"{PREFIX}JWT_SECRET", f"{PREFIX}LLM_ENCRYPTION_KEYS")
    for name, value in {
        **given,
        **dict.fromkeys(names, "canary" * 6),
        f"{PREFIX}AUTH_TRIGGER_SECRET": "canary",
    }.items():
        monkeypatch.setenv(name, value)
    pool = make_pools()[PROCESS]
    found = await call(pool, "surroundings")
    await pool.close()
    assert "canary" not in str(found)
    assert settings.SECRET_KEY not in found["settings"]
    assert settings.SIMPLE_JWT["SIGNING_KEY"] not in found["settings"]
    assert settings.APFLOW_ENCRYPTION_KEYS[0] not in found["settings"]
    assert given.items() <= found["environ"].items()
    assert found["environ"][f"{PREFIX}DATABASE_URL"] == "postgresql://user@localhost/db"
    assert found["environ"]["PATH"] == os.environ["PATH"]


async def test_a_process_that_a_task_leaves_ends_with_the_task(pools: Pools) -> None:
    first, pid = await call(pools[PROCESS], "process_id"), await call(pools[PROCESS], "start_daemon", gate="")
    await until(lambda: not _is_alive(pid))
    assert await call(pools[PROCESS], "process_id") != first


async def test_a_process_that_a_killed_task_leaves_ends_too(pools: Pools, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    work = asyncio.create_task(call(pools[PROCESS], "start_daemon", gate=str(gate)))
    await until(lambda: gate.exists() and gate.read_text())
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await until(lambda: not _is_alive(int(gate.read_text())))


async def test_the_processes_of_a_task_have_a_limit(pools: Pools) -> None:
    with pytest.raises(ExecutorError, match=r"more than 64 processes besides its own \(pools.process.processes\)"):
        await call(pools[PROCESS], "fork_often", count=100)


async def test_the_processes_of_a_task_share_its_limit_of_memory(pools: Pools) -> None:
    here = context(params={"resources": {"memory_mb": 100}})
    with pytest.raises(ExecutorError, match="with the processes that it had started it took more than 100 MB"):
        await call(pools[PROCESS], "fork_and_grow", here, count=4, each_bytes=40 * 2**20)
    assert await call(pools[PROCESS], "add", a=2) == 3


@OWN_LOOP
async def test_a_refused_request_is_an_error_of_the_work(pools: Pools, name: str) -> None:
    with pytest.raises(ExecutorError, match="this context has no network"):
        await execute(pools[name], "fetching_executor", {"url": "http://example.com/"})


@OWN_LOOP
async def test_a_model_is_asked_by_the_worker_and_counted_once(pools: Pools, name: str, models: Listener) -> None:
    here = context()
    result = await execute(pools[name], "llm_executor", {"prompt": "Say hi", "model": "demo/demo"}, here)
    assert result["model"] == "demo/demo"
    assert [usage["prompt_tokens"] for usage in here.usages] == [2]
    assert "".join(models.words).startswith("This is the built-in demo model")


@OWN_LOOP
@pytest.mark.usefixtures("patient")
async def test_cancelling_a_call_of_a_model_keeps_what_was_said(pools: Pools, name: str, models: Listener) -> None:
    here = context()
    asked = {"prompt": "Say " + "much " * 2000, "model": "demo/demo"}
    work = asyncio.create_task(execute(pools[name], "llm_executor", asked, here))
    await until(lambda: models.words)
    work.cancel()
    with pytest.raises(Stopped) as caught:
        await work
    assert caught.value.result["content"].startswith("This")
    assert len(here.usages) == 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("return_a_set", "The result is not a JSON value"),
        ("return_not_a_number", "NaN or Infinity"),
        ("return_much", "limits.result_bytes"),
    ],
)
async def test_what_no_database_stores_does_not_leave_the_process(pools: Pools, function: str, message: str) -> None:
    with pytest.raises(ExecutorError, match=message) as caught:
        await call(pools["process"], function)
    assert caught.value.permanent


async def test_a_process_is_used_again_and_is_not_the_worker(pools: Pools) -> None:
    first, second = await call(pools["process"], "process_id"), await call(pools["process"], "process_id")
    assert first == second != os.getpid()


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("exit_at_once", {"code": 7}, "exit code 7"),
        ("exit_at_once", {"code": 0}, "exit code 0"),
        ("crash", {}, "killed by SIGSEGV"),
    ],
)
async def test_a_death_fails_the_task_in_that_process_only(
    pools: Pools, tmp_path: Path, function: str, arguments: Json, message: str
) -> None:
    gate = tmp_path / "gate"
    neighbour = asyncio.create_task(call(pools["process"], "wait_for", gate=str(gate)))
    with pytest.raises(ExecutorError, match=message) as caught:
        await call(pools["process"], function, **arguments)
    assert not caught.value.permanent
    gate.touch()
    assert await neighbour > 0


async def test_memory_has_a_limit(pools: Pools) -> None:
    with pytest.raises(ExecutorError, match=r"MemoryError.* 64 MB.*params.resources.memory_mb"):
        await call(pools["process"], "eat_memory", context(params={"resources": {"memory_mb": 64}}))
    assert await call(pools["process"], "add", a=1) == 2


@pytest.mark.parametrize("function", ["block", "block_with_a_program"])
async def test_cancelling_ends_what_blocks(pools: Pools, tmp_path: Path, function: str) -> None:
    started = tmp_path / "started"
    work = asyncio.create_task(call(pools["process"], function, started=str(started)))
    await until(lambda: started.exists() and started.read_text())
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    pid = int(started.read_text())
    await until(lambda: not _is_alive(pid))


async def test_threads_that_cannot_be_stopped_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "MOST_LEFT", 1)
    monkeypatch.setattr(thread, "STOP_SECONDS", 0)
    pool, gate = thread.ThreadPool(), tmp_path / "gate"
    work = asyncio.create_task(
        execute(pool, "spinning_executor", {"gate": str(gate), "started": str(tmp_path / "started")})
    )
    await until((tmp_path / "started").exists)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    with pytest.raises(ExecutorError, match="1 threads of stopped tasks still run"):
        await execute(pool, "echo_executor", {})
    gate.touch()
    await until(lambda: not pool._left)
    assert await execute(pool, "echo_executor", {}) == {}


async def test_cancelling_ends_what_holds_the_interpreter(pools: Pools) -> None:
    """Its own loop can do nothing either, so it is killed at the deadline."""
    here: RecordingContext = context()
    harm = {"then": "hold the lock of the interpreter", "how": "log", "says": b"now".hex()}
    work = asyncio.create_task(execute(pools["process"], "scripted_executor", harm, here))
    await until(lambda: here.logs)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(BOUND_SECONDS):
            await work


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
