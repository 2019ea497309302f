"""A real server whose providers of language models are on loopback: one that writes down who asked, and llmock for the others."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from tasks.rules.words import TOKEN
from tests.fork_server import MODELS
from tests.llm_formats import Json
from tests.llm_server import LlmServer, llm_server
from tests.own_code import HAS_CREWAI
from tests.servers import Server, new_database, running_server, until
from tests.shared_servers import QUICK_STOP

if TYPE_CHECKING:
    from llmock.testing import LLMockServer

KEY: Final = "sk-alice-0123456789abcdef"
WITH_KEY: Final[Mapping[str, str]] = {"X-LLM-API-KEY": f"openai:{KEY}"}
ALSO_OPENAI: Final = ("mistral", "groq")
"""Providers that speak as OpenAI does, at addresses of their own."""
TOOLS: Final = (
    "length=tests.crew_tools.length,process=tests.crew_tools.process,wait=tests.crew_tools.WaitTool,"
    "lost=tests.crew_tools.lost,wrong=os.getcwd"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A task whose run is over, and what was told of it."""

    task: Json
    events: list[Json]

    @property
    def words(self) -> list[str]:
        """What models answered, as it arrived."""
        tokens = [event for event in self.events if event["type"] == "token"]
        return [event["message"] for event in tokens if event["result"]["kind"] == "answer"]

    @property
    def logs(self) -> list[str]:
        return [event["message"] for event in self.events if event["type"] == "log"]

    @property
    def steps(self) -> list[tuple[float, str]]:
        return [(event["progress"], event["message"]) for event in self.events if event["type"] == "progress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmSite:
    server: Server
    llm: LlmServer
    mock: "LLMockServer"
    home: Path
    """The home folder of the server."""

    def start(self, executor_id: str, inputs: Json, headers: Mapping[str, str] = WITH_KEY, **fields: Any) -> str:
        """Execute one task. Returns its id."""
        task = {"name": "a task", "schemas": {"method": executor_id}, "inputs": inputs, **fields}
        task_id: str = self.server.rpc("tasks.execute", {"tasks": task}, **headers)["task_id"]
        return task_id

    def wait_for_question(self, task_id: str) -> Json:
        """The open question of a task, once there is one."""

        def question() -> Json:
            found = self.server.call("tasks.detail", {"task_id": task_id}).get("result") or {}
            return found.get("question") or {}

        return until(question, seconds=60, what=f"the question of {task_id}")

    def wait_for_words(self, task_id: str, words: str) -> None:
        """Return when the server has these words of a model's answer: they are on their way after the model sends them."""
        said = ""
        with self.server.events(task_id, tokens=True) as events:
            while words not in said:
                event = next(events)
                said += event["message"] if event["type"] == TOKEN else ""

    def end_of(self, task_id: str) -> Done:
        events = self.server.finished(task_id, tokens=True)
        return Done(task=self.server.rpc("tasks.get", {"task_id": task_id}), events=events)

    def run(self, executor_id: str, inputs: Json, headers: Mapping[str, str] = WITH_KEY, **fields: Any) -> Done:
        return self.end_of(self.start(executor_id, inputs, headers, **fields))

    def refusal_of(self, executor_id: str, **fields: Any) -> Json:
        """The error of a request that stores nothing."""
        task = {"name": "a task", "schemas": {"method": executor_id}, **fields}
        error: Json = self.server.call("tasks.execute", {"tasks": task})["error"]
        return error

    def error_of(self, executor_id: str, inputs: Json, headers: Mapping[str, str] = WITH_KEY, **fields: Any) -> str:
        """Why it failed."""
        task = self.run(executor_id, inputs, headers, **fields).task
        assert task["status"] == "failed", task
        error: str = task["error"]
        return error


@contextmanager
def running_llm_site(more: Mapping[str, str] | None = None) -> Iterator[LlmSite]:
    """`more` environment variables for the server."""
    from llmock.testing import LLMockServer  # noqa: PLC0415  it imports FastAPI, which takes a third of a second

    with (
        llm_server() as llm,
        LLMockServer() as mock,
        new_database() as url,
        TemporaryDirectory(prefix="apflow-", ignore_cleanup_errors=True) as home,
    ):
        addresses = {
            "corp": llm.openai_base,
            "azure": llm.url,
            "gemini": llm.url,
            "ollama": llm.url,
        } | {name: mock.base_url(name) for name in ALSO_OPENAI}
        environment = {
            **{name: "" for name in os.environ if name.endswith("_API_KEY")},  # a developer's own
            **QUICK_STOP,
            MODELS: "yes",
            "HOME": home,
            "OPENAI_BASE_URL": llm.openai_base,
            "ANTHROPIC_API_BASE": llm.url,
            "CEREBRAS_API_KEY": "csk-of-the-server",
            "AIPARTNERUPFLOW_LLM_API_BASE": ",".join(f"{name}={address}" for name, address in addresses.items()),
            "AIPARTNERUPFLOW_LLM_DEFAULT_MODEL": "openai/gpt-4o-mini",
            **({"AIPARTNERUPFLOW_EXECUTORS_CREWAI_TOOLS": TOOLS} if HAS_CREWAI else {}),
            **(more or {}),
        }
        with running_server(url, env=environment) as server:
            yield LlmSite(server=server, llm=llm, mock=mock, home=Path(home))
