"""`Context.http` and `Context.config`: an executor of the operator's uses an SDK, in every pool."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import yaml
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from aipartnerupflow.executors import Context, ExecutorError, testing
from llmkeys import named_secrets
from llmkeys.secret import Secret
from tasks.executors import executor_ids, get_executor
from tasks.executors.http import client
from tests.documents import text
from tests.llm_formats import Says
from tests.llm_server import LlmServer, llm_server
from tests.tasks.executors.conftest import Web, forget_registry
from tests.workers import Json, Ran

RunTree = Callable[[list[Json]], Ran]
PAGE = "docs/how-to/write-an-executor.md"
SECTION = "SDKs and configuration"


@pytest.fixture(scope="module")
def llm() -> Iterator[LlmServer]:
    with llm_server() as server:
        yield server


def configured(settings: Settings, config: Json) -> None:
    executors = settings.APFLOW.executors.model_copy(update={"config": config})
    settings.APFLOW = settings.APFLOW.model_copy(update={"executors": executors})


@pytest.fixture
def translate(
    test_executors: None, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, llm: LlmServer
) -> None:
    """The executor of the page, with its configuration, and our address instead of that of the page."""
    (tmp_path / "translate_of_the_page.py").write_text(text(PAGE, SECTION, "python"))
    monkeypatch.syspath_prepend(tmp_path)
    settings.APFLOW_EXECUTOR_MODULES = ("translate_of_the_page",)
    written = text(PAGE, SECTION, "yaml").replace("https://translate.example.com/v1", llm.openai_base)
    configured(settings, yaml.safe_load(written)["executors"]["config"])
    llm.forget()
    forget_registry()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("pool", ["loop", "thread"])
def test_an_sdk_has_a_guarded_client_and_its_configuration(
    run: RunTree, translate: None, settings: Settings, llm: LlmServer, pool: str
) -> None:
    settings.APFLOW_ALLOW_PRIVATE, settings.APFLOW_REST_ALLOWED_PORTS = ("127.0.0.1",), (llm.port,)
    named_secrets.set_secret(user_id="local", name="translate_key", value=Secret("the-key-of-the-service"))
    llm.will(Says(text="Tee ist grün."))
    task = {"id": "t", "name": "T", "schemas": {"method": "translate_executor"}, "inputs": {"text": "Tea is green."}}
    ran = run([task | {"params": {"pool": pool}}])
    assert (ran.tasks["t"].result, ran.tasks["t"].error) == ({"text": "Tee ist grün."}, None)
    assert [asked.key for asked in llm.asked] == ["the-key-of-the-service"]


@pytest.mark.django_db(transaction=True)
def test_an_sdk_does_not_reach_the_operators_network(run: RunTree, translate: None, llm: LlmServer) -> None:
    named_secrets.set_secret(user_id="local", name="translate_key", value=Secret("the-key-of-the-service"))
    ran = run([{"id": "t", "name": "T", "schemas": {"method": "translate_executor"}, "inputs": {"text": "Tea."}}])
    assert ran.tasks["t"].status == "failed"
    assert llm.asked == []


async def test_the_client_refuses_private_addresses_and_other_ports(settings: Settings) -> None:
    async with client() as http:
        with pytest.raises(ExecutorError, match="is not public"):
            await http.get("http://127.0.0.1/")
        with pytest.raises(ExecutorError, match="port 8080 is not allowed"):
            await http.get("http://1.1.1.1:8080/")


async def test_the_client_follows_no_redirect_and_reads_no_compressed_answer(web: Web, allow_loopback: None) -> None:
    web.answer(302, Location="http://169.254.169.254/")
    async with client() as http:
        assert (await http.get(web.url)).status_code == 302
        web.answer(200, b"x", Content_Encoding="gzip")
        with pytest.raises(httpx.DecodingError, match="not asked for"):
            await http.get(web.url)


async def test_a_test_brings_its_own_client_and_configuration(translate: None) -> None:
    here = testing.context(config={"url": "http://x/v1"}, secrets={"translate_key": "k"})
    assert here.config == {"url": "http://x/v1"}
    with pytest.raises(ExecutorError, match="There is no HTTP client"):
        await get_executor("translate_executor").execute({"text": ""}, here)


def test_a_configuration_without_an_executor_stops_the_start(settings: Settings, registry: None) -> None:
    configured(settings, {"ecko_executor": {}})
    with pytest.raises(ImproperlyConfigured, match=r"executors\.config: there is no executor 'ecko_executor'.*echo"):
        executor_ids()


def test_a_context_without_a_worker_has_neither(context: Context) -> None:
    assert replace(context).config == {}
    with pytest.raises(ExecutorError, match="There is no HTTP client"):
        context.http()
