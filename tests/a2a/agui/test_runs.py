"""Runs over AG-UI: texts, trees and flows, their events and their state."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.a2a.agui.front_end import FrontEnd, question, said, state_after, task, text_in, tree, types
from tests.servers import until

pytestmark = pytest.mark.both_engines_nightly


def test_a_text_is_answered_by_the_default_executor(alice: FrontEnd) -> None:
    events = alice.run(said("hello"), threadId="t-text", runId="r-text")
    assert types(events)[:2] == ["RUN_STARTED", "STATE_SNAPSHOT"]
    assert events[0] == {"type": "RUN_STARTED", "threadId": "t-text", "runId": "r-text", "protocolVersion": "1.0"}
    end = events[-1]
    assert (end["type"], end["outcome"]) == ("RUN_FINISHED", {"type": "success"})
    assert text_in(events).strip() == end["result"]["content"]
    assert text_in(events).strip().endswith("You asked: hello")
    assert {"provider": "demo", "model": "demo"}.items() <= end["usage"][0].items()
    assert end["usage"][0]["inputTokens"] == 1
    assert state_after(events)["run"] == events[1]["snapshot"]["run"] | {"status": "completed", "progress": 1.0}


def test_the_thread_is_the_context_of_a2a(alice: FrontEnd) -> None:
    thread = f"thread-{uuid4()}"
    run_id = alice.run(said("hello"), threadId=thread)[1]["snapshot"]["run"]["run_id"]
    (known,) = alice.rpc("ListTasks", {"contextId": thread, "historyLength": 10}, path="/")["tasks"]
    assert (known["id"], known["history"][0]["parts"]) == (run_id, [{"text": "hello"}])


def test_a_tree_is_steps_subagents_and_a_state(alice: FrontEnd) -> None:
    root = task("root", None)
    slow = task("slow", "sleep_executor", parent_id=root["id"], inputs={"seconds": 5, "steps": 2})
    twin = task("slow", "sleep_executor", parent_id=root["id"], inputs={"seconds": 5, "steps": 2})
    talks = task("talks", "llm_executor", parent_id=root["id"], inputs={"prompt": "hi", "model": "demo/demo"})
    events = alice.run(**tree(root, slow, twin, talks))
    state = state_after(events)
    assert state["run"]["status"] == "completed"
    assert [(each["name"], each["status"], each["progress"]) for each in state["tasks"]] == [
        (name, "completed", 1.0) for name in ("root", "slow", "slow", "talks")
    ]
    assert {each["status"] for each in events[1]["snapshot"]["tasks"]} == {"pending"}
    steps = [event["stepName"] for event in events if event["type"] == "STEP_STARTED"]
    assert len(set(steps)) == 3
    assert sorted(steps) == sorted(event["stepName"] for event in events if event["type"] == "STEP_FINISHED")
    assert text_in(events, subagent=talks["id"]).strip().endswith("You asked: hi")
    assert text_in(events) == ""
    subagent = [event for event in events if event["type"].startswith("SUBAGENT")]
    assert types(subagent) == ["SUBAGENT_STARTED", "SUBAGENT_FINISHED"]
    assert events[-1]["outcome"] == {"type": "success"}


def test_a_tree_that_grows_grows_in_the_state(alice: FrontEnd) -> None:
    root = task("root", None, params={"for_each": {"items": ["a", "b", "c"]}})
    part = task("part", "echo_executor", parent_id=root["id"], inputs={"say": "{{item}}"})
    state = state_after(alice.run(**tree(root, part)))
    assert len(state["tasks"]) == 5
    assert len({each["id"] for each in state["tasks"]}) == 5
    assert {each["status"] for each in state["tasks"]} <= {"completed", "skipped"}


def test_a_flow_runs_with_inputs(alice: FrontEnd) -> None:
    flow = {
        "name": "agui-greet",
        "tasks": [task("greet", "echo_executor", inputs={"say": "{{run.inputs.who}}"})],
        "inputs_schema": {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]},
    }
    alice.rpc("flows.save", flow)
    tags = [f"tag-{uuid4()}"]
    events = alice.run(forwardedProps={"flow": "agui-greet", "inputs": {"who": "Ada"}, "tags": tags})
    (tagged,) = alice.rpc("runs.list", {"tag": tags[0]})["runs"]
    assert tagged["flow"]["name"] == "agui-greet"
    assert events[-1]["result"] == {"say": "Ada"}
    error = alice.refused(forwardedProps={"flow": "agui-greet", "inputs": {}})
    assert (error["code"], error["data"][0]["field"]) == ("invalid_params", "forwardedProps.inputs.who")


def test_a_run_that_fails_ends_with_an_error(alice: FrontEnd) -> None:
    root = task("root", None)
    bad = task("bad", "scripted_executor", parent_id=root["id"], inputs={"then": "fail"})
    events = alice.run(**tree(root, bad))
    end = events[-1]
    assert (end["type"], end["code"]) == ("RUN_ERROR", "failed")
    assert end["message"].startswith("Task 'bad' failed: ")
    failed = state_after(events)["tasks"][1]
    assert failed["status"] == "failed"
    assert failed["error"] in end["message"]
    assert types(events).count("STEP_STARTED") == types(events).count("STEP_FINISHED")


@pytest.mark.parametrize(("version", "outcome"), [("1.0", {"type": "cancelled"}), ("0.9", None), (None, None)])
def test_a_cancelled_run_says_so(alice: FrontEnd, version: str | None, outcome: Any) -> None:
    """Clients before 1.0 know no such outcome and refuse the event. They read the status in the state."""
    long = tree(task("long", "sleep_executor", inputs={"seconds": 600}))
    with alice.stream(**long, protocolVersion=version) as stream:
        seen = [next(stream), next(stream)]
        run = seen[1]["snapshot"]["run"]
        next(event for event in stream if event["type"] == "STEP_STARTED")
        alice.rpc("tasks.cancel", {"task_ids": [run["task_id"]]})
        rest = list(stream)
    assert seen[0].get("protocolVersion") == ("1.0" if version == "1.0" else None)
    assert (rest[-1]["type"], rest[-1].get("outcome")) == ("RUN_FINISHED", outcome)
    assert state_after([*seen, *rest])["run"]["status"] == "cancelled"


def test_a_question_is_an_interrupt_and_its_answer_a_resume(alice: FrontEnd) -> None:
    root = task("root", None)
    ask = question(options=["yes", "no"]) | {"parent_id": root["id"]}
    thread = f"thread-{uuid4()}"
    events = alice.run(**tree(root, ask), threadId=thread)
    (interrupt,) = events[-1]["outcome"]["interrupts"]
    assert types(events).count("STEP_STARTED") == types(events).count("STEP_FINISHED") == 1
    assert (interrupt["reason"], interrupt["message"]) == ("input_required", "Publish?")
    assert interrupt["responseSchema"]["properties"]["answer"]["enum"] == ["yes", "no"]
    wrong = {"interruptId": interrupt["id"], "status": "resolved", "payload": "maybe"}
    error = alice.refused(threadId=thread, resume=[wrong])
    assert error["data"][0]["field"] == "resume[0].payload: answer"
    right = {"interruptId": interrupt["id"], "status": "resolved", "payload": {"answer": "yes", "comment": "do"}}
    resumed = {"threadId": thread, "runId": f"run-{uuid4()}", "resume": [right]}
    events = alice.run(**resumed)
    assert (events[-1]["type"], events[-1]["outcome"]) == ("RUN_FINISHED", {"type": "success"})
    assert state_after(events)["tasks"][1]["status"] == "completed"
    answered = alice.rpc("tasks.get", {"task_id": ask["id"]})["result"]
    assert (answered["answer"], answered["comment"], answered["by"]) == ("yes", "do", "alice")
    assert alice.run(**resumed)[-1] == events[-1]
    assert alice.refused(threadId=thread, resume=[right])["code"] == "status_conflict"


def test_a_question_that_is_dismissed_cancels_its_task(alice: FrontEnd) -> None:
    thread = f"thread-{uuid4()}"
    (interrupt,) = alice.run(**tree(question()), threadId=thread)[-1]["outcome"]["interrupts"]
    events = alice.run(threadId=thread, resume=[{"interruptId": interrupt["id"], "status": "cancelled"}])
    assert events[-1]["outcome"] == {"type": "cancelled"}


def test_the_same_run_id_is_the_same_run(alice: FrontEnd) -> None:
    request = {"threadId": f"thread-{uuid4()}", "runId": "once"}
    message = said("hello")
    first = alice.run(message, **request)
    again = alice.run(message, {"id": "a", "role": "assistant", "content": "This is"}, state={"run": 1}, **request)
    assert again == first
    error = alice.refused(said("hello"), **request)
    assert (error["code"], error["data"][0]["field"]) == ("invalid_params", "runId")
    assert alice.run(said("hello"), threadId=f"thread-{uuid4()}", runId="once")[1] != first[1]


def test_a_run_goes_on_when_its_stream_is_closed(alice: FrontEnd, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    waits = task("waits", "scripted_executor", inputs={"gate": str(gate)})
    request = {"threadId": f"thread-{uuid4()}", "runId": "closed"} | tree(waits)
    with alice.stream(**request) as stream:
        next(event for event in stream if event["type"] == "STEP_STARTED")
    gate.touch()
    status = until(
        lambda: (found := alice.rpc("tasks.get", {"task_id": waits["id"]})["status"]) == "completed" and found,
        seconds=60,
        what="the end of the run",
    )
    assert status == "completed"
    assert alice.run(**request)[-1]["outcome"] == {"type": "success"}


def test_the_state_of_the_front_end_and_unknown_fields_are_ignored(alice: FrontEnd) -> None:
    message = said("hello") | {"name": "Ada", "metadata": {"a": None}}
    events = alice.run(message, state={"any": [1]}, context=[], tools=[], forwardedProps={}, parentRunId="p")
    assert events[0]["parentRunId"] == "p"
    assert events[-1]["type"] == "RUN_FINISHED"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "messages"),
        ({"forwardedProps": {"task": []}}, "forwardedProps.task"),
        ({"forwardedProps": {"inputs": {}}}, "forwardedProps.inputs"),
        ({"forwardedProps": {"flow": "a", "tasks": []}}, "forwardedProps.tasks"),
        ({"tools": [{"name": "clock", "description": ""}], **tree(task("a", "echo_executor"))}, "tools"),
        ({"context": [{"description": "a", "value": "b"}], **tree(task("a", "echo_executor"))}, "context"),
        (
            {"resume": [{"interruptId": "a", "status": "cancelled"}], **tree(task("a", "echo_executor"))},
            "forwardedProps",
        ),
        ({"resume": [{"interruptId": "nothing", "status": "cancelled"}]}, "resume[0].interruptId"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(alice: FrontEnd, given: dict[str, object], field: str) -> None:
    error = alice.refused(**given)
    assert (error["code"], error["data"][0]["field"]) == ("invalid_params", field)
