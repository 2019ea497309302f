"""The server of the how-tos: configured by what they show, started by what they type, with a provider of models on loopback."""

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest
import yaml

from tests.documents import text
from tests.fork_server import MODELS
from tests.llm_server import LlmServer, llm_server
from tests.ports import free_port
from tests.servers import WITH_EXAMPLES, Server, new_database
from tests.shell import Shell, new_shell

Json = dict[str, Any]
A2A: Final = "docs/how-to/a2a.md"
BRING_YOUR_CODE: Final = "docs/how-to/bring-your-code.md"
CELERY: Final = "docs/coming-from/celery.md"
CHECKS: Final = "docs/how-to/checks.md"
LLM: Final = "docs/how-to/llm.md"
LLM_KEYS: Final = "docs/how-to/llm-keys.md"
RUN_COMMANDS: Final = "docs/how-to/run-commands.md"
WORKFLOWS: Final = "docs/how-to/workflows.md"
WRITE_AN_EXECUTOR: Final = "docs/how-to/write-an-executor.md"
CONFIGURATION: Final = [
    (A2A, "Handle plain text"),
    (BRING_YOUR_CODE, "A crew"),
    (BRING_YOUR_CODE, "A LangGraph graph"),
    (BRING_YOUR_CODE, "Code first with `@entrypoint`"),
    ("docs/how-to/budgets.md", "Limit each user"),
    (LLM, "Run a crew"),
    (LLM, "Custom endpoints"),
    (LLM_KEYS, "Where a key is sent"),
    (RUN_COMMANDS, "Run commands"),
    (WRITE_AN_EXECUTOR, "Register it"),
]
OLD_KEY: Final = "the-old-key-of-at-least-32-characters"
"""What a page calls the key that sealed until it was changed."""
MODULES: Final = {
    "word_count": text(WRITE_AN_EXECUTOR, "Write an executor", "python"),
    "shout": text(WRITE_AN_EXECUTOR, "Use a plain function", "python"),
    "line_count": text(WRITE_AN_EXECUTOR, "Go further", "python"),
    "order_steps": text(WORKFLOWS, "Steps", "python"),
    "pages": text("docs/coming-from/dbos.md", "An example", "python"),
    "sell": text("docs/coming-from/temporal.md", "An example", "python"),
    "watch": text(WORKFLOWS, "Long workflows", "python"),
    "prices": text(CELERY, "An example", "python"),
    "reports": text(A2A, "Write a message handler", "python"),
    "my_report": """
from aipartnerupflow.executors import Context, Executor, Json

class MyReport(Executor):
    id = "my_report"
    name = "My report"
    description = "What the page on A2A leaves to its reader."

    async def execute(self, inputs: Json, context: Context) -> Json:
        return inputs
""",
    "my_company/crews": text(BRING_YOUR_CODE, "A crew", "python"),
    "my_company/graphs": text(BRING_YOUR_CODE, "A LangGraph graph", "python"),
    "my_company/totals": text(BRING_YOUR_CODE, "Code first with `@entrypoint`", "python"),
    "my_company/support": text(BRING_YOUR_CODE, "Models of a graph", "python"),
    "my_company/tools": """
from crewai.tools import BaseTool

class SearchTool(BaseTool):
    name: str = "search"
    description: str = "Searches."

    def _run(self, text: str) -> str:
        return f"All about {text}."
""",
}
"""The modules of the pages, and those that they leave to their readers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocsSite:
    """The server, the provider of its models, a shell beside it, and what stands for the addresses of the pages."""

    server: Server
    llm: LlmServer
    shell: Shell
    addresses: Mapping[str, str]

    def run(self, block: str, *, given: str = "") -> str:
        """What the block prints, typed into the shell."""
        return self.shell.run(here(block, self.addresses), given=given)

    def answer(self, block: str) -> Any:
        """What the block prints as JSON."""
        return json.loads(self.run(block))

    def executed(self, block: str, *options: str) -> Json:
        """The root of the block's tree, when all of it is done."""
        (self.shell.folder / "tree.json").write_text(here(block, self.addresses))
        root: Json = json.loads(
            self.shell.run(shlex.join(["aipartnerupflow", "run", "tree.json", "--json", *options]))
        )["task"]
        return root


def here(block: str, addresses: Mapping[str, str]) -> str:
    """The block with our addresses instead of those of the page."""
    for shown, ours in addresses.items():
        block = block.replace(shown, ours)
    return block


def merged(first: Any, second: Any) -> Any:
    """Both, and the second where they differ; lists are put together."""
    match first, second:
        case dict(), dict():
            return first | {key: merged(first.get(key), value) for key, value in second.items()}
        case list(), list():
            return first + second
        case _:
            return second


def configuration(port: int) -> Json:
    """What the pages say, and what they leave to their readers."""
    whole: Json = {
        "executors": {
            "rest": {"allow_private": ["localhost"], "allowed_ports": [port]},
            "langgraph": {"graphs": {"support": "my_company.support:support"}},
            "modules": ["shout", "line_count", "my_report", "prices", "order_steps", "pages", "sell", "watch"],
        },
        "a2a": {"message_handler": "reports.reports", "signing_key": "card-key.pem"},
        "llm": {"encryption_keys": [OLD_KEY]},
    }
    for page, heading in CONFIGURATION:
        whole = merged(whole, yaml.safe_load(text(page, heading, "yaml")))
    return whole


@contextmanager
def running_docs_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DocsSite]:
    shell, port = new_shell(tmp_path_factory), free_port()
    for name, module in MODULES.items():
        file = shell.folder / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(module)
    config = configuration(port)
    with llm_server() as llm, new_database() as database:
        addresses = {
            "http://localhost:8000": f"http://localhost:{port}",
            "https://example.com/": f"http://localhost:{port}/docs",
            "https://poet.example.com": f"http://localhost:{port}",
            "http://models.example.com:8000/v1": llm.openai_base,
            "https://llm-proxy.example.com/v1": llm.openai_base,
            "50051": str(free_port()),
        }
        (shell.folder / "config.yaml").write_text(here(yaml.safe_dump(config), addresses))
        variables = {
            "AIPARTNERUPFLOW_CONFIG": str(shell.folder / "config.yaml"),
            "AIPARTNERUPFLOW_DATABASE_URL": database,
            "AIPARTNERUPFLOW_EXECUTORS_MODULES": ",".join(config["executors"]["modules"]),
            "AIPARTNERUPFLOW_PORT": str(port),
            "ANTHROPIC_API_BASE": llm.url,
            "ANTHROPIC_API_KEY": "sk-ant-of-the-server",
            MODELS: "yes",
            "HOUSE_API_KEY": "sk-of-the-house",
            **WITH_EXAMPLES,
            "OPENAI_API_KEY": "sk-of-the-server",
        }
        shell = Shell(folder=shell.folder, environment=shell.environment | variables)
        shell.run(text(A2A, "Sign the card", "sh"))
        start = here(text(A2A, "Over gRPC", "sh"), addresses)
        with shell.server(start, database=database, port=port) as server:
            yield DocsSite(server=server, llm=llm, shell=shell, addresses=addresses)
