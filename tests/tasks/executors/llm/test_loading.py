"""litellm and crewai: loaded by workers when they are needed, once, quietly, beside everything else; and nowhere else."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT, new_database

HEAVY = ("litellm", "crewai", "openai", "tiktoken")


def run(program: str, folder: Path, **variables: str) -> Any:
    """What the program prints last, run in a process of its own, which has no home, as a service may."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIPARTNERUPFLOW_")},
        "AIPARTNERUPFLOW_DATA_DIR": str(folder),
        "DJANGO_SETTINGS_MODULE": "apflow_site.settings",
        "HOME": "/nonexistent",
        **variables,
    }
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


LOADED = f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
WEB = f"""
import json, sys
from apflow_site.asgi import application
from django.urls import get_resolver
from tasks.executors import EXECUTORS, describe
get_resolver().url_patterns
[describe(executor_id) for executor_id in EXECUTORS]
{LOADED}
"""
COMMAND = """
import json, sys
from aipartnerupflow.cli import main
sys.argv = ["aipartnerupflow", *{words!r}]
try:
    main()
except SystemExit:
    pass
{loaded}
"""
LITELLM = "tasks.executors.llm.litellm_calls.ask"
CREWAI = "tasks.executors.crewai.kickoff.kickoff"
LOADING = """
import asyncio, json, logging, os
import django
django.setup()
from tasks.executors.llm.loading import QUIET, load

async def turns_of_the_loop(done):
    turns = 0
    while not done.is_set():
        await asyncio.sleep(0.01)
        turns += 1
    return turns

async def main():
    done = asyncio.Event()
    watch = asyncio.create_task(turns_of_the_loop(done))
    loaded = await asyncio.gather(*map(load, PATHS * 8))
    done.set()
    is_quiet = all(os.environ[name] == value for name, value in QUIET.items())
    own_ways = [name for name in logging.Logger.manager.loggerDict if logging.getLogger(name).handlers]
    print(json.dumps([len(set(loaded)), await watch, is_quiet, own_ways]))

asyncio.run(main())
"""


def test_web_processes_load_neither_even_to_describe_the_executors(tmp_path: Path) -> None:
    assert run(WEB, tmp_path) == []


@pytest.mark.parametrize(
    "words", [["--help"], ["tasks", "list", "--url", "http://127.0.0.1:9"], ["generate", "--help"]]
)
def test_the_command_loads_neither(words: list[str], tmp_path: Path) -> None:
    assert run(COMMAND.format(words=words, loaded=LOADED), tmp_path) == []


WARM = f"""
import json, sys, threading
import django
django.setup()
from datetime import UTC, datetime, timedelta
from django.db import connection
for executor_id, model, days in CALLS:
    day = datetime.now(UTC).date() - timedelta(days=days)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO tasks_usage VALUES ('ada', %s, %s, %s, 1, 1, 1, 2, 0, 1)", [day, model, executor_id])
from tasks import jobs
jobs.probe()
jobs.probe()
[thread.join() for thread in threading.enumerate() if thread.name == "warm-up"]
{LOADED}
"""


@pytest.mark.parametrize(
    ("calls", "loaded"),
    [
        pytest.param([("llm_executor", "openai/gpt-4o", 0)], True, id="a model of today"),
        pytest.param([("llm_executor", "openai/gpt-4o", 9)], False, id="a model of long ago"),
        pytest.param([("llm_executor", "demo/demo", 0), ("mine_executor", "x/y", 0)], False, id="others"),
        pytest.param([], False, id="none"),
    ],
)
def test_an_idle_worker_loads_what_was_used_of_late(calls: list[Any], loaded: bool, tmp_path: Path) -> None:
    with new_database() as url:
        found = run(f"CALLS = {calls!r}\n{WARM}", tmp_path, AIPARTNERUPFLOW_DATABASE_URL=url)
    assert ("litellm" in found) is loaded
    assert "crewai" not in found


@pytest.mark.parametrize(
    "paths",
    [pytest.param([LITELLM], id="litellm"), pytest.param([CREWAI, LITELLM], id="both", marks=pytest.mark.nightly)],
)
def test_many_who_need_them_at_once_load_them_once_beside_the_event_loop(paths: list[str], tmp_path: Path) -> None:
    different, turns, is_quiet, own_ways = run(f"PATHS = {paths!r}\n{LOADING}", tmp_path)
    assert different == len(paths)
    assert turns > 20  # they take seconds; a loop that is blocked has one or two
    assert is_quiet
    assert [
        name for name in own_ways if name.startswith(("LiteLLM", "crewai", "openai"))
    ] == []  # they would mask no key
