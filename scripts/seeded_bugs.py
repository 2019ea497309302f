"""Check that the tests of the rules find bugs: seed those of `seeded_bugs.toml`, one at a time, into a copy of the repository.

    python scripts/seeded_bugs.py [--jobs 2] [--only TEXT]

Prints a Markdown table. Exits with code 1 if more than one bug in twenty survives.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
PARTS: Final = (
    "a2a", "accounts", "aipartnerupflow", "apflow_site", "docs", "llmkeys", "tasks", "tests", "templates",
)  # fmt: skip
FILES: Final = ("manage.py", "pyproject.toml", "README.md")
TESTS: Final = (
    "tests/tasks/rules/test_tree.py",
    "tests/tasks/queue/test_fairness.py",
    "tests/tasks/services/runs/test_cancels.py",
    "tests/tasks/queue/test_leases.py",
    "tests/tasks/queue/test_suspicion.py",
    "tests/tasks/worker/test_group_commit.py",
    "tests/tasks/worker/test_killable_queue.py",
    "tests/tasks/worker/test_worker.py",
    "tests/tasks/worker/test_engine.py",
    "tests/tasks/worker/test_kills_of_waits.py",
    "tests/tasks/worker/test_kills_of_reminders.py",
    "tests/tasks/services/waits/test_assignees.py",
    "tests/tasks/services/waits/test_forms.py",
    "tests/apflow_site/db/test_shared_calls.py",
    "tests/apflow_site/test_program_request.py",
    "tests/tasks/services/flows/test_flows.py",
    "tests/tasks/worker/test_model_calls.py",
    "tests/tasks/rules/test_call_content.py",
    "tests/a2a/methods/test_audit.py",
    "tests/a2a/methods/test_calls.py",
    "tests/tasks/services/history/test_history.py",
    "tests/a2a/methods/test_runs.py",
    "tests/a2a/methods/test_run_status.py",
    "tests/a2a/mcp/test_endpoint.py",
    "tests/a2a/mcp/test_tools.py",
    "tests/a2a/mcp/test_calls.py",
    "tests/a2a/mcp/test_tasks.py",
    "tests/a2a/mcp/test_subscriptions.py",
    "tests/a2a/agui/test_runs.py",
    "tests/a2a/agui/test_access.py",
    "tests/tasks/rules/test_flows.py",
    "tests/tasks/services/waits/test_reminders.py",
    "tests/aipartnerupflow/workflows/test_replay.py",
    "tests/aipartnerupflow/workflows/test_workflows.py",
    "tests/tasks/services/waits/test_waits.py",
    "tests/tasks/worker/test_branches.py",
    "tests/tasks/worker/test_maps.py",
    "tests/tasks/worker/test_spawns.py",
    "tests/tasks/worker/test_steps.py",
    "tests/tasks/worker/test_rounds.py",
    "tests/tasks/worker/test_child_runs.py",
    "tests/tasks/worker/test_budgets.py",
    "tests/tasks/worker/test_budget_questions.py",
    "tests/tasks/worker/test_sealed_inputs.py",
    "tests/tasks/services/secrets/test_write_only.py",
    "tests/tasks/services/spending/test_usage.py",
    "tests/tasks/worker/test_growth_rules.py",
    "tests/tasks/schedules/test_times.py",
    "tests/tasks/schedules/test_firings.py",
    "tests/tasks/schedules/test_dying.py",
    "tests/tasks/rules/test_rules.py",
    "tests/tasks/pools/test_line.py",
    "tests/tasks/executors/test_other_loop.py",
    "tests/tasks/executors/test_secrets.py",
    "tests/tasks/executors/email/test_send_email.py",
    "tests/tasks/executors/websocket/test_websocket.py",
    "tests/tasks/executors/mcp/test_mcp.py",
    "tests/tasks/executors/mcp/test_hostile_server.py",
    "tests/tasks/executors/mcp/test_mcp_questions.py",
    "tests/tasks/executors/mcp/test_mcp_agents.py",
    "tests/tasks/executors/ssh/test_ssh.py",
    "tests/tasks/executors/docker/test_docker.py",
    "tests/tasks/executors/grpc/test_grpc.py",
    "tests/tasks/executors/scrape/test_scrape.py",
    "tests/tasks/executors/crewai/test_own_crews.py",
    "tests/tasks/executors/apflow_api/test_apflow_api.py",
    "tests/tasks/executors/llm/test_agent.py",
    "tests/tasks/executors/llm/test_conversations.py",
    "tests/tasks/worker/test_kills_of_conversations.py",
    "tests/tasks/executors/test_generate.py",
    "tests/tasks/executors/llm/test_wire.py",
    "tests/tasks/executors/llm/test_merging.py",
    "tests/tasks/executors/llm/test_streamed.py",
)
ENVIRONMENT: Final = {"RULES_SEED": "1", "RULES_EXAMPLES": "200", "RULES_PATIENCE": "8"}
LIMIT_SECONDS: Final = 300
MAY_SURVIVE: Final = 1 / 20


class Bug(NamedTuple):
    """A bug: in `file` the text `right`, which occurs once, becomes `wrong`."""

    what: str
    file: str
    right: str
    wrong: str


def all_bugs() -> list[Bug]:
    with (ROOT / "scripts/seeded_bugs.toml").open("rb") as file:
        return [Bug(**bug) for bug in tomllib.load(file)["bug"]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="number of bugs to try at once")
    parser.add_argument("--only", default="", help="only bugs whose file or description contains this text")
    arguments = parser.parse_args()
    bugs = [bug for bug in all_bugs() if arguments.only in f"{bug.file}: {bug.what}"]
    with ThreadPoolExecutor(arguments.jobs) as pool, tempfile.TemporaryDirectory(prefix="seeded-bugs-") as folder:
        sound = Path(folder) / "sound"
        _copy(ROOT, sound)
        if _is_caught(sound):
            raise SystemExit("The tests fail without a seeded bug.")
        _print(["bug", "where", "", "seconds"], ["---", "---", "---", "---:"])
        survived = sum(not is_caught for is_caught in pool.map(partial(_try, sound), bugs))
    _print([f"\n{len(bugs) - survived} of {len(bugs)} caught"])
    return int(survived > len(bugs) * MAY_SURVIVE)


def _try(sound: Path, bug: Bug) -> bool:
    """Whether the tests find the bug."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="seeded-bug-") as folder:
        copy = Path(folder) / "copy"
        _copy(sound, copy)
        file = copy / bug.file
        text = file.read_text()
        if text.count(bug.right) != 1:
            raise SystemExit(f"{bug.file} has {text.count(bug.right)} occurrences instead of one: {bug.right!r}")
        file.write_text(text.replace(bug.right, bug.wrong))
        is_caught = _is_caught(copy)
    verdict = "caught" if is_caught else "**survived**"
    _print([bug.what, f"`{bug.file}`", verdict, f"{time.monotonic() - started:.0f}"])
    return is_caught


def _copy(source: Path, target: Path) -> None:
    for part in PARTS:
        shutil.copytree(source / part, target / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(source / file, target / file)


def _is_caught(folder: Path) -> bool:
    """Whether a test fails or hangs. Raises SystemExit if the tests cannot run."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *TESTS]
    environment = os.environ | ENVIRONMENT | {"PYTHONDONTWRITEBYTECODE": "1"}
    try:
        tests = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return True
    if tests.returncode not in (0, 1):
        raise SystemExit(f"The tests do not run:\n{tests.stdout}{tests.stderr}")
    return tests.returncode == 1


def _print(*rows: Iterable[str]) -> None:
    for row in rows:
        cells = list(row)
        sys.stdout.write((f"| {' | '.join(cells)} |" if len(cells) > 1 else cells[0]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
