"""docs/how-to/schedules.md: its commands and its request make schedules, and these run."""

import json

import pytest

from tests.documents import text, texts
from tests.servers import ROOT, Json, new_database, running_server, until
from tests.shell import Shell, new_shell

PAGE = "docs/how-to/schedules.md"


@pytest.fixture
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return new_shell(tmp_path_factory)


def test_what_the_page_shows_works(shell: Shell) -> None:
    with new_database() as database, running_server(database) as server:
        request = json.loads(text(PAGE, "Run trees at times", "json"))
        greeting = server.rpc(request["method"], request["params"])
        (shell.folder / "hello.json").write_text((ROOT / "docs/examples/hello.json").read_text())
        said = shell.run(text(PAGE, "Run trees at times", "sh"), AIPARTNERUPFLOW_URL=server.url).splitlines()
        report, preview, *listed = map(json.loads, said)
        assert (report["name"], preview["in_words"]) == ("Morning report", report["in_words"])
        assert [each["local"][11:16] for each in preview["times"]] == ["06:00"] * 5
        assert [each["name"] for each in listed] == ["Morning report", "Greeting"]

        def done() -> list[Json]:
            runs: list[Json] = server.rpc("schedules.runs", {"schedule_id": greeting["id"]})["runs"]
            return [run for run in runs if run["status"] == "completed"]

        until(lambda: len(done()) == 2, seconds=60, what="two greetings")
        greeted = [server.rpc("tasks.get", {"task_id": run["task_id"]})["result"]["text"] for run in done()]
        assert greeted == ["Hello Ada", "Hello Ada"]
        assert server.rpc("schedules.get", {"id": greeting["id"]})["next_run_at"] is None

        for commands in texts(PAGE, "See what it did", "sh"):
            shell.run(commands.replace(" ID", f" {report['id']}"), AIPARTNERUPFLOW_URL=server.url)
        changed = server.rpc("schedules.get", {"id": report["id"]})
        assert (changed["cron"], changed["is_paused"], changed["run_count"]) == ("0 7 * * 1-5", False, 1)


def test_a_task_with_its_own_schedule_is_stored_and_triggered_from_elsewhere(shell: Shell) -> None:
    secret = "9fYb2Lm-trigger-Qz0xW4"
    env = {"AIPARTNERUPFLOW_AUTH_TRIGGER_SECRET": secret}
    with new_database() as database, running_server(database, env=env) as server:
        request = json.loads(text(PAGE, "As fields of a task", "json"))
        task = server.rpc(request["method"], request["params"])
        assert (task["schedule_enabled"], task["next_run_at"][11:16]) == (True, "09:00")
        named = {"task_id": task["id"]}
        for count, command in enumerate(texts(PAGE, "Run a task from another scheduler", "sh"), 1):
            typed = command.replace("TASK_ID", task["id"]).replace("http://localhost:8000", server.url)
            assert json.loads(shell.run(typed, TOKEN="none-is-needed", SECRET=secret))["status"] == "triggered"

            def is_done(count: int = count) -> bool:
                found = server.rpc("tasks.get", named)
                return (found["status"], found["run_count"]) == ("completed", count)

            until(is_done, seconds=60, what="the run")
