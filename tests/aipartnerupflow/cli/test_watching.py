"""`run`, `tasks run` and `tasks watch` against a real server: events for programs, a live tree on a terminal, and what ends them."""

import json
import re
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from aipartnerupflow.client import Client
from aipartnerupflow.program import program
from tests.aipartnerupflow.conftest import Json, Said, command, step, tree
from tests.cutting import cutting
from tests.ports import free_port
from tests.servers import ROOT, Server, environment_of, new_database, running_server, until
from tests.terminal import Screen, at_the_keyboard

Cli = Callable[..., Said]
Show = Callable[..., Screen]
LOG = {"TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "0", "NO_COLOR": "1"}
"""Text, although there is no terminal."""
MOVING = tree(step("a", seconds=3, steps=6), step("b") | {"dependencies": ["a"]})
STEPS = tree(step("a", seconds=0.2, steps=2), step("b") | {"dependencies": ["a"]})
FAILS = tree(step("a", then="fail"), step("b") | {"dependencies": ["a"]})
SLOW = [step("slow", None, seconds=60)]


@pytest.fixture
def file(tmp_path: Path) -> Callable[[list[Json]], str]:
    def file(tasks: list[Json]) -> str:
        path = tmp_path / "tasks.json"
        path.write_text(json.dumps(tasks))
        return str(path)

    return file


@pytest.mark.parametrize(
    ("tasks", "code", "end"),
    [
        (STEPS, 0, "Run completed\n"),
        (FAILS, 1, "Step a (a): It failed, as it was told to.\nRun failed: 1 failed, 1 not run\n"),
    ],
)
def test_a_run_is_waited_for(screen: Show, tasks: list[Json], code: int, end: str) -> None:
    done = screen("run", "-", stdin=tasks)
    assert done.code == code
    assert re.sub(r"\(.+?\)", "(a)", done.out).endswith(end)


def test_where_nothing_can_move_a_watched_run_is_a_line_for_each_step(cli: Cli) -> None:
    done = cli("run", "-", "--watch", stdin=STEPS, **LOG)
    lines = done.out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines[:8]] == [
        "start      Step a",
        "progress   Step a  step 1 of 2",
        "progress   Step a  step 2 of 2",
        "completed  Step a",
        "start      Step b",
        "completed  Step b",
        "start      Root",
        "completed  Root",
    ]
    assert (lines[-1], done.code) == ("Run completed", 0)


@pytest.mark.parametrize(
    ("inputs", "answer", "commands"),
    [
        ({"options": ["yes", "no"]}, "yes", ["yes", "no"]),
        ({"options": list("abcd")}, "d", ["ANSWER, which is one of: a, b, c, d"]),
        ({}, "as you like", ["TEXT"]),
        ({"schema": {"properties": {"n": {"type": "number"}}}}, {"n": 5}, ["""'{"n": "…"}'"""]),
    ],
)
def test_a_question_comes_with_the_commands_that_answer_it(
    cli: Cli, client: Client, inputs: Json, answer: Any, commands: list[str]
) -> None:
    asking = {"name": "Ask", "schemas": {"method": "approval_executor"}, "inputs": {"question": "Which?", **inputs}}
    task_id = client.execute(asking)["task_id"]
    until(lambda: client.detail(task_id)["question"], seconds=60, what="the question")
    with ThreadPoolExecutor() as pool:
        watching = pool.submit(cli, "tasks", "watch", task_id, **LOG)
        piped = pool.submit(cli, "tasks", "watch", task_id)
        client.answer(task_id, answer)
    for lines in (watching.result().out.splitlines(), piped.result().err.splitlines()):
        place = lines.index("Ask asks: Which?")
        assert lines[place + 1 : place + 1 + len(commands)] == [
            f"  {program()} tasks answer {task_id} {each}" for each in commands
        ]
    assert all(line.startswith("{") for line in piped.result().out.splitlines())


@pytest.mark.parametrize(("words", "env"), [([], {}), (["--json"], {}), ([], LOG)])
def test_a_run_that_asks_does_not_wait_in_silence(
    cli: Cli, client: Client, words: list[str], env: dict[str, str]
) -> None:
    text = f"Which, {uuid4()}?"
    asking = step("ask", None) | {"schemas": {"method": "approval_executor"}, "inputs": {"question": text}}

    def ours() -> list[Any]:
        return [each for each in client.questions()["questions"] if each["text"] == text]

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(cli, "run", "-", *words, stdin=asking, **env)
        [question] = until(ours, seconds=60, what="the question")
        client.answer(question["task_id"], "this one")
    done = waiting.result()
    asked = [f"Step ask asks: {text}", f"  {program()} tasks answer {question['task_id']} TEXT"]
    assert (done.code, done.err.splitlines()) == (0, asked)
    assert "asks:" not in done.out


def test_the_commands_that_are_printed_call_the_server_that_was_named(cli: Cli, client: Client, server: Server) -> None:
    asking = {"name": "Ask", "schemas": {"method": "approval_executor"}, "inputs": {"question": "Which?"}}
    task_id = client.execute(asking)["task_id"]
    until(lambda: client.detail(task_id)["question"], seconds=60, what="the question")
    named = cli("explain", task_id, "--url", server.url, AIPARTNERUPFLOW_URL="http://127.0.0.1:1").out
    assert f"{program()} tasks answer {task_id} 'YOUR ANSWER' --url {server.url}" in " ".join(named.split())
    assert "--url" not in cli("explain", task_id).out


def test_tasks_of_the_same_name_are_told_apart(cli: Cli) -> None:
    done = cli(
        "run", "-", "--watch", stdin=tree(step("same-1") | {"name": "Same"}, step("same-2") | {"name": "Same"}), **LOG
    )
    assert {"Same (same-1)", "Same (same-2)"} <= set(re.findall(r"Same \(.+?\)", done.out))


def test_a_run_for_a_program_is_the_reply_with_the_final_tree(cli: Cli, client: Client) -> None:
    answer = cli("run", "-", "--json", stdin=STEPS).json
    assert (answer["success"], answer["status"], answer["ids"].keys()) == (True, "completed", {"root", "a", "b"})
    assert answer["task"] == client.tree(answer["root_task_id"])
    failed = cli("run", "-", "--json", stdin=FAILS)
    assert (failed.code, failed.json["success"], failed.json["status"], failed.err) == (1, False, "failed", "")


def test_a_run_in_a_pipe_ends_with_text_and_has_json_only_if_it_is_asked_for(cli: Cli, client: Client) -> None:
    ended = cli("run", "-", stdin=FAILS)
    assert (ended.code, ended.out.splitlines()[-1]) == (1, "Run failed: 1 failed, 1 not run")
    task_id = client.create(STEPS)["id"]
    assert cli("tasks", "run", task_id).out.endswith("Run completed\n")
    assert cli("run", "-", "--no-wait", stdin=STEPS).out.startswith("Started: ")


def test_a_watched_run_for_a_program_is_a_line_for_each_event(cli: Cli, client: Client) -> None:
    events = cli("run", "-", "--watch", stdin=STEPS).lines
    root_id = events[0]["root_task_id"]
    assert events == list(client.follow(root_id))
    assert cli("tasks", "watch", root_id, "--json").lines == events
    assert cli("tasks", "watch", root_id, "--after", "4").lines == events[4:]
    over = cli("tasks", "watch", root_id, "--after", str(len(events) + 1))
    assert (over.code, over.out) == (0, "")


def test_a_run_may_go_on_by_itself(cli: Cli, screen: Show) -> None:
    started = cli("run", "-", "--no-wait", "--json", stdin=STEPS).json
    assert started["status"] == "started"
    told = screen("run", "-", "--no-wait", stdin=STEPS)
    root_id = told.out.splitlines()[0].removeprefix("Started: ")
    assert told.out.splitlines()[1] == f"Watch it: {program()} tasks watch {root_id}"
    assert cli("tasks", "watch", root_id).code == 0


def test_a_stored_tree_runs_by_its_id(screen: Show, client: Client) -> None:
    root_id = client.create(STEPS)["id"]
    assert screen("tasks", "run", root_id).out.endswith("Run completed\n")
    assert client.get(root_id)["status"] == "completed"


def test_a_child_is_watched_with_its_tree(cli: Cli, client: Client) -> None:
    done = client.execute(STEPS, wait=True, wait_timeout_seconds=110)
    assert cli("tasks", "watch", done["ids"]["b"]).lines[-1]["task_id"] == done["root_task_id"]


@pytest.mark.parametrize("words", [["run", "-"], ["run", "-", "--watch"], ["run", "-", "--watch", "--json"]])
def test_time_is_up(cli: Cli, client: Client, words: list[str]) -> None:
    done = cli(*words, "--timeout", "0.5", stdin=SLOW)
    assert done.code == 5
    assert done.err.startswith("Timed out after 0.5 s. The run continues.\n")
    task_id = done.err.split()[-1]
    assert client.get(task_id)["status"] in ("pending", "in_progress")
    client.cancel(task_id)


def test_ctrl_c_leaves_the_run_alone(client: Client, environment: dict[str, str], file: Callable[..., str]) -> None:
    words = command("run", file(SLOW), "--watch")
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["type"] == "task_start"
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate()
    assert watching.returncode == 130
    assert err.startswith(b"Interrupted. The run continues.\n")
    task_id = err.split()[-1].decode()
    assert client.get(task_id)["status"] == "in_progress"
    client.cancel(task_id)


COLOUR = re.compile(r"\x1b\[[\d;]*3\d[\d;]*m")


def test_on_a_terminal_the_tree_moves(screen: Show) -> None:
    done = screen("run", "-", "--watch", stdin=MOVING)
    assert "\x1b[1A" in done.drawn  # the cursor goes back up to draw it again
    assert COLOUR.search(done.drawn)
    last = done.at_the_end
    assert re.search(r"✓ Root +━+ 100% +\d\.\d s", last)
    assert re.search(r"├── ✓ Step a +━+ 100%", last)
    assert "3 completed" in last
    assert last.endswith("Run completed\n")


def test_a_question_is_answered_below_the_tree(environment: dict[str, str], file: Callable[[list[Json]], str]) -> None:
    inputs = {"question": "Publish the report?", "options": ["yes", "no"]}
    tasks = [{"id": uuid4().hex, "name": "approval_executor", "inputs": inputs}]
    answers = {"Answer [yes/no]: _": "perhabs\x7f\x7fps", "must be one of the options 'yes', 'no'": "yes"}
    done = at_the_keyboard("run", file(tasks), "--watch", env=environment, answers=answers)
    assert done.code == 0, done.out + done.err
    assert "? approval_executor asks: Publish the report?" in done.out
    assert "tasks answer" not in done.out, "a command to copy, although the answer can be typed"
    assert done.at_the_end.endswith("Run completed\n")


def test_a_form_is_filled_in_below_the_tree_field_by_field(
    client: Client, environment: dict[str, str], file: Callable[[list[Json]], str]
) -> None:
    form = {
        "properties": {
            "amount": {"type": "number", "title": "Amount in EUR", "minimum": 0},
            "department": {"enum": ["sales", "support"]},
            "express": {"type": "boolean", "default": False},
            "note": {"type": "string", "maxLength": 5},
        },
        "required": ["amount", "department"],
    }
    task_id = uuid4().hex
    tasks = [{"id": task_id, "name": "approval_executor", "inputs": {"question": "Who pays?", "schema": form}}]
    answers = {
        "1/4 Amount in EUR [number]: _": "-1",
        "amount: the value is less than the minimum of 0.": "much",
        "amount: the value is not of type": "",
        "amount: is required.": "12.5",
        "2/4 department [sales/support]: _": "sale",
        "department: the value is not one of": "sales",
        "3/4 express [yes/no; empty: no]: _": "yes",
        "4/4 note [text; may be empty]: _": "too long",
        "note: the value is longer than 5": "",
    }
    done = at_the_keyboard("run", file(tasks), "--watch", env=environment, answers=answers)
    assert done.code == 0, done.out + done.err
    assert client.get(task_id)["result"].items() >= {"amount": 12.5, "department": "sales", "express": True}.items()
    assert "note" not in client.get(task_id)["result"]


def test_a_form_may_be_answered_with_json(environment: dict[str, str], file: Callable[[list[Json]], str]) -> None:
    form = {"properties": {"n": {"type": "number"}, "m": {"type": "number"}}, "required": ["n", "m"]}
    tasks = [{"id": uuid4().hex, "name": "approval_executor", "inputs": {"question": "Which?", "schema": form}}]
    answers = {"1/2 n [number]: _": '{"n": 1}', "answer.m": "2", "2/2 m [number]: _": "3"}
    done = at_the_keyboard("run", file(tasks), "--watch", env=environment, answers=answers)
    assert (done.code, '"m": 3' in done.out) == (0, True), done.out + done.err


def test_without_colour_there_is_none(screen: Show) -> None:
    assert not COLOUR.search(screen("run", "-", "--watch", stdin=STEPS, NO_COLOR="1").drawn)
    assert not COLOUR.search(screen("tasks", "list", NO_COLOR="1").drawn)
    assert COLOUR.search(screen("tasks", "list").drawn)


def test_json_on_a_terminal_is_json(screen: Show) -> None:
    assert json.loads(screen("tasks", "tree", "example-machine", "--json").drawn)["id"] == "example-machine"


def test_a_long_result_does_not_push_the_tree_away(screen: Show) -> None:
    long: list[Any] = [{"id": "long", "name": "echo_executor", "inputs": {f"line {n}": n for n in range(50)}}]
    drawn = screen("run", "-", stdin=long).out
    assert f"… 32 more lines: {program()} tasks get " in drawn
    assert "line 49" not in drawn


def test_a_watcher_survives_the_server(tmp_path: Path) -> None:
    """kill -9 while a command watches, another server on the same port and database: no event is missing or told twice."""
    port, gate = free_port(), tmp_path / "gate"
    slow = tree(step("a", seconds=2, steps=8), step("last", gate=str(gate)))
    environment = environment_of("", tmp_path) | {"AIPARTNERUPFLOW_URL": f"http://127.0.0.1:{port}"}
    with new_database() as database_url:
        with running_server(database_url, port=port, data_dir=tmp_path) as first:
            root_id = first.rpc("tasks.execute", {"tasks": slow})["root_task_id"]
            words = command("tasks", "watch", root_id, "--json")
            watching = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, bufsize=0)
            assert watching.stdout is not None
            seen = [watching.stdout.readline() for _ in range(3)]
            first.kill(*[process.pid for process in first.processes()])
        gate.touch()
        with running_server(database_url, port=port, data_dir=tmp_path) as second:
            rest, _ = watching.communicate(timeout=240)
            events = [json.loads(line) for line in [*seen, *rest.splitlines()]]
            assert events == second.finished(root_id)[:-1]
    assert (watching.returncode, events[-1]["type"]) == (0, "final")


def test_a_command_whose_connection_breaks_after_the_run_reports_how_the_run_ended(
    server: Server, environment: dict[str, str], file: Callable[..., str], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    words = command("run", file([step("a", None, gate=str(gate), then="fail")]), "--watch")
    with cutting(server.url, before=b'"run_status":"failed"') as proxy:
        environment |= {"AIPARTNERUPFLOW_URL": proxy.url}
        with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as watching:
            assert watching.stdout is not None
            assert json.loads(watching.stdout.readline())["type"] == "task_start"
            gate.touch()
            watching.communicate()
        assert (watching.returncode, proxy.cuts) == (1, 1)


@pytest.mark.parametrize("words", [["run", "-"], ["run", "-", "--watch"]])
def test_a_command_whose_connection_breaks_after_the_start_follows_the_run(
    cli: Cli, server: Server, words: list[str]
) -> None:
    with cutting(server.url, before=b'"run_status":') as proxy:
        assert cli(*words, stdin=FAILS, AIPARTNERUPFLOW_URL=proxy.url).code == 1
        assert proxy.cuts == 1


def map_over(count: int, *, failing: int) -> list[Json]:
    """A map, one of whose items fails."""
    items = [{"then": "fail" if number == failing else ""} for number in range(count)]
    each = {"id": "each", "name": "Each", "parent_id": "root", "params": {"for_each": {"items": items}}}
    return tree(each, step("part", "each", then="{{item.then}}", seconds=0.3, steps=1))


def test_tasks_that_are_added_while_a_tree_is_watched_are_shown(screen: Show) -> None:
    last = screen("run", "-", "--watch", stdin=map_over(3, failing=1)).at_the_end
    assert re.search(r"✗ Each .* 3 of 3 items, 1 failed", last)
    assert re.search(r"├── ✓ Step part \[0\] ", last)
    assert re.search(r"├── ✗ Step part \[1\] ", last)
    assert "Step part  " not in last


def test_a_task_that_was_not_run_is_told_from_its_cause(screen: Show, client: Client) -> None:
    below = [step("bad", then="fail"), step("late"), step("later"), step("apart")]
    below[1]["dependencies"], below[2]["dependencies"] = ["bad"], ["late"]
    last = screen("run", "-", "--watch", stdin=tree(*below)).at_the_end
    assert re.search(r"✗ Step bad ", last)
    assert re.search(r"├── – Step late ", last)
    assert re.search(r"├── – Step later ", last)
    assert re.search(r"├── ✓|└── ✓ Step apart", last)
    assert "Run failed: 1 failed, 2 not run" in last
    root_id = next(iter(client.list()))["root_task_id"]
    lines = screen("tasks", "tree", root_id)
    assert [line.strip("├└─ ")[0] for line in lines.out.splitlines()[:5]] == ["✗", "✗", "–", "–", "✓"]
    assert "1 failed, 2 not run" in lines.out + lines.err
    assert "5, 1 failed, 2 not run" in screen("tasks", "list", "--limit", "1").out


def test_of_many_items_only_the_failed_one_has_a_line(screen: Show, client: Client) -> None:
    root_id = client.execute(map_over(20, failing=7))["root_task_id"]
    last = screen("tasks", "watch", root_id).at_the_end
    assert re.search(r"✗ Each .* 20 of 20 items, 1 failed", last)
    assert set(re.findall(r"Step part \[\d+\]", last)) == {"Step part [7]"}
    assert "20 completed" in last  # 19 items and the root
    lines = screen("tasks", "tree", root_id).out.splitlines()
    assert [re.findall(r"└── ✗ Step part \[7\]", line) for line in lines if "Step part" in line] == [
        ["└── ✗ Step part [7]"]
    ]
