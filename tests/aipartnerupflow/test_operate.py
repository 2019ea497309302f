"""`explain`, `config show`, `executors`, `open`, the examples in every help, and the completion of ids."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from aipartnerupflow.cli.examples import EXAMPLES
from aipartnerupflow.explain import deaths_of, explain, may_ask, started_by
from aipartnerupflow.program import program
from tests.aipartnerupflow.cli.test_reference import COMMANDS
from tests.aipartnerupflow.conftest import Said, step, tree
from tests.servers import ROOT, Server, environment_of, until
from tests.terminal import Screen

Cli = Callable[..., Said]
Show = Callable[..., Screen]
Json = dict[str, Any]
HERE = program()
WELL: Mapping[str, Json] = {"worker": {"ok": True, "message": "ok", "fix": None}}
ASKED: Json = {"text": "Publish\nit?", "options": ["yes", "not yet"], "expires_at": None}
MAINTAINED: Mapping[str, Json] = {"queue": {"ok": True, "message": "maintenance since noon; end it", "fix": None}}
ILL: Mapping[str, Json] = {"worker": {"ok": False, "message": "No worker.", "fix": "Start one."}}


def task(task_id: str, status: str = "pending", *children: Json, after: tuple[str, ...] = (), **fields: Any) -> Json:
    return {
        "id": task_id,
        "name": task_id.upper(),
        "status": status,
        "dependencies": [{"id": each, "required": True} for each in after],
        "children": list(children),
        "schemas": {"method": "echo_executor"},
        "progress": 0.5,
        "attempt": 1,
        "error": None,
        "params": None,
        "started_at": "then",
        "completed_at": "now",
        **fields,
    }


@pytest.mark.parametrize(
    ("of", "root", "is_running", "checks", "words"),
    [
        ("r", task("r"), False, WELL, f"Start it: {HERE} tasks run r"),
        ("r", task("r"), True, ILL, "No worker. Start one."),
        ("r", task("r"), True, WELL, "worker.max_tasks"),
        (
            "b",
            task("r", "pending", task("a", "in_progress"), task("b", after=("a",))),
            True,
            WELL,
            "'A' (a), which is in progress (50%)",
        ),
        ("r", task("r", "pending", task("a"), schemas=None), True, WELL, "waits for 'A'"),
        ("r", task("r", "pending", task("a"), schemas=None), True, ILL, "No worker. Start one."),
        ("r", task("r", "pending"), True, MAINTAINED, "Workers begin no run: maintenance since noon; end it."),
        ("r", task("r", "in_progress", params={"timeout_seconds": 9}), True, WELL, "Its timeout is 9 s"),
        ("r", task("r", "completed"), False, WELL, "completed at now"),
        (
            "r",
            task(
                "r",
                "completed",
                task("a", "failed", error="boom"),
                *[task(f"c{n}", "cancelled", error="stop") for n in range(21)],
            ),
            False,
            WELL,
            "Its descendant 'A' (a) has failed: boom",
        ),
        ("r", task("r", "cancelled", error="enough"), False, WELL, "Reason: enough"),
        (
            "c",
            task(
                "r",
                "failed",
                task("a", "failed", error="boom", attempt=3),
                task("b", "failed", error="Not run: required dependency 'a' failed", not_run=True, cause_id="a"),
                task("c", "failed", error="Not run: required dependency 'B' failed", not_run=True, cause_id="a"),
            ),
            False,
            WELL,
            "Error: boom",
        ),
    ],
)
def test_a_task_is_explained_by_what_is_known_of_its_tree(
    of: str, root: Json, is_running: bool, checks: Mapping[str, Json], words: str
) -> None:
    said = explain(of, root, is_running=is_running, checks=checks, last_message="", questions={}, waits={})
    assert words in "\n".join(said)


def test_a_wait_for_a_named_limit_is_explained() -> None:
    wait = {"kind": "limit", "since": "noon", "until": None, "text": "for limit crm, about 12 s", "limit": "crm"}
    root = task("r", "pending", task("a"), task("b", after=("a",)), schemas=None)
    assert [may_ask(of, root) for of in "abr"] == [["a"], ["a"], ["r", "a"]]
    said = explain("a", root, is_running=True, checks=WELL, last_message="", questions={}, waits={"a": wait})
    assert said[-1].startswith("It waits since noon for limit crm, about 12 s. It needs no worker meanwhile")


def test_the_checks_of_a_task_are_explained() -> None:
    failed = {"on": "output", "name": "secrets", "passed": False, "reason": "it has a secret", "then": "fail"}
    passed = {"on": "input", "name": "length", "passed": True, "reason": None, "then": "fail"}
    error = "Refused by the check 'secrets' on the output: it has a secret"
    root = task("r", "failed", error=error, checks=[passed, failed])
    said = explain("r", root, is_running=False, checks=WELL, last_message="", questions={}, waits={})
    assert f"Error: {error}" in said
    assert said[-2:] == [
        "Its check 'secrets' on the output did not pass: it has a secret; then: fail.",
        "1 check of it passed.",
    ]


def test_the_cache_is_explained() -> None:
    wait = {"kind": "call", "since": "noon", "until": None, "text": "for the same call of task x", "limit": None}
    taken = {"task_id": "x", "run_id": "y", "at": "ten"}
    root = task("r", "pending", task("a"), task("b", "completed", completed_at="noon", cached_from=taken), schemas=None)
    known: dict[str, Any] = {"is_running": True, "checks": WELL, "last_message": "", "questions": {}}
    assert explain("a", root, **known, waits={"a": wait})[-1] == (
        "It waits since noon for the same call of task x. It needs no worker meanwhile, and takes that result."
    )
    assert "It completed at noon with the result of task 'x', which the cache had since ten." in explain(
        "b", root, **known, waits={}
    )


@pytest.mark.parametrize(("of", "who"), [("q", "It"), ("b", "'Q' (q)"), ("r", "'Q' (q)")])
def test_what_a_task_asks_is_said_of_all_that_wait_for_it(of: str, who: str) -> None:
    root = task("r", "pending", task("q", "in_progress"), task("b", after=("q",)), schemas=None)
    said = explain(of, root, is_running=True, checks=WELL, last_message="", questions={"q": ASKED}, waits={})
    assert said[-2:] == [
        f"{who} asks: Publish it? (yes, not yet).",
        f"Answer it: {HERE} tasks answer q yes",
    ]
    assert not any("Cancel it" in line or "Find out why" in line for line in said)


def test_how_to_answer_fits_the_question() -> None:
    def said(**other: Any) -> str:
        asked = {"q": ASKED | other}
        return explain(
            "q", task("q", "in_progress"), is_running=True, checks=WELL, last_message="", questions=asked, waits={}
        )[-1]

    assert said(options=["not yet"]) == f"Answer it: {HERE} tasks answer q 'not yet'"
    assert said(options=None, expires_at="noon") == f"Answer it by noon: {HERE} tasks answer q 'YOUR ANSWER'"


def test_a_question_about_the_budget_is_found_at_a_task_that_has_not_started() -> None:
    limits = [{"measure": "tokens", "spent": 52, "allowed": 30, "text": "52 of 30 tokens"}]
    asks = {"budget": {"tokens": 30, "on_exceeded": "ask"}}
    root = task("r", "pending", task("a", "completed"), task("b", after=("a",)), params=asks, budget=limits)
    assert may_ask("b", root) == ["b"]
    assert may_ask("b", root | {"params": None}) == ["b"]
    question = {"text": "Spent 52 of 30 tokens.", "options": None, "expires_at": None}
    said = explain("b", root, is_running=True, checks=WELL, last_message="", questions={"b": question}, waits={})
    assert "Its run has spent 52 of 30 tokens." in said
    assert "It asks: Spent 52 of 30 tokens." in said
    assert not any("worker.max_tasks" in each for each in said)


def test_the_deaths_that_count_against_a_run_are_named_with_their_evidence() -> None:
    deaths = [
        {"at": "noon", "exit_code": -11, "was_executing": True},
        {"at": "one", "exit_code": 3, "was_executing": False},
        {"at": "two", "exit_code": -35, "was_executing": False},
    ]
    clear = {"is_suspected": False, "strikes": 0, "losses": 0, "host_losses": 0, "deaths": [], "is_waiting": False}
    assert list(deaths_of(clear)) == []
    waits = {"since": "noon", "is_waiting": True, "waiting": 2, "oldest": "dawn"}
    suspect = clear | {"is_suspected": True, "strikes": 4, "losses": 4, "host_losses": 1, "deaths": deaths} | waits
    assert list(deaths_of(suspect)) == [
        "Its run counts as the cause of 4 deaths of worker processes since it last made progress.",
        "At noon a worker process was killed by SIGSEGV while code of this run was executing.",
        "At one a worker process ended with exit code 3 that had this run for itself.",
        "At two a worker process was killed by signal 35 that had this run for itself.",
        "It is suspected since noon, and runs in a process of its own until a task of it has ended (worker.quarantine).",
        "It waits for such a process, as 2 suspected runs do, users in turn; the oldest of all is suspected since dawn.",
        "Its server or machine was lost 1 time while it ran, which does not count against it.",
    ]


def test_the_schedule_that_started_the_run_is_named() -> None:
    run = {"number": 2, "schedule_id": "s 1", "scheduled_for": "2026-11-27T06:00:00+00:00"}
    (said,) = started_by(run)
    assert "run 2" in said and "2026-11-27T06:00" in said and said.endswith("schedules get 's 1'")
    assert started_by(run | {"schedule_id": None}) == started_by(None) == []


def test_a_real_question_is_found_from_the_root(server: Server, cli: Cli) -> None:
    ask = {"id": "ask", "parent_id": "middle", "name": "Ask", "schemas": {"method": "approval_executor"}}
    ask |= {"inputs": {"question": "Publish the draft?", "options": ["yes", "no"]}}
    middle = {"id": "middle", "parent_id": "root", "name": "Middle"}
    ids = server.rpc("tasks.execute", {"tasks": tree(middle, ask)})["ids"]
    until(lambda: server.rpc("tasks.detail", {"task_id": ids["ask"]})["question"], seconds=60, what="the question")
    answer = f"Answer it: {HERE} tasks answer {ids['ask']} yes"
    assert cli("explain", ids["ask"]).out.splitlines()[1:] == ["It asks: Publish the draft? (yes, no).", answer]
    assert cli("explain", ids["root"]).out.splitlines()[-2:] == [
        f"'Ask' ({ids['ask']}) asks: Publish the draft? (yes, no).",
        answer,
    ]
    server.rpc("tasks.cancel", {"task_id": ids["root"]})


def test_a_completed_root_names_what_failed_below_it(server: Server, cli: Cli) -> None:
    below = [{**step("late"), "dependencies": ["early"]}, step("early", then="fail")]
    ids = server.rpc("tasks.execute", {"tasks": tree(*below), "wait": True})["ids"]
    assert cli("explain", ids["root"]).out.splitlines()[2:] == [
        f"Its descendant 'Step early' ({ids['early']}) has failed: It failed, as it was told to.",
        "1 descendant was not run: a dependency failed.",
        f"After you fix the cause, run the rest of the tree: {HERE} tasks run {ids['root']}",
    ]


def test_a_real_failure_is_followed_to_its_cause(server: Server, cli: Cli) -> None:
    below = [{**step("late"), "dependencies": ["early"]}, step("early", then="fail")]
    ids = server.rpc("tasks.execute", {"tasks": tree(*below), "wait": True})["ids"]
    said = cli("explain", ids["late"])
    assert said.code == 0
    assert "was not run" in said.out
    assert f"requires 'Step early' ({ids['early']}), which has failed" in said.out
    assert json.loads(cli("explain", ids["late"], "--json").out)[0].endswith("was not run.")


def test_a_refusal_says_what_to_type(server: Server, cli: Cli) -> None:
    done = server.rpc("tasks.execute", {"tasks": step("done", None), "wait": True})["task_id"]
    assert "Pass force: true (?force=true over REST, --force on the command line)" in cli("tasks", "delete", done).err
    stored = server.rpc("tasks.create", {"tasks": tree(step("a"))})
    for task_id in (stored["id"], stored["children"][0]["id"]):
        refused = cli("tasks", "watch", task_id)
        assert (refused.code, refused.out) == (3, "")
        assert f"Run it: {HERE} tasks run {stored['id']}\n" in refused.err
    assert "Run it" not in cli("tasks", "watch", "nowhere").err


def test_trees_in_which_something_failed_are_found_as_the_page_says(server: Server, cli: Cli) -> None:
    page = (ROOT / "docs/reference/cli.md").read_text()
    command = "aipartnerupflow tasks list --all --status failed | jq -r .root_task_id"
    assert command in page
    root = server.rpc("tasks.execute", {"tasks": tree(step("a", then="fail")), "wait": True})["task_id"]
    assert root in [task["root_task_id"] for task in cli(*shlex.split(command.partition(" | ")[0])[1:]).lines]
    [state] = cli("tasks", "status", root).lines
    assert (server.rpc("tasks.get", {"task_id": root})["status"], state["status"]) == ("completed", "failed")


def test_what_works_is_explained_and_a_stranger_is_not_found(server: Server, cli: Cli) -> None:
    root = server.rpc("tasks.execute", {"tasks": [step("slow", None, seconds=60, steps=60)]})["task_id"]
    until(lambda: server.rpc("tasks.get", {"task_id": root})["status"] == "in_progress", seconds=60, what="its start")
    said = cli("explain", root).out
    assert f"Cancel it: {HERE} tasks cancel {root}" in said
    server.rpc("tasks.cancel", {"task_id": root})
    assert cli("explain", "nothing-of-that-name").code == 3


def test_every_setting_is_shown_with_its_source_and_no_secret(cli: Cli, screen: Show) -> None:
    secrets = {
        "AIPARTNERUPFLOW_JWT_SECRET": "a-secret-of-the-tests-that-is-long-enough-0123456789",
        "AIPARTNERUPFLOW_DATABASE_URL": "postgresql://user:pa55word@localhost:5432/flow?sslkey=pa55word",
        "AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS": "pa55word-pa55word-pa55word-pa55word",
    }
    said = cli("config", "show", **secrets)
    found = {row["key"]: row for row in said.lines}
    assert found["auth.jwt_secret"] == {"key": "auth.jwt_secret", "value": "…", "source": "AIPARTNERUPFLOW_JWT_SECRET"}
    assert found["database.url"]["value"] == "postgresql://…@localhost:5432/flow"
    assert found["server.port"] == {"key": "server.port", "value": 8000, "source": "default"}
    table = screen("config", "show", **secrets).out
    assert "AIPARTNERUPFLOW_DATABASE_URL" in table
    for secret in ("pa55word", secrets["AIPARTNERUPFLOW_JWT_SECRET"]):
        assert secret not in said.out + table


def test_executors_are_listed(cli: Cli, screen: Show) -> None:
    found = {row["id"]: row for row in cli("executors").lines}
    assert (found["echo_executor"]["enabled"], found["command_executor"]["enabled"]) == (True, False)
    assert "echo_executor" in screen("executors").out


def test_the_dashboards_address_of_a_task_is_printed_and_answers(server: Server, cli: Cli) -> None:
    url = cli("open", "example-diamond", "--print").out.strip()
    assert url == f"{server.url}/ui/tasks/example-diamond"
    assert server.http.get(url).status_code == 200


def test_every_help_ends_with_an_example_of_that_command() -> None:
    assert EXAMPLES.keys() == COMMANDS.keys()
    for name, command in COMMANDS.items():
        words = shlex.split(EXAMPLES[name].partition(" > ")[0])
        assert words[: len(name.split())] == name.split()
        command.make_context(name, words[len(name.split()) :])
        assert EXAMPLES[name] in command.epilog


def test_the_shell_completes_ids(server: Server, tmp_path: Path) -> None:
    for task_id in ("completed-diamond", "completed-machine"):  # only the newest 100 are completed
        server.rpc("tasks.create", {"tasks": [{"id": task_id, "name": "Known by its id"}]})
    program = "import sys; sys.argv = ['aipartnerupflow']; from aipartnerupflow.cli import main; main()"
    asked = {
        "AIPARTNERUPFLOW_URL": server.url,
        "_AIPARTNERUPFLOW_COMPLETE": "complete_zsh",
        "_TYPER_COMPLETE_ARGS": "aipartnerupflow tasks get completed-dia",
    }

    def completed() -> str:
        """Empty if the server takes longer than a shell should wait, as on a busy machine."""
        printed = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=environment_of("", tmp_path) | asked,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return printed if "completed" in printed else ""

    found = until(completed, seconds=60, what="completed ids")
    assert "completed-diamond" in found
    assert "completed-machine" not in found
