"""In which order the tests run, and how the pytest processes share them: a pytest plugin.

A file runs in one process, and so does a folder whose files share a server. The files that share one of the servers
for all come last. Before and among them, what takes long begins first, so that the processes end together; or, with
`--shuffle SEED`, the files and the tests of each in a random order. Tests with a browser come last (`tests.browser`
has the reason).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import pytest
from _pytest.runner import runtestprotocol
from xdist.scheduler import LoadFileScheduling

from tests.own_code import HAS_CREWAI

if TYPE_CHECKING:
    from xdist.remote import Producer

COLLECTED: Final = "APFLOW_TEST_COLLECTED"
"""The environment variable with a file to make as soon as the tests are collected: `scripts/run-tests` waits for it."""
ONE_SERVER: Final = frozenset({"admin", "hostile", "interop", "isolation"})
"""Folders with a server of their own."""
WITH_MODELS: Final = (
    *(f"tasks/executors/{name}" for name in ("crewai/", "langgraph/", "llm/", "mcp/test_mcp_agents.")),
    *("tasks/executors/mcp/test_mcp_crews.", "tasks/executors/test_generate", "test_docs_blocks."),
    *("llmkeys/test_providers.", "llmkeys/test_resolve.", "tasks/services/upkeep/test_examples."),
    "tasks/worker/test_model_calls.",
)
WAITING_TOGETHER: Final = ("a2a/mcp/", "a2a/methods/test_responses.", "tasks/executors/apflow_api/", "test_call_page.")
TOGETHER: Final[Mapping[str, tuple[str, ...]]] = {
    "models": WITH_MODELS,
    "waiting": WAITING_TOGETHER,
    "agui": ("a2a/agui/",),
    "openai": ("a2a/openai/",),
    "wheels": tuple(f"test_{name}." for name in ("packaging", "plugin_package", "taken_names")),
    "webhooks": ("tasks/worker/test_webhook",),
    "people": tuple(f"dashboard/test_{name}." for name in ("file_previews", "flows", "pages", "runs")),
}
"""Files that share a server, or the libraries for models, which cost seconds in each process, by how their paths begin."""
WAITING: Final = (
    *WAITING_TOGETHER,
    *("a2a/endpoints/test_ws_auth.", "a2a/live/test_stream_limits.", "a2a/protocol/test_grpc."),
    *("aipartnerupflow/client/test_client.", "apflow_site/test_connections.", "tasks/executors/a2a_client/test_a2a."),
    *("tasks/executors/command/test_guarded_process.", "tasks/executors/docker/", "tasks/executors/ssh/"),
)
"""They wait most of the time. At the end, when the other runs of the suite are over, nothing would use the processors."""
LONGEST_FIRST: Final = (
    *(
        *WITH_MODELS,
        *WAITING,
        *TOGETHER["people"],
        "acceptance/",
        "a2a/rest/",
        "hostile/",
        "test_",
        "interop/",
        "isolation/",
        "tasks/rules/test_rules",
    ),
    *("aipartnerupflow/", "admin/", "apflow_site/", "tasks/worker/"),
    *("tasks/executors/", "a2a/"),
)
"""The files of long tests, by how their paths begin. All others consist of short tests."""


SHARED: Final = frozenset({"open_server", "auth_server"})
"""Servers that live until the last test. Units of work that use them come last: one that waits costs processor time, too.
Of those that wait themselves only one process has such a server early."""


class FilesAndFolders(LoadFileScheduling):
    """One unit of work per file, or for all files that share a server of their own."""

    def _split_scope(self, nodeid: str) -> str:
        return _unit(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> FilesAndFolders | None:
    return FilesAndFolders(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", type=int, metavar="SEED", help="Run the tests in the random order of this number.")


@pytest.hookimpl(trylast=True)  # pytest-django orders the tests of a file by how they use the database
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not HAS_CREWAI:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("crews")])
        items[:] = [item for item in items if not item.get_closest_marker("crews")]
    seed = config.getoption("shuffle")
    if seed is None:
        sharing = {_unit(item.nodeid) for item in items if SHARED & set(getattr(item, "fixturenames", ()))}
        sharing.discard("waiting")
        items.sort(key=lambda item: (_unit(item.nodeid) in sharing, _place(_below_tests(item.nodeid))))
    else:
        _shuffle(items, Random(seed))
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Let a process of many send one report per test that passes, instead of three, and the start and the end of none.

    What a test prepares and cleans up is reported only if it fails or is skipped.
    """
    if not hasattr(item.config, "workerinput"):
        return None
    for report in runtestprotocol(item, log=False, nextitem=nextitem):
        if report.when == "call" or not report.passed:
            item.ihook.pytest_runtest_logreport(report=report)
    return True


def pytest_collection_finish() -> None:
    if name := os.environ.get(COLLECTED):
        Path(name).touch()


def _shuffle(items: list[pytest.Item], random: Random) -> None:
    """The tests of a file stay together: they share fixtures, which would be made again and again."""
    files = sorted({item.path for item in items})
    random.shuffle(files)
    random.shuffle(items)
    items.sort(key=lambda item: files.index(item.path))


def _unit(nodeid: str) -> str:
    """The name of the unit of work that a test belongs to."""
    path = _below_tests(nodeid.partition("::")[0])
    for unit, heads in TOGETHER.items():
        if path.startswith(heads):
            return unit
    folder = path.partition("/")[0]
    return folder if folder in ONE_SERVER else path


def _below_tests(path: str) -> str:
    return path.removeprefix("tests/")


def _place(path: str) -> int:
    """The index of the first beginning that fits."""
    return next((place for place, head in enumerate(LONGEST_FIRST) if path.startswith(head)), len(LONGEST_FIRST))
