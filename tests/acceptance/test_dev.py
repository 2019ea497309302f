"""`aipartnerupflow dev FOLDER`: it finds the code of the folder, and takes up each change of it."""

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.ports import free_port
from tests.servers import COMMAND, Server, environment_of, new_database, running, until

FUNCTION: Final = """
from aipartnerupflow.executors import python_function


@python_function
def NAME() -> str:
    return "WORDS"
"""
HELD: Final = """
import asyncio
from pathlib import Path

from aipartnerupflow.executors import python_function


@python_function
async def held(gate: str) -> str:
    while not Path(gate).exists():
        await asyncio.sleep(0.02)
    return "WORDS"
"""
EXECUTOR: Final = """
from aipartnerupflow.executors import Executor


class Word(Executor):
    id = "word_executor"
    name = "Word"
    description = "Returns a word."

    async def execute(self, inputs, context):
        return "a word"
"""
GRAPH: Final = """
from typing import TypedDict

from langgraph.graph import START, StateGraph


class Order(TypedDict, total=False):
    product: str
    words: str


def confirm(order: Order) -> Order:
    return {"words": f"WORDS {order['product']}"}


_builder = StateGraph(Order).add_node("confirm", confirm).add_edge(START, "confirm")
purchase = _builder.compile()
"""

WORKFLOW: Final = """
from aipartnerupflow.workflows import ask, step, workflow


@step
def shout(text: str) -> str:
    return text.upper()


@workflow
async def greet(name: str) -> str:
    '''Greet a person.'''
    answer = await ask("QUESTION", options=["yes", "no"])
    return await shout(f"WORDS {name}: {answer}")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Developed:
    """A development server and its folder."""

    server: Server
    folder: Path

    def write(self, name: str, code: str, *, until_seen: Callable[[], Any]) -> None:
        """Write the file, and again if the change is not seen."""

        def is_seen() -> bool:
            (self.folder / name).write_text(code)
            with suppress(AssertionError):
                until(until_seen, seconds=15, what="the change")
                return True
            return False

        until(is_seen, seconds=60, what=f"what a change of {name} does")

    def runs(self, task: dict[str, Any]) -> Any:
        """The result of a task; None if the code has none such yet, or another version took over while it was awaited."""
        done = self.server.call("tasks.execute", {"tasks": [task], "wait": True})
        return done.get("result", {}).get("task", {}).get("result")

    def calls(self, function: str) -> Any:
        return self.runs({"name": "python_executor", "inputs": {"function": function}})

    @property
    def printed(self) -> str:
        return self.server.log.read_text()


@pytest.fixture(scope="module")
def developed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Developed]:
    folder = tmp_path_factory.mktemp("code")
    (folder / "start.py").write_text(FUNCTION.replace("NAME", "begin"))
    (folder / "json.py").write_text("")
    (folder / "httpx.py").write_text("")
    (folder / "tasks.py").write_text("")
    (folder / "my-flow.py").write_text("")
    (folder / "unready.py").write_text("import nothing_of_this_name\n")
    (folder / "test_start.py").write_text("raise AssertionError")
    port = free_port()
    with (
        new_database() as url,
        running([*COMMAND, "dev", str(folder), "--port", str(port)], port=port, database_url=url) as server,
    ):
        yield Developed(server=server, folder=folder)


def test_it_prints_its_links_what_it_found_and_why_files_are_left_out(developed: Developed) -> None:
    until(lambda: "unready.py:1" in developed.printed, seconds=60, what="the last line")
    assert f"Dashboard   {developed.server.url.replace('127.0.0.1', 'localhost')}/" in developed.printed
    assert "Found       functions: begin" in developed.printed
    assert "json.py: left out, because Python's standard library has a module 'json'" in developed.printed
    assert "httpx.py: left out, because an installed package is named 'httpx'" in developed.printed
    assert "tasks.py: left out, because 'tasks' is a package of aipartnerupflow's own server" in developed.printed
    assert "my-flow.py: left out, because its name is no name of a Python module" in developed.printed
    assert "unready.py:1: ModuleNotFoundError: No module named 'nothing_of_this_name'" in developed.printed
    assert "Traceback" not in developed.printed


@pytest.fixture
def mended(developed: Developed) -> Developed:
    """Without the file that stops every later version."""
    (developed.folder / "unready.py").unlink(missing_ok=True)
    return developed


def test_the_next_run_uses_the_code_of_a_file_that_was_changed(mended: Developed) -> None:
    first = FUNCTION.replace("NAME", "changing").replace("WORDS", "first")
    mended.write("changing.py", first, until_seen=lambda: mended.calls("changing") == "first")
    second = first.replace("first", "other")  # as long, and maybe in the same second
    mended.write("changing.py", second, until_seen=lambda: mended.calls("changing") == "other")
    until(lambda: "changing.py: live after" in mended.printed, seconds=60, what="the line about it")


def test_executors_and_graphs_are_found(mended: Developed) -> None:
    word = {"name": "word", "schemas": {"method": "word_executor"}}
    mended.write("word.py", EXECUTOR, until_seen=lambda: mended.runs(word) == "a word")
    task = {"name": "langgraph_executor", "inputs": {"graph": "purchase", "input": {"product": "tea"}}}
    for words in ("first", "other"):
        result = {"product": "tea", "words": f"{words} tea"}
        code = GRAPH.replace("WORDS", words)
        mended.write("graph.py", code, until_seen=partial(lambda expected: mended.runs(task) == expected, result))
    until(lambda: "executors: word_executor; graphs: purchase" in mended.printed, seconds=60, what="the line about it")


def test_a_run_in_hand_ends_with_the_code_that_it_began_with(mended: Developed, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    def started(task_id: str) -> None:
        inputs = {"function": "held", "arguments": {"gate": str(gate)}}
        mended.server.rpc("tasks.execute", {"tasks": [{"id": task_id, "name": "python_executor", "inputs": inputs}]})
        until(lambda: found(task_id)["status"] == "in_progress", seconds=60, what="its start")

    def found(task_id: str) -> Any:
        return mended.server.rpc("tasks.get", {"task_id": task_id})

    marked = HELD + FUNCTION.replace("NAME", "held_version")
    mended.write("held.py", marked.replace("WORDS", "old"), until_seen=lambda: mended.calls("held_version") == "old")
    started("begun-before")
    mended.write("held.py", marked.replace("WORDS", "new"), until_seen=lambda: mended.calls("held_version") == "new")
    started("begun-after")
    gate.touch()
    for task_id, result in (("begun-before", "old"), ("begun-after", "new")):
        until(partial(lambda ended: found(ended)["status"] == "completed", task_id), seconds=60, what="its end")
        assert (found(task_id)["result"], found(task_id)["attempt"]) == (result, 1)
    until(
        lambda: re.search(r"No run uses the code of [\d:]{8} any more", mended.printed),
        seconds=60,
        what="the last line",
    )


def test_a_workflow_in_hand_goes_on_with_the_code_of_the_file_if_that_does_the_same(mended: Developed) -> None:
    def found(task_id: str) -> Any:
        return mended.server.rpc("tasks.get", {"task_id": task_id})

    def needed(task_id: str) -> Any:
        [run] = mended.server.rpc("runs.list", {"task_id": task_id})["runs"]
        return mended.server.rpc("runs.get", {"run_id": run["id"]})["needs_code"]

    def asks() -> list[str]:
        return [each["task_id"] for each in mended.server.rpc("questions.list", {})["questions"]]

    def version(words: str, *, question: str = "Well?", of_file: str) -> str:
        code = WORKFLOW.replace("QUESTION", question).replace("WORDS", words)
        return code + FUNCTION.replace("NAME", "greeting_version").replace("WORDS", of_file)

    def write(of_file: str, code: str) -> None:
        mended.write("greeting.py", code, until_seen=lambda: mended.calls("greeting_version") == of_file)

    write("first", version("Hello", of_file="first"))
    until(lambda: "Found       workflows: greet" in mended.printed, seconds=60, what="the line about it")
    for task_id in ("goes-on", "differs"):
        task = {"id": task_id, "name": "Greet", "schemas": {"method": "workflow:greet"}, "inputs": {"name": "Ada"}}
        start = partial(mended.server.call, "tasks.execute", {"tasks": [task]})
        until(lambda: "result" in start(), seconds=60, what="the executor in the web process")  # noqa: B023
        until(partial(lambda asked: f"{asked}/1" in asks(), task_id), seconds=60, what="its question")
    second = version("Good day", of_file="second")
    write("second", second)
    mended.server.rpc("tasks.answer", {"task_id": "goes-on/1", "answer": "yes"})
    until(lambda: found("goes-on")["status"] == "completed", seconds=60, what="its end")
    assert found("goes-on")["result"] == "GOOD DAY ADA: YES"

    write("third", version("Good day", question="Really?", of_file="third"))
    mended.server.rpc("tasks.answer", {"task_id": "differs/1", "answer": "no"})
    until(lambda: needed("differs"), seconds=60, what="the difference")
    assert "the run called 1 ask Well?" in needed("differs")[0]["difference"]
    write("second", second)
    until(lambda: found("differs")["status"] == "completed", seconds=60, what="its end")
    assert (found("differs")["result"], needed("differs")) == ("GOOD DAY ADA: NO", [])

    impure = second.replace("answer = await", "import time; time.time(); answer = await")
    fault = "greeting.py:13: greet() calls time.time(), which is not the same in a replay: use now()"
    mended.write("greeting.py", impure, until_seen=lambda: fault in mended.printed)
    unserialisable = second.replace("(name: str)", "(name: type)")
    fault = "greeting.py:10: the parameter 'name' of greet() has no JSON form"
    mended.write("greeting.py", unserialisable, until_seen=lambda: fault in mended.printed)
    (mended.folder / "greeting.py").unlink()  # code with an error keeps changes of other files out


def test_code_with_an_error_keeps_the_code_before_until_it_is_mended(mended: Developed) -> None:
    right = FUNCTION.replace("NAME", "mending")
    mended.write("mending.py", right.replace("WORDS", "right"), until_seen=lambda: mended.calls("mending") == "right")
    for code, fault in (
        ("\ndef broken(:\n", "mending.py:2: SyntaxError: invalid syntax\n    def broken(:"),
        ("\n\nx = unknown\n", "mending.py:3: NameError: name 'unknown' is not defined\n    x = unknown"),
        (right + right.replace("mending", "begin"), "Two plug-ins have the function 'begin': "),
        ("import sys\nsys.exit('over')", "mending.py:2: SystemExit: over\n    sys.exit('over')"),
    ):
        mended.write("mending.py", code, until_seen=partial(lambda expected: expected in mended.printed, fault))
        assert mended.calls("mending") == "right"
    mended.write("mending.py", right.replace("WORDS", "again"), until_seen=lambda: mended.calls("mending") == "again")
    assert "Traceback" not in mended.printed


@pytest.mark.parametrize(("folder", "message"), [("none", "none is not there"), ("file", "file is no folder")])
def test_a_folder_that_is_none_is_refused(tmp_path: Path, folder: str, message: str) -> None:
    (tmp_path / "file").touch()
    command = [*COMMAND, "dev", str(tmp_path / folder)]
    done = subprocess.run(command, env=environment_of("", tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
