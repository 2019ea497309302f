"""`Context.llm`: an executor of the operator's calls models, in every pool, as the task of the run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from aipartnerupflow.executors import ExecutorError
from aipartnerupflow.executors.testing import context
from tasks.executors import get_executor
from tasks.models import ModelCall
from tests.documents import texts
from tests.tasks.executors.conftest import forget_registry
from tests.workers import Json, Ran

RunTree = Callable[[list[Json]], Ran]
PAGE = "docs/how-to/write-an-executor.md"


@pytest.fixture
def headline(test_executors: None, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor of the page."""
    (tmp_path / "headline_of_the_page.py").write_text(*texts(PAGE, "Language models", "python"))
    monkeypatch.syspath_prepend(tmp_path)
    settings.APFLOW_EXECUTOR_MODULES = ("headline_of_the_page",)
    forget_registry()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("pool", ["loop", "thread"])
def test_an_executor_calls_a_model_as_its_task(run: RunTree, headline: None, pool: str) -> None:
    fields: Json = {"schemas": {"method": "headline_executor"}, "params": {"model": "demo/demo", "pool": pool}}
    ran = run([{"id": "h", "name": "H", "inputs": {"text": "Tea is green."}, **fields}])
    task = ran.tasks["h"]
    assert (task.status, task.error) == ("completed", None)
    assert task.result["model"] == "demo/demo"
    assert "Write a headline for this text:" in task.result["headline"]
    assert (task.token_usage or {})["total_tokens"] > 0
    assert [(call.task_id, call.model) for call in ModelCall.objects.all()] == [("h", "demo/demo")]


async def test_a_test_brings_its_own_model(headline: None) -> None:
    async def llm(messages: Any, **options: Any) -> Json:
        assert options == {"temperature": 0}
        return {"content": f"On: {messages.splitlines()[-1]}", "model": "none"}

    executor = get_executor("headline_executor")
    result = await executor.execute({"text": "Tea is green."}, context(llm=llm))
    assert result == {"headline": "On: Tea is green.", "model": "none"}
    with pytest.raises(ExecutorError, match="this context has none"):
        await executor.execute({"text": ""}, context())
