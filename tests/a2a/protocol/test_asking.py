"""A2A, what waits for the client: questions of tasks, and keys that are missing."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from tests.a2a.a2a_client import ECHO, SETTINGS, Agent, Json, agent_of, data, message, states_of, text
from tests.a2a.schemas import check
from tests.fork_server import printed_by, run_command
from tests.receiver import receiving
from tests.servers import Server, environment_of, new_database, running_server, until

pytestmark = pytest.mark.both_engines_nightly

WAITS = "TASK_STATE_INPUT_REQUIRED"
DONE = "TASK_STATE_COMPLETED"
KEY = "sk-nobody-has-this-one-0123456789"
APPROVAL: Json = {"skill": "approval_executor", "inputs": {"question": "Publish it?", "options": ["yes", "no"]}}
TWO: Json = {
    "tasks": [
        {"id": "all", "name": "aggregate_results_executor", "dependencies": ["one", "two"]},
        *(
            {"id": name, "name": "approval_executor", "parent_id": "all", "inputs": {"question": f"{name}?"}}
            for name in ("one", "two")
        ),
    ]
}
#: Calls a model, but not before the test is over.
CALL: Json = {
    "tasks": [
        {
            "id": "call",
            "name": "llm_executor",
            "inputs": {"prompt": "Hello", "model": "openai/gpt-4o-mini"},
            "dependencies": ["wait"],
        },
        {"id": "wait", "name": "sleep_executor", "parent_id": "call", "inputs": {"seconds": 600}},
    ]
}


@pytest.fixture(scope="module")
def keyless_server() -> Iterator[Server]:
    """A server that has no key of its own."""
    settings = SETTINGS | {
        "AIPARTNERUPFLOW_LLM_ENVIRONMENT_KEYS": "false",
        "AIPARTNERUPFLOW_LLM_KEY_STORE": "database",
    }
    with new_database() as database, running_server(database, env=settings) as server:
        yield server


@pytest.fixture
def keyless(keyless_server: Server) -> Agent:
    """A new user there."""
    return agent_of(keyless_server.http, f"user-{uuid.uuid4()}")


def system(agent: Agent, method: str, params: Json) -> Any:
    return rpc(agent, "/system", method, params)


def rpc(agent: Agent, path: str, method: str, params: Json) -> Any:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    reply = agent.http.post(path, json=request, headers=agent.headers).json()
    assert "error" not in reply, reply
    return reply["result"]


# --- questions of tasks ---


def test_what_a_task_asks_is_the_status_and_an_answer_lets_it_go_on(alice: Agent) -> None:
    asking = alice.send(data(APPROVAL))
    check(asking, "Task")
    assert asking["status"]["state"] == WAITS
    question = asking["status"]["message"]
    assert question["parts"] == [{"text": "Publish it?\nOptions: yes, no"}]
    assert question["metadata"] == {"nodeId": asking["metadata"]["rootTaskId"], "options": ["yes", "no"]}
    done = alice.send(text("yes", taskId=asking["id"]))
    assert (done["id"], done["status"]["state"]) == (asking["id"], DONE)
    assert done["artifacts"][-1]["parts"] == [{"data": {"answer": "yes", "by": "alice"}}]
    assert [each["parts"][0] for each in done["history"]][1:] == [*question["parts"], {"text": "yes"}]


def test_after_an_answer_that_was_not_offered_the_question_is_asked_again(alice: Agent) -> None:
    asking = alice.send(data(APPROVAL))
    again = alice.send(text("perhaps", taskId=asking["id"]))
    check(again, "Task")
    assert (again["id"], again["status"]["state"]) == (asking["id"], WAITS)
    (part,) = again["status"]["message"]["parts"]
    question = asking["status"]["message"]["parts"][0]["text"]
    assert part["text"] == f"The answer must be one of the options 'yes', 'no'.\n{question}"
    assert again["status"]["message"]["metadata"] == asking["status"]["message"]["metadata"]
    assert alice.get(asking["id"]) == again
    (streamed,) = alice.streamed("SendStreamingMessage", {"message": data(None, taskId=asking["id"])})
    third = streamed["task"]
    assert third["status"]["message"]["parts"][0]["text"] == f"The answer must not be null.\n{question}"
    done = alice.send(text(" YES ", taskId=asking["id"]))
    assert done["artifacts"][-1]["parts"][0]["data"]["answer"] == "yes"
    said = [each["parts"][0].get("text") for each in done["history"]]
    again_texts = [each["status"]["message"]["parts"][0]["text"] for each in (again, third)]
    assert said == [None, question, "perhaps", again_texts[0], None, again_texts[1], " YES "]
    ids = [each["messageId"] for each in done["history"]]
    assert len(set(ids)) == len(ids)


FORM: Json = {
    "type": "object",
    "properties": {"amount": {"type": "number"}, "answer": {"type": "string", "default": "none"}},
    "required": ["amount"],
}


@pytest.mark.parametrize(
    "given",
    [
        data({"amount": 7, "answer": "so"}),
        text('{"amount": 7, "answer": "so"}'),
        message({"raw": "eyJhbW91bnQiOjcsImFuc3dlciI6InNvIn0=", "mediaType": "application/json"}),
    ],
)
def test_a_form_is_data_and_so_is_its_answer(alice: Agent, given: Json) -> None:
    asking = alice.send(data({"skill": "approval_executor", "inputs": {"question": "How much?", "schema": FORM}}))
    check(asking, "Task")
    question = asking["status"]["message"]
    said = "How much?\nAnswer with a JSON object: amount (number, required), answer (text)"
    assert question["parts"] == [{"text": said}, {"data": {"schema": FORM}}]
    again = alice.send(data({"amount": "much"}, taskId=asking["id"]))["status"]["message"]
    assert again["parts"] == [
        {"text": f'answer.amount: the value is not of type "number".\n{said}'},
        {"data": {"schema": FORM}},
    ]
    done = alice.send(given | {"taskId": asking["id"]})
    assert done["status"]["state"] == DONE
    assert done["artifacts"][-1]["parts"] == [{"data": {"amount": 7, "answer": "so"}}]


def test_an_owner_who_is_no_assignee_is_refused_and_the_question_stays(alice: Agent) -> None:
    asking = alice.send(data(APPROVAL | {"inputs": APPROVAL["inputs"] | {"assignees": ["bob"]}}))
    assert asking["status"]["state"] == WAITS
    refused = alice.post("SendMessage", {"message": text("yes", taskId=asking["id"])})
    assert refused.status_code == 403
    assert "Only its assignees may answer this question: bob." in refused.json()["error"]["message"]
    assert alice.get(asking["id"])["status"]["state"] == WAITS


def test_a_stream_brings_the_form(alice: Agent) -> None:
    *_, last = alice.streamed(
        "SendStreamingMessage",
        {"message": data({"skill": "approval_executor", "inputs": {"question": "?", "schema": FORM}})},
    )
    assert last["statusUpdate"]["status"]["state"] == WAITS
    assert last["statusUpdate"]["status"]["message"]["parts"][1] == {"data": {"schema": FORM}}


@pytest.mark.parametrize(("given", "answer"), [({"answer": 7}, 7), ({"why": "so"}, {"why": "so"}), ([1, 2], [1, 2])])
def test_an_answer_may_be_data(alice: Agent, given: Any, answer: Any) -> None:
    asking = alice.send(data({"skill": "approval_executor", "inputs": {"question": "What?"}}))
    done = alice.send(data(given, taskId=asking["id"]))
    assert done["artifacts"][-1]["parts"][0]["data"]["answer"] == answer


@pytest.mark.parametrize(
    ("parts", "answer"),
    [
        ([{"raw": "aGVsbG8=", "mediaType": "text/plain"}], "hello"),
        ([{"raw": "aGVsbG8="}, {"text": "there"}], "hello\nthere"),
        ([{"raw": "eyJhbnN3ZXIiOjd9", "mediaType": "application/json"}], 7),
        ([{"raw": "WzEsMl0=", "mediaType": "application/json; charset=utf-8"}], [1, 2]),
    ],
)
def test_an_answer_may_be_a_file(alice: Agent, parts: list[Json], answer: Any) -> None:
    asking = alice.send(data({"skill": "approval_executor", "inputs": {"question": "What?"}}))
    done = alice.send(message(*parts, taskId=asking["id"]))
    assert done["artifacts"][-1]["parts"][0]["data"]["answer"] == answer


@pytest.mark.parametrize(
    ("part", "code", "field"),
    [
        ({"raw": "aGk=", "mediaType": "application/x-unsupported"}, -32005, None),
        ({"url": "https://example.com/a.txt", "mediaType": "text/plain"}, -32005, None),
        ({"raw": "%", "mediaType": "text/plain"}, -32602, "message.parts[0].raw"),
    ],
)
def test_what_is_no_answer_is_refused_and_the_question_stays(
    alice: Agent, part: Json, code: int, field: str | None
) -> None:
    asking = alice.send(data({"skill": "approval_executor", "inputs": {"question": "What?"}}))
    error = alice.error("SendMessage", {"message": message(part, taskId=asking["id"])})
    named = [violation["field"] for violation in error["data"][0].get("fieldViolations", [])]
    assert (error["code"], named) == (code, [field] if field else [])
    assert alice.get(asking["id"]) == asking
    alice.call("CancelTask", {"id": asking["id"]})


@pytest.mark.parametrize(
    "part",
    [{"data": None}, {"data": {"answer": None}}, {"raw": "bnVsbA==", "mediaType": "application/json"}],
)
def test_null_is_no_answer(alice: Agent, part: Json) -> None:
    asking = alice.send(data({"skill": "approval_executor", "inputs": {"question": "What?"}}))
    again = alice.send(message(part, taskId=asking["id"]))
    assert again["status"]["message"]["parts"] == [{"text": "The answer must not be null.\nWhat?"}]
    done = alice.send(text("This.", taskId=asking["id"]))
    assert done["artifacts"][-1]["parts"][0]["data"]["answer"] == "This."


def test_with_several_questions_the_first_is_asked_first_and_each_can_be_named(alice: Agent) -> None:
    asking = alice.send(data(TWO))
    first = asking["status"]["message"]["metadata"]["nodeId"]
    nodes = {f"{name}?" for name in ("one", "two")}
    again = alice.send(text("A", taskId=asking["id"], metadata={"nodeId": first}))
    assert again["status"]["state"] == WAITS
    second = again["status"]["message"]
    assert {asking["status"]["message"]["parts"][0]["text"], second["parts"][0]["text"]} == nodes
    wrong = text("B", taskId=asking["id"], metadata={"nodeId": first})
    assert alice.error("SendMessage", {"message": wrong})["code"] == -32602
    done = alice.send(text("B", taskId=asking["id"], metadata={"nodeId": second["metadata"]["nodeId"]}))
    assert done["status"]["state"] == DONE
    assert {result["answer"] for result in done["artifacts"][-1]["parts"][0]["data"]["results"].values()} == {"A", "B"}


def test_a_stream_tells_the_question_and_a_subscription_goes_on_through_it(alice: Agent) -> None:
    results = alice.streamed("SendStreamingMessage", {"message": data(APPROVAL)})
    assert states_of(results) == ["SUBMITTED", "WORKING", "INPUT_REQUIRED"]
    for result in results:
        check(result, "StreamResponse")
    update = results[-1]["statusUpdate"]
    task = alice.get(update["taskId"])
    assert update["status"]["message"] == task["status"]["message"]
    with alice.stream("SubscribeToTask", {"id": task["id"]}) as rest:
        assert next(rest) == {"task": task}
        alice.start(text("no", taskId=task["id"]))
        assert states_of(list(rest))[-1] == "COMPLETED"


def test_a_question_can_be_answered_by_another_door_and_cancelled(alice: Agent) -> None:
    asking = alice.send(data(APPROVAL))
    reply = alice.http.post(
        "/tasks",
        json={
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tasks.answer",
            "params": {"task_id": asking["metadata"]["rootTaskId"], "answer": "yes"},
        },
        headers=alice.headers,
    ).json()
    assert "result" in reply, reply
    until(lambda: alice.state(asking["id"]) == DONE, seconds=60, what="the end of the run")
    other = alice.send(data(APPROVAL))
    assert alice.call("CancelTask", {"id": other["id"]})["status"]["state"] == "TASK_STATE_CANCELED"


def test_what_waits_for_an_answer_is_listed_as_such(alice: Agent) -> None:
    context = str(uuid.uuid4())
    asking = [alice.send(data(APPROVAL, contextId=context)), alice.send(text("what?", contextId=context))]
    alice.send(data(ECHO, contextId=context))
    found = alice.call("ListTasks", {"contextId": context, "status": WAITS})
    assert {task["id"] for task in found["tasks"]} == {task["id"] for task in asking}
    assert alice.call("ListTasks", {"contextId": context, "status": "TASK_STATE_WORKING"})["tasks"] == []
    alice.call("CancelTask", {"id": asking[0]["id"]})


def test_a_question_reaches_the_push_address(alice: Agent) -> None:
    with receiving() as receiver:
        asking = alice.send(data(APPROVAL), taskPushNotificationConfig={"url": receiver.url})
        receiver.until_count(2)
        states = [event["statusUpdate"]["status"]["state"] for event in receiver.events()]
        assert states[-1] == WAITS
        alice.call("CancelTask", {"id": asking["id"]})


# --- keys that are missing ---


@pytest.mark.requirement(
    "AUTH-INTASK-001", "AUTH-INTASK-002", "AUTH-INTASK-003", "AUTH-INTASK-004", "AUTH-INTASK-005", "AUTH-INTASK-006"
)
def test_a_missing_key_is_asked_for_and_the_task_goes_on_when_it_is_there(keyless: Agent) -> None:
    needed = keyless.send(data(CALL))
    check(needed, "Task")
    assert needed["status"]["state"] == "TASK_STATE_AUTH_REQUIRED"
    said = needed["status"]["message"]["parts"][0]["text"]
    assert "openai" in said and "config.llm_key.set" in said
    listed = keyless.call("ListTasks", {"status": "TASK_STATE_AUTH_REQUIRED"})["tasks"]
    assert [task["id"] for task in listed] == [needed["id"]]

    again = keyless.send(text("Is it there?", taskId=needed["id"]))
    assert (again["id"], again["status"]["state"]) == (needed["id"], "TASK_STATE_AUTH_REQUIRED")

    with keyless.stream("SubscribeToTask", {"id": needed["id"]}) as results:
        assert states_of([next(results)]) == ["AUTH_REQUIRED"]
        key = {"provider": "openai", "api_key": "sk-nobody-has-this-one-0123456789"}
        system(keyless, "config.llm_key.set", key)
        assert next(results)["statusUpdate"]["status"]["state"] == "TASK_STATE_WORKING"
        keyless.call("CancelTask", {"id": needed["id"]})
        assert states_of(list(results))[-1] == "CANCELED"
    assert key["api_key"] not in str(keyless.get(needed["id"]))


def by_command(server: Server, agent: Agent, user_id: str) -> None:
    token = agent.headers["Authorization"].removeprefix("Bearer ")
    words = ["keys", "set", "openai", "--key-stdin", "--url", server.url, "--token", token]
    done = run_command(*words, env=environment_beside(server), given=f"{KEY}\n")
    assert done.returncode == 0, done.stderr


def by_script(server: Server, agent: Agent, user_id: str) -> None:
    manager = "from aipartnerupflow.extensions.llm_key_config import LLMKeyConfigManager as Manager"
    script = f"{manager}; Manager().set_key({user_id!r}, {KEY!r}, 'openai')"
    printed_by(script, env=environment_beside(server))


def environment_beside(server: Server) -> dict[str, str]:
    """Of a command that shares the server's database and its secret."""
    secrets = {name: value for name, value in SETTINGS.items() if "SECRET" in name}
    return environment_of(server.database_url, server.data_dir) | secrets


@pytest.mark.parametrize("store", [by_command, by_script])
def test_a_key_from_another_door_lets_the_task_go_on(
    keyless_server: Server, keyless: Agent, store: Callable[[Server, Agent, str], None]
) -> None:
    needed = keyless.send(data(CALL))
    assert needed["status"]["state"] == "TASK_STATE_AUTH_REQUIRED"
    ((user_id,),) = keyless_server.query("SELECT user_id FROM tasks_run WHERE id = %s", needed["id"])
    store(keyless_server, keyless, user_id)
    until(lambda: keyless.state(needed["id"]) == "TASK_STATE_WORKING", seconds=60, what="the tree at work")
    keyless.call("CancelTask", {"id": needed["id"]})


def test_a_key_in_a_header_is_as_good_and_other_models_need_none(keyless: Agent) -> None:
    needed = keyless.send(data(CALL))
    params = {"message": text("Here it is.", taskId=needed["id"]), "configuration": {"returnImmediately": True}}
    header = {"X-LLM-API-KEY": "openai:sk-nobody-has-this-one-0123456789"}
    task = keyless.call("SendMessage", params, **header)["task"]
    assert (task["id"], task["status"]["state"]) == (needed["id"], "TASK_STATE_SUBMITTED")
    keyless.call("CancelTask", {"id": task["id"]})
    demo = {"skill": "llm_executor", "inputs": {"prompt": "Hello", "model": "demo/demo"}}
    assert keyless.send(data(demo))["status"]["state"] == DONE
    wrong = {
        "tasks": [
            {"name": "a", "schemas": {"method": "llm_executor"}, "params": {"model": "openai/x"}, "dependencies": ["b"]}
        ]
    }
    assert keyless.error("SendMessage", {"message": data(wrong)})["code"] == -32602


def test_a_text_that_lacks_a_key_runs_when_it_is_there(keyless: Agent) -> None:
    welcome = keyless.send(text("hello"))
    given = {"prompt": "Hello", "model": "openai/gpt-4o-mini"}
    needed = keyless.send(text(f"Language model: {orjson.dumps(given).decode()}", taskId=welcome["id"]))
    assert (needed["id"], needed["status"]["state"]) == (welcome["id"], "TASK_STATE_AUTH_REQUIRED")
    again = keyless.send(text("Is it there?", taskId=needed["id"]))
    assert again["status"]["state"] == "TASK_STATE_AUTH_REQUIRED"
    params = {"message": text("Here it is.", taskId=needed["id"]), "configuration": {"returnImmediately": True}}
    task = keyless.call("SendMessage", params, **{"X-LLM-API-KEY": f"openai:{KEY}"})["task"]
    assert task["status"]["state"] == "TASK_STATE_SUBMITTED"
    stored = rpc(keyless, "/tasks", "tasks.get", {"task_id": task["metadata"]["rootTaskId"]})
    assert stored["inputs"] == given
    keyless.post("CancelTask", {"id": task["id"]})


def created(agent: Agent, **headers: str) -> Json:
    """A stored tree that calls a model."""
    request = {"jsonrpc": "2.0", "id": 1, "method": "tasks.create", "params": {"tasks": CALL["tasks"]}}
    tree: Json = agent.http.post("/tasks", json=request, headers=agent.headers | headers).json()["result"]
    return tree


@pytest.mark.parametrize("way", [{"task_id": "{}"}, {"task_id": "{}", "copyExecution": True}, {"skill": "tree:{}"}])
def test_a_stored_tree_that_lacks_a_key_asks_for_it_too(keyless: Agent, way: Json) -> None:
    root_id = created(keyless)["id"]
    named = {name: value.format(root_id) if isinstance(value, str) else value for name, value in way.items()}
    needed = keyless.send(data(named))
    assert needed["status"]["state"] == "TASK_STATE_AUTH_REQUIRED"
    assert "openai" in needed["status"]["message"]["parts"][0]["text"]
    system(keyless, "config.llm_key.set", {"provider": "openai", "api_key": KEY})
    until(lambda: keyless.state(needed["id"]) == "TASK_STATE_WORKING", seconds=60, what="the tree at work")
    keyless.call("CancelTask", {"id": needed["id"]})


def test_of_a_stored_tree_only_what_is_to_run_needs_a_key(keyless: Agent) -> None:
    (child,) = created(keyless)["children"]
    part = keyless.start(data({"task_id": child["id"], "copy_execution": True}))
    assert part["status"]["state"] in ("TASK_STATE_SUBMITTED", "TASK_STATE_WORKING")
    keyless.call("CancelTask", {"id": part["id"]})


def test_a_key_that_came_with_the_stored_tree_counts(keyless: Agent) -> None:
    stored = created(keyless, **{"X-LLM-API-KEY": f"openai:{KEY}"})
    task = keyless.start(data({"task_id": stored["id"]}))
    assert task["status"]["state"] in ("TASK_STATE_SUBMITTED", "TASK_STATE_WORKING")
    keyless.call("CancelTask", {"id": task["id"]})


@pytest.mark.parametrize(
    "waits",
    [{"skill": "wait_executor", "inputs": {"seconds": 3600}}, {"skill": "event_executor", "inputs": {"event": "e"}}],
)
def test_a_task_that_waits_for_no_person_is_working(alice: Agent, waits: Json) -> None:
    task = alice.start(data(waits))
    of_task = {"task_id": task["metadata"]["rootTaskId"]}
    until(lambda: rpc(alice, "/tasks", "tasks.detail", of_task)["wait"], seconds=60, what="the wait")
    working = alice.get(task["id"])
    check(working, "Task")
    assert working["status"]["state"] == "TASK_STATE_WORKING"
    assert "message" not in working["status"]
    listed = alice.call("ListTasks", {"status": "TASK_STATE_INPUT_REQUIRED"})["tasks"]
    assert task["id"] not in [each["id"] for each in listed]
    assert alice.error("SendMessage", {"message": text("yes", taskId=task["id"])})["code"] == -32004
    assert alice.call("CancelTask", {"id": task["id"]})["status"]["state"] == "TASK_STATE_CANCELED"
