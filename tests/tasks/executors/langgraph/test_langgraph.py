"""Graphs: a real server, real workers, and graphs as users write them."""

import json
from pathlib import Path
from typing import Any

import pytest

from aipartnerupflow.executors import Reply
from tests.acceptance.test_faults import holder_of
from tests.lazy_modules import LazyModule
from tests.llm_site import Done, LlmSite
from tests.servers import until

graphs_for_tests = LazyModule("tests.graphs_for_tests")
questions = LazyModule("tasks.executors.langgraph.running")
memory = LazyModule("langgraph.checkpoint.memory")

Json = dict[str, Any]
EXECUTOR = "langgraph_executor"
PATIENCE_SECONDS = 60
pytestmark = pytest.mark.both_engines_nightly
THREADS = {"pool": "thread"}


class Graphs:
    def __init__(self, site: LlmSite, folder: Path) -> None:
        self.site = site
        self._folder = folder

    def start(self, graph: str, input: Any, *, params: Json | None = None, **inputs: Any) -> str:
        return self.site.start(EXECUTOR, {"graph": graph, "input": input, **inputs}, params=params or {})

    def run(self, graph: str, input: Any, *, params: Json | None = None, **inputs: Any) -> Done:
        return self.site.end_of(self.start(graph, input, params=params, **inputs))

    def error_of(self, graph: str, input: Any, **inputs: Any) -> str:
        return self.site.error_of(EXECUTOR, {"graph": graph, "input": input, **inputs})

    def answer(self, task_id: str, text: str, answer: Any) -> Json:
        """Answer the question with this text. Returns the question."""

        def question() -> Json | None:
            found = self.site.wait_for_question(task_id)
            return found if text in found["text"] else None

        found = until(question, seconds=PATIENCE_SECONDS, what=f"the question {text}")
        assert found is not None
        self.site.server.rpc("tasks.answer", {"task_id": task_id, "answer": answer})
        return found

    def open_gate(self) -> None:
        (self._folder / "gate").touch()

    @property
    def nodes(self) -> list[str]:
        """The nodes that ran, in order."""
        file = self._folder / "nodes"
        return file.read_text().splitlines() if file.exists() else []

    def wait_for(self, node: str, *, times: int = 1) -> None:
        until(lambda: self.nodes.count(node) >= times, seconds=PATIENCE_SECONDS, what=f"node {node}")

    def states(self, task_id: str) -> int:
        """How many values the task keeps."""
        count: int = self.site.server.query("SELECT COUNT(*) FROM tasks_taskstate WHERE task_id = %s", task_id)[0][0]
        return count


@pytest.fixture
def graphs(site: LlmSite, models_folder: Path) -> Graphs:
    for name in ("nodes", "gate"):
        (models_folder / name).unlink(missing_ok=True)
    return Graphs(site, models_folder)


@pytest.mark.parametrize("graph", ["builder", "compiled", "tests.graphs_for_tests:compiled"])
@pytest.mark.parametrize("params", [{}, THREADS])
def test_a_graph_runs_node_by_node(graphs: Graphs, graph: str, params: Json) -> None:
    done = graphs.run(graph, {"topic": "tea"}, params=params)
    assert (done.task["status"], done.task["error"]) == ("completed", None)
    assert done.task["result"] == {"topic": "tea", "lines": ["first: tea", "second: tea"]}
    assert done.logs == ["first completed", "second completed"]
    assert [message for _, message in done.steps] == ["first completed", "second completed"]
    assert sorted(fraction for fraction, _ in done.steps) == [fraction for fraction, _ in done.steps]
    assert graphs.states(done.task["id"]) == 0


@pytest.mark.parametrize("graph", ["factory", "async_factory"])
def test_a_function_makes_the_graph(graphs: Graphs, graph: str) -> None:
    assert graphs.run(graph, {"topic": "tea"}).task["result"]["lines"] == ["made: tea"]


def test_a_graph_of_functions_runs(graphs: Graphs) -> None:
    assert graphs.run("functional", [1, 2, 3]).task["result"] == 12


def test_a_graph_fans_out(graphs: Graphs) -> None:
    assert graphs.run("fan", {"topic": "a b c"}).task["result"]["lines"] == ["work: a", "work: b", "work: c"]


def test_a_graph_has_its_context(graphs: Graphs) -> None:
    assert graphs.run("greeting", {}, context={"language": "de"}).task["result"]["lines"] == ["Hallo"]
    assert "has no context_schema" in graphs.error_of("builder", {}, context={"language": "de"})


@pytest.mark.parametrize("graph", ["os:path", "tests.graphs_for_tests:inner", "bilder", "../x"])
def test_a_graph_that_the_operator_does_not_list_is_refused(graphs: Graphs, graph: str) -> None:
    error = graphs.site.refusal_of(EXECUTOR, inputs={"graph": graph, "input": {}})
    assert f"there is no graph '{graph}'" in error["message"], error
    assert ("Did you mean 'builder'" in error["message"]) == (graph == "bilder")


def test_a_graph_that_a_dependency_names_is_refused_too(graphs: Graphs) -> None:
    echo = {"id": "e", "name": "e", "schemas": {"method": "echo_executor"}, "inputs": {"graph": "os:path"}}
    run = {
        "id": "g",
        "name": "g",
        "schemas": {"method": EXECUTOR},
        "inputs": {"graph": "{{e.graph}}", "input": {}},
        "dependencies": [{"id": "e", "required": True}],
    }
    task_id = graphs.site.server.rpc("tasks.execute", {"tasks": [run, echo | {"parent_id": "g"}]})["root_task_id"]
    assert "there is no graph 'os:path'" in graphs.site.end_of(task_id).task["error"]


def test_a_graph_never_runs_on_the_loop(graphs: Graphs) -> None:
    error = graphs.site.refusal_of(EXECUTOR, inputs={"graph": "builder", "input": {}}, params={"pool": "loop"})
    assert "cannot run on the loop" in error["message"], error


def test_interrupts_are_questions(graphs: Graphs) -> None:
    task_id = graphs.start("asking", {"topic": "tea"})
    question = graphs.answer(task_id, "Which color?", "red")
    assert question["options"] == ["red", "blue"]
    graphs.answer(task_id, "Which size?", {"cm": 4})
    done = graphs.site.end_of(task_id)
    assert done.task["result"]["lines"] == ["first: tea", "red {'cm': 4}", "last: tea"]
    assert graphs.nodes == ["first", "asks", "asks", "asks", "last"]
    assert graphs.states(task_id) == 0


def test_interrupts_of_parallel_nodes_are_asked_one_by_one(graphs: Graphs) -> None:
    task_id = graphs.start("parallel", {})
    graphs.answer(task_id, "left?", 1)
    graphs.answer(task_id, "right?", 2)
    assert sorted(graphs.site.end_of(task_id).task["result"]["lines"]) == ["left=1", "right=2"]
    assert sorted(graphs.nodes) == ["left", "left", "right", "right"]


def test_interrupts_of_a_graph_in_a_graph_are_questions(graphs: Graphs) -> None:
    task_id = graphs.start("outer", {"topic": "tea"})
    graphs.answer(task_id, "Which color?", "blue")
    graphs.answer(task_id, "Which size?", "L")
    done = graphs.site.end_of(task_id)
    assert "blue L" in done.task["result"]["lines"]
    assert graphs.nodes == ["first", "inside", "asks", "asks", "asks", "last"]
    assert {"inner/inside completed", "inner/asks completed", "inner completed"} <= set(done.logs)


def test_a_breakpoint_is_a_question(graphs: Graphs) -> None:
    task_id = graphs.start("stops", {"topic": "tea"})
    question = graphs.answer(task_id, "before 'publish'", "continue")
    assert question["options"] == ["continue"]
    assert graphs.site.end_of(task_id).task["result"]["lines"] == ["first: tea", "publish: tea"]
    assert graphs.nodes == ["first", "publish"]


def test_an_interrupt_with_a_schema_is_a_form(graphs: Graphs) -> None:
    task_id = graphs.start("form", {})
    question = graphs.site.wait_for_question(task_id)
    assert question["schema"]["properties"].keys() == {"name", "age"}
    refused = graphs.site.server.call("tasks.answer", {"task_id": task_id, "answer": {"name": "Ada"}})
    assert refused["error"]["data"][0]["field"] == "answer.age"
    graphs.answer(task_id, "Who?", {"name": "Ada", "age": 36})
    assert graphs.site.end_of(task_id).task["result"]["lines"] == ["{'name': 'Ada', 'age': 36}"]


def test_an_answer_that_does_not_fit_is_asked_again(graphs: Graphs) -> None:
    task_id = graphs.start("team", {})
    graphs.answer(task_id, "Who is in?", {"names": 3})
    graphs.answer(task_id, "The last answer does not fit: Input should be a valid list. Who is in?", {"names": ["Ada"]})
    assert graphs.site.end_of(task_id).task["result"]["lines"] == ["Ada"]


@pytest.mark.parametrize("params", [{}, THREADS])
def test_a_worker_that_dies_repeats_no_node_that_ended(graphs: Graphs, params: Json) -> None:
    task_id = graphs.start("waits", {"topic": "tea"}, params=params)
    graphs.wait_for("gate")
    graphs.site.server.kill(holder_of(graphs.site.server, task_id))
    graphs.wait_for("gate", times=2)
    graphs.open_gate()
    done = graphs.site.end_of(task_id)
    assert (done.task["status"], done.task["result"]["lines"]) == ("completed", ["first: tea", "gate", "last: tea"])
    assert graphs.nodes == ["first", "gate", "gate", "last"]
    assert graphs.states(task_id) == 0


def test_a_worker_that_dies_after_an_answer_does_not_give_it_to_the_next_question(graphs: Graphs) -> None:
    task_id = graphs.start("asking", {"topic": "tea"})
    graphs.answer(task_id, "Which color?", "red")
    graphs.site.server.kill(*graphs.site.server.pids().workers)
    graphs.answer(task_id, "Which size?", "L")
    assert graphs.site.end_of(task_id).task["result"]["lines"] == ["first: tea", "red L", "last: tea"]


async def test_an_answer_counts_for_its_own_question_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may die after the graph has asked again, and before its question is stored."""
    monkeypatch.setenv(graphs_for_tests.NODES, str(tmp_path / "nodes"))
    graph: Any = graphs_for_tests.asking.copy({"checkpointer": memory.InMemorySaver()})
    config: Any = {"configurable": {"thread_id": "t"}}
    topic: Any = {"topic": "tea"}
    await graph.ainvoke(topic, config)
    first = questions.question_in(await graph.aget_state(config), None, is_stopped=True)
    assert first is not None
    reply = Reply(answer="red", by="alice", memo=json.loads(first.memo))
    before = await graph.aget_state(config)
    assert questions.question_in(before, reply, is_stopped=True) is None
    continued = questions.continuation(before, reply)
    assert continued is not None
    await graph.ainvoke(continued, config)
    after = await graph.aget_state(config)
    second = questions.question_in(after, reply, is_stopped=True)
    assert second is not None
    assert (second.question, questions.continuation(after, reply)) == ("Which size?", None)


def test_a_retry_continues_at_the_node_that_failed(graphs: Graphs) -> None:
    done = graphs.run("failing", {"topic": "tea"}, params={"retry": {"max_attempts": 2, "backoff_seconds": 0}})
    assert done.task["result"]["lines"] == ["first: tea", "at last"]
    assert graphs.nodes == ["first", "fails_once", "fails_once"]


def test_a_failure_names_the_node(graphs: Graphs) -> None:
    done = graphs.run("failing", {"topic": "tea"})
    assert done.task["error"] == "The graph failed: ValueError: not yet (in the node 'fails_once' of the graph)"
    assert graphs.states(done.task["id"]) == 0


@pytest.mark.parametrize("graph", ["waits", "waits_patiently"])
@pytest.mark.parametrize("params", [{}, THREADS])
def test_a_graph_is_cancelled(graphs: Graphs, graph: str, params: Json) -> None:
    task_id = graphs.start(graph, {"topic": "tea"}, params=params)
    graphs.wait_for({"waits": "gate"}.get(graph, "patient_gate"))
    graphs.site.server.rpc("tasks.cancel", {"task_ids": [task_id]})
    done = graphs.site.end_of(task_id)
    assert done.task["status"] == "cancelled"
    is_left = (graph, params) == ("waits", THREADS)  # a thread cannot be stopped
    assert done.task["result"] == (None if is_left else {"topic": "tea", "lines": ["first: tea"]})
    assert graphs.states(task_id) == 0
    graphs.open_gate()


def test_a_graph_that_waits_for_an_answer_is_cancelled(graphs: Graphs) -> None:
    task_id = graphs.start("asking", {"topic": "tea"})
    graphs.site.wait_for_question(task_id)
    assert graphs.states(task_id) > 0
    graphs.site.server.rpc("tasks.cancel", {"task_ids": [task_id]})
    assert graphs.site.end_of(task_id).task["status"] == "cancelled"
    assert graphs.states(task_id) == 0


def test_a_graph_times_out(graphs: Graphs) -> None:
    done = graphs.run("waits", {"topic": "tea"}, params={"timeout_seconds": 2})
    assert done.task["error"] == "Timed out after 2 s (params.timeout_seconds)."


def test_an_endless_graph_ends(graphs: Graphs) -> None:
    assert graphs.error_of("endless", {}, recursion_limit=7).startswith("The graph did not end in 7 steps.")


def test_a_state_is_bounded(graphs: Graphs) -> None:
    assert "more than the 65,536 that" in graphs.error_of("too_large", {"size": 100_000})
    assert graphs.run("too_large", {"size": 10_000}).task["status"] == "completed"


@pytest.mark.parametrize(
    ("graph", "error"),
    [
        ("no_json", "Type is not msgpack serializable"),
        ("no_graph", "is no graph of LangGraph, but dict"),
        ("lost", "The graph tests.graphs_for_tests:lost cannot be loaded"),
    ],
)
def test_what_is_wrong_with_a_graph_is_said(graphs: Graphs, graph: str, error: str) -> None:
    assert error in graphs.error_of(graph, {"topic": "tea"})
