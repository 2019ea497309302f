"""A2A 1.0, core operations: send, get, list, cancel; contexts, history, capabilities."""

import uuid
from itertools import pairwise
from typing import Any

import pytest

from a2a.protocol.serialize import ALL_STATES
from tasks.rules.a2a_versions import TERMINAL
from tests.a2a.a2a_client import BRIEF, ECHO, FAILING, SLOW, TREE, Agent, Json, agent_of, data, message, text
from tests.servers import Server

pytestmark = pytest.mark.both_engines_nightly


@pytest.fixture
def other_context() -> str:
    return f"context-{uuid.uuid4()}"


@pytest.mark.both_engines
@pytest.mark.requirement("CORE-SEND-001")
def test_a_message_is_answered_with_a_task(alice: Agent) -> None:
    result = alice.call("SendMessage", {"message": data(ECHO)})
    assert result.keys() == {"task"}
    assert result["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


def test_a_tree_runs_and_shows_each_result_and_last_that_of_the_whole(alice: Agent) -> None:
    task = alice.send(data(TREE))
    names = [artifact["name"] for artifact in task["artifacts"]]
    assert names == ["aggregate_results_executor", "echo_executor", "echo_executor", "result"]
    assert task["artifacts"][0]["parts"] == task["artifacts"][-1]["parts"]
    assert task["artifacts"][1]["parts"] == [{"data": {"side": "left"}}]
    counted = {"runNumber": 1, "progress": 1.0, "taskCount": 3, "completedCount": 3}
    assert task["metadata"] | counted == task["metadata"]


@pytest.mark.parametrize(
    "given",
    [
        data(ECHO),
        data({"say": "hello"}, metadata={"skillId": "echo_executor"}),
        data({"tasks": {"name": "echo_executor", "inputs": {"say": "hello"}}}),
        message({"text": "say it"}, {"data": ECHO}),
        message(
            {
                "raw": "eyJza2lsbCI6ImVjaG9fZXhlY3V0b3IiLCJpbnB1dHMiOnsic2F5IjoiaGVsbG8ifX0=",
                "mediaType": "application/json",
            }
        ),
    ],
    ids=["skill", "skill in metadata", "tree", "text beside", "file"],
)
def test_there_are_several_ways_to_name_what_shall_run(alice: Agent, given: Json) -> None:
    task = alice.send(given)
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert task["artifacts"][-1]["parts"][0]["data"]["say"] == "hello"


@pytest.mark.both_engines
def test_a_stored_tree_runs_again_as_another_task_and_the_first_one_stays(alice: Agent, agent_server: Server) -> None:
    first = alice.send(data({"skill": "scripted_executor", "inputs": {"fails_until_attempt": 9}}))
    assert first["status"]["state"] == "TASK_STATE_FAILED"
    root_id = first["metadata"]["rootTaskId"]
    second = alice.send(data({"task_id": root_id}))
    assert second["id"] != first["id"]
    assert second["metadata"]["runNumber"] == 2
    assert alice.get(first["id"]) == first
    assert alice.get(root_id)["id"] == second["id"]


def test_the_metadata_of_a_message_gives_the_run_tags(alice: Agent) -> None:
    tag = f"tag-{uuid.uuid4()}"
    task = alice.send(data(ECHO, metadata={"tags": [tag]}))
    request = {"jsonrpc": "2.0", "id": 1, "method": "runs.list", "params": {"tag": tag}}
    runs = alice.http.post("/tasks", json=request, headers=alice.headers).json()["result"]["runs"]
    assert [run["id"] for run in runs] == [task["id"]]
    for wrong in ("nightly", [1], ["two words"]):
        assert "tags" in str(alice.error("SendMessage", {"message": data(ECHO, metadata={"tags": wrong})}))


def test_what_failed_says_why_and_where(alice: Agent) -> None:
    task = alice.send(data(FAILING))
    assert task["status"]["state"] == "TASK_STATE_FAILED"
    said = task["status"]["message"]
    assert said["role"] == "ROLE_AGENT"
    assert said["parts"][0]["text"]
    assert said["metadata"]["failedNodeIds"] == [task["metadata"]["rootTaskId"]]


def test_a_task_refers_to_the_results_of_earlier_ones(alice: Agent) -> None:
    first = alice.send(data(ECHO))
    tree = {
        "tasks": [
            {"id": "reads", "name": "aggregate_results_executor", "dependencies": ["has"]},
            {"id": "has", "name": "echo_executor", "parent_id": "reads", "dependencies": [first["id"]]},
        ]
    }
    second = alice.send(data(tree, referenceTaskIds=[first["id"]]))
    assert second["artifacts"][1]["parts"] == [{"data": {first["id"]: {"say": "hello"}}}]
    single = alice.send(data({"skill": "echo_executor"}, referenceTaskIds=[first["id"]]))
    assert single["artifacts"][-1]["parts"] == [{"data": {first["id"]: {"say": "hello"}}}]


def test_a_result_of_parts_is_shown_as_these_parts(alice: Agent) -> None:
    parts = [{"raw": "aGk=", "filename": "hi.txt", "mediaType": "text/plain"}, {"text": "hi"}]
    task = alice.send(data({"skill": "echo_executor", "inputs": {"parts": parts}}))
    assert task["artifacts"][-1]["parts"] == parts


@pytest.mark.parametrize(
    "part",
    [
        {"raw": "%"},
        {"raw": "aGk"},
        {"raw": 7},
        {"url": 7},
        {"text": None},
        {"text": "hi", "filename": 7},
        {"text": "hi", "mediaType": ["text/plain"]},
        {"text": "hi", "metadata": "none"},
        {"text": "hi", "data": 7},
        {"text": "hi", "colour": "red"},
    ],
)
def test_a_result_of_malformed_parts_is_data_like_any_other(alice: Agent, part: Json) -> None:
    parts = [{"text": "well"}, part]
    task = alice.send(data({"skill": "echo_executor", "inputs": {"parts": parts}}))
    assert task["artifacts"][-1]["parts"] == [{"data": {"parts": parts}}]


def test_each_artifact_has_an_id_of_its_own(alice: Agent) -> None:
    tree = {
        "tasks": [
            {"id": "result", "name": "echo_executor", "dependencies": ["_result"], "inputs": {"a": 1}},
            {"id": "_result", "name": "echo_executor", "parent_id": "result", "inputs": {"a": 2}},
        ]
    }
    stream = alice.streamed("SendStreamingMessage", {"message": data(tree)})
    streamed = [each["artifactUpdate"]["artifact"] for each in stream if "artifactUpdate" in each]
    shown = alice.get(stream[0]["task"]["id"])["artifacts"]
    assert len({artifact["artifactId"] for artifact in shown}) == 3
    assert shown[-1]["artifactId"] == "result"
    by_id = {artifact["artifactId"]: artifact for artifact in shown}
    assert {artifact["artifactId"]: artifact for artifact in streamed} == by_id


def test_the_stream_of_a_tree_that_grows_has_what_is_added(alice: Agent) -> None:
    tree = {
        "tasks": [
            {"id": "root", "name": "Root"},
            {"id": "each", "name": "Each", "parent_id": "root", "params": {"for_each": {"items": [1, 2, 3]}}},
            {"id": "part", "name": "Part", "parent_id": "each", "schemas": {"method": "echo_executor"}},
            {"id": "poll", "name": "echo_executor", "parent_id": "root", "inputs": {"n": "{{round}}"}}
            | {"params": {"repeat": {"until": {"path": "/n", "op": "ge", "value": 3}}}},
        ]
    }
    task, *updates = alice.streamed("SendStreamingMessage", {"message": data(tree)})
    ids = task["task"]["metadata"].get("ids", {})
    each, part, poll = (ids.get(name, name) for name in ("each", "part", "poll"))
    statuses = [update["statusUpdate"] for update in updates if "statusUpdate" in update]
    grown = [each for each in statuses if each["metadata"]["event"] == "task_spawned"]
    assert sorted(status["metadata"]["nodeId"] for status in grown) == sorted([each, poll, poll, poll])
    assert {status["status"]["state"] for status in grown} == {"TASK_STATE_WORKING"}
    assert all("added below" in status["status"]["message"]["parts"][0]["text"] for status in grown)
    artifacts = {update["artifactUpdate"]["artifact"]["artifactId"] for update in updates if "artifactUpdate" in update}
    assert {f"{part}[{number}]" for number in range(3)} | {f"{poll}#{number}" for number in (1, 2, 3)} <= artifacts


def test_a_whole_number_that_came_as_a_float_is_one(alice: Agent) -> None:
    tree = {"tasks": [{"name": "echo_executor", "priority": 1.0, "inputs": {"n": 7.0, "half": 0.5}}]}
    task = alice.send(data(tree))
    assert task["artifacts"][-1]["parts"] == [{"data": {"n": 7, "half": 0.5}}]
    assert task["history"][0]["parts"] == [{"data": tree}]


@pytest.mark.requirement("CORE-SEND-002")
@pytest.mark.parametrize("given", [data(ECHO), data(FAILING)], ids=["completed", "failed"])
def test_a_task_that_is_over_takes_no_message(alice: Agent, given: Json) -> None:
    task = alice.send(given)
    assert alice.error("SendMessage", {"message": text("more", taskId=task["id"])})["code"] == -32004


def test_a_task_that_asks_for_nothing_takes_no_message(alice: Agent) -> None:
    task = alice.start(data(SLOW))
    assert alice.error("SendMessage", {"message": text("more", taskId=task["id"])})["code"] == -32004
    alice.call("CancelTask", {"id": task["id"]})


@pytest.mark.requirement("CORE-SEND-003")
@pytest.mark.parametrize(
    "part",
    [
        {"raw": "AAAA", "mediaType": "image/png"},
        {"url": "https://example.com/file.json", "mediaType": "application/json"},
        {"data": ECHO, "mediaType": "application/xml"},
    ],
)
def test_a_part_that_no_skill_takes_is_refused(alice: Agent, part: Json) -> None:
    assert alice.error("SendMessage", {"message": message(part)})["code"] == -32005


@pytest.mark.both_engines
@pytest.mark.requirement("CORE-GET-001")
def test_a_task_can_be_read_again_with_its_artifacts_and_its_history(alice: Agent) -> None:
    task = alice.send(data(ECHO))
    assert alice.get(task["id"]) == task
    assert task.keys() >= {"id", "contextId", "status", "artifacts", "history", "metadata"}


@pytest.mark.requirement("CORE-GET-002", "CORE-CANCEL-003", "AUTH-SCOPE-003", "AUTH-SCOPE-001")
@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("GetTask", {}),
        ("CancelTask", {}),
        ("SubscribeToTask", {}),
        ("ListTaskPushNotificationConfigs", {}),
        ("CreateTaskPushNotificationConfig", {"url": "https://example.com/"}),
        ("GetTaskPushNotificationConfig", {"id": "any"}),
        ("DeleteTaskPushNotificationConfig", {"id": "any"}),
        ("SendMessage", {"message": text("more")}),
    ],
)
def test_the_task_of_another_is_as_one_that_is_not_there(alice: Agent, bob: Agent, method: str, params: Json) -> None:
    theirs = alice.start(data(SLOW))["id"]
    errors = []
    for task_id in (theirs, str(uuid.uuid4())):
        named = {"taskId": task_id} if "Push" in method else {"id": task_id}
        if method == "SendMessage":
            named = {"message": params["message"] | {"taskId": task_id}}
        error = bob.error(method, named | {key: value for key, value in params.items() if key != "message"})
        assert error["code"] == -32001
        errors.append(str(error).replace(task_id, "<id>"))
    assert errors[0] == errors[1]
    assert alice.state(theirs) in ("TASK_STATE_SUBMITTED", "TASK_STATE_WORKING")
    alice.call("CancelTask", {"id": theirs})


@pytest.mark.requirement("CORE-LIST-001", "AUTH-SCOPE-002")
def test_a_list_holds_the_callers_own_tasks_only(alice: Agent, bob: Agent, agent_server: Server) -> None:
    task = alice.send(data(ECHO))
    found = {"contextId": task["contextId"]}
    assert [each["id"] for each in alice.call("ListTasks", found)["tasks"]] == [task["id"]]
    assert bob.call("ListTasks", found) == {"tasks": [], "nextPageToken": "", "pageSize": 50, "totalSize": 0}
    admin = agent_of(agent_server.http, "root", "admin")
    assert admin.call("ListTasks", found)["totalSize"] == 1


@pytest.mark.both_engines
@pytest.mark.requirement("CORE-LIST-002", "CORE-LIST-003", "CORE-LIST-004")
def test_a_list_comes_in_pages_the_latest_change_first(alice: Agent, other_context: str) -> None:
    made = [alice.send(data(ECHO, contextId=other_context))["id"] for _ in range(3)]
    made += [alice.send(text("what?", contextId=other_context))["id"]]
    pages, token = [], ""
    while True:
        page = alice.call("ListTasks", {"contextId": other_context, "pageSize": 2, "pageToken": token})
        assert (page["pageSize"], page["totalSize"]) == (2, 4)
        pages.append(page["tasks"])
        token = page["nextPageToken"]
        if not token:
            break
    assert [len(page) for page in pages] == [2, 2]
    tasks = [task for page in pages for task in page]
    assert {task["id"] for task in tasks} == set(made)
    assert all(one["status"]["timestamp"] >= two["status"]["timestamp"] for one, two in pairwise(tasks))


@pytest.mark.requirement("CORE-LIST-005")
@pytest.mark.parametrize("wanted", [None, False, True])
def test_a_list_shows_artifacts_only_when_asked_to(alice: Agent, other_context: str, wanted: bool | None) -> None:
    alice.send(data(ECHO, contextId=other_context))
    params = {"contextId": other_context} | ({} if wanted is None else {"includeArtifacts": wanted})
    (task,) = alice.call("ListTasks", params)["tasks"]
    assert ("artifacts" in task) is bool(wanted)
    assert "history" not in task


@pytest.mark.both_engines
@pytest.mark.parametrize("state", sorted(ALL_STATES))
def test_a_list_can_be_of_one_state(alice: Agent, other_context: str, state: str) -> None:
    tasks = [alice.send(data(given, contextId=other_context)) for given in (ECHO, FAILING)]
    tasks.append(alice.send(text("what?", contextId=other_context)))
    found = alice.call("ListTasks", {"contextId": other_context, "status": state})["tasks"]
    assert [task["id"] for task in found] == [task["id"] for task in tasks if task["status"]["state"] == state]


def test_a_list_can_begin_at_a_time(alice: Agent, other_context: str) -> None:
    first, second = (alice.send(data(ECHO, contextId=other_context)) for _ in range(2))
    params = {"contextId": other_context, "statusTimestampAfter": second["status"]["timestamp"]}
    assert [task["id"] for task in alice.call("ListTasks", params)["tasks"]] == [second["id"]]
    params["statusTimestampAfter"] = first["status"]["timestamp"]
    assert alice.call("ListTasks", params)["totalSize"] == 2


@pytest.mark.requirement("CORE-ERR-001", "CORE-ERR-002")
@pytest.mark.parametrize(
    ("method", "params", "field"),
    [
        ("ListTasks", {"pageSize": 0}, "pageSize"),
        ("ListTasks", {"pageSize": 101}, "pageSize"),
        ("ListTasks", {"pageToken": "nonsense"}, "pageToken"),
        ("ListTasks", {"status": "TASK_STATE_ASLEEP"}, "status"),
        ("ListTasks", {"status": "completed"}, "status"),
        ("ListTasks", {"statusTimestampAfter": "yesterday"}, "statusTimestampAfter"),
        ("ListTasks", {"historyLength": -1}, "historyLength"),
        ("GetTask", {}, "id"),
        ("GetTask", {"id": ""}, "id"),
        ("GetTask", {"id": "x", "historyLength": -1}, "historyLength"),
        ("GetTask", [], "params"),
        ("SendMessage", {}, "message"),
        ("SendMessage", {"message": {"role": "ROLE_USER", "parts": [{"text": "x"}]}}, "message.messageId"),
        ("SendMessage", {"message": message()}, "message.parts"),
        ("SendMessage", {"message": message({})}, "message.parts[0]"),
        ("SendMessage", {"message": message({"text": "a", "data": 1})}, "message.parts[0]"),
        ("SendMessage", {"message": text("x", role="user")}, "message.role"),
        ("SendMessage", {"message": text("x", contextId="c" * 256)}, "message.contextId"),
        ("SendMessage", {"message": data({"skill": 7})}, "skill"),
        ("SendMessage", {"message": data({"task_id": 7})}, "task_id"),
        ("SendMessage", {"message": message({"raw": "%", "mediaType": "text/plain"})}, "message.parts[0].raw"),
    ],
)
def test_a_wrong_parameter_is_named(alice: Agent, method: str, params: Any, field: str) -> None:
    error = alice.error(method, params)
    assert error["code"] == -32602
    (detail,) = error["data"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert [violation["field"] for violation in detail["fieldViolations"]] == [field]


@pytest.mark.parametrize(
    ("value", "says", "field"),
    [
        ({"tasks": [{"name": "a", "dependencies": ["b"]}]}, "b", "tasks"),
        ({"tasks": [{"name": "a", "parent_id": "b"}]}, "b", "tasks"),
        ({"tasks": []}, "task", "tasks"),
        ({"tasks": [{"name": "a"}, {"name": "b"}]}, "root", "tasks"),
        (
            {"tasks": [{"name": "a", "dependencies": ["b"]}, {"name": "b", "parent_id": "a", "dependencies": ["a"]}]},
            "a -> b -> a",
            "tasks",
        ),
        ({"skill": "ecko_executor"}, "echo_executor", "skill"),
        ({"tasks": [{"name": "a", "schemas": {"method": "nothing_executor"}}]}, "nothing_executor", "tasks"),
    ],
)
def test_what_the_rules_of_trees_refuse_is_an_invalid_parameter(
    alice: Agent, value: Json, says: str, field: str
) -> None:
    error = alice.error("SendMessage", {"message": data(value)})
    assert error["code"] == -32602
    assert says in error["message"]
    assert [each["field"] for each in error["data"][0]["fieldViolations"]] == [field]


@pytest.mark.both_engines
@pytest.mark.requirement("CORE-CANCEL-001")
def test_a_task_that_works_is_cancelled_and_stays_so(alice: Agent) -> None:
    task = alice.start(data(SLOW))
    cancelled = alice.call("CancelTask", {"id": task["id"]})
    assert (cancelled["id"], cancelled["status"]["state"]) == (task["id"], "TASK_STATE_CANCELED")
    assert alice.state(task["id"]) == "TASK_STATE_CANCELED"


def test_a_task_that_waits_for_input_is_cancelled_too(alice: Agent) -> None:
    task = alice.asking()
    assert alice.call("CancelTask", {"id": task["id"]})["status"]["state"] == "TASK_STATE_CANCELED"
    assert alice.error("CancelTask", {"id": task["id"]})["code"] == -32002
    assert alice.error("SendMessage", {"message": data(ECHO, taskId=task["id"])})["code"] == -32004


@pytest.mark.requirement("CORE-CANCEL-002")
@pytest.mark.parametrize("given", [data(ECHO), data(FAILING)], ids=["completed", "failed"])
def test_a_task_that_is_over_cannot_be_cancelled(alice: Agent, given: Json) -> None:
    assert alice.error("CancelTask", {"id": alice.send(given)["id"]})["code"] == -32002


@pytest.mark.requirement("CORE-EXECUTION-MODE-001")
@pytest.mark.parametrize("configuration", [{}, {"returnImmediately": False}])
def test_the_answer_waits_for_the_end_or_a_question(alice: Agent, configuration: Json) -> None:
    assert alice.send(data(BRIEF), **configuration)["status"]["state"] in TERMINAL
    assert alice.send(text("what?"), **configuration)["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"


@pytest.mark.requirement("CORE-EXECUTION-MODE-002")
def test_the_answer_comes_at_once_when_asked_to(alice: Agent) -> None:
    task = alice.start(data(SLOW))
    assert task["status"]["state"] in ("TASK_STATE_SUBMITTED", "TASK_STATE_WORKING")
    alice.call("CancelTask", {"id": task["id"]})


@pytest.mark.requirement("CORE-MULTI-001", "CORE-MULTI-001a")
@pytest.mark.parametrize("given", [data(ECHO), text("what?")])
def test_a_message_without_a_context_gets_one(alice: Agent, given: Json) -> None:
    tasks = [alice.send(given) for _ in range(2)]
    assert tasks[0]["contextId"]
    assert tasks[0]["contextId"] != tasks[1]["contextId"]
    assert alice.get(tasks[0]["id"])["contextId"] == tasks[0]["contextId"]


@pytest.mark.requirement("CORE-MULTI-002", "CORE-MULTI-002a")
def test_the_clients_context_is_kept_or_the_message_refused(alice: Agent, other_context: str) -> None:
    tasks = [alice.send(given) for given in (data(ECHO, contextId=other_context), text("?", contextId=other_context))]
    assert {task["contextId"] for task in tasks} == {other_context}
    running = alice.start(data(SLOW))
    again = data({"task_id": running["metadata"]["rootTaskId"]}, contextId=other_context)
    assert alice.error("SendMessage", {"message": again})["code"] == -32004
    alice.call("CancelTask", {"id": running["id"]})


@pytest.mark.requirement("CORE-MULTI-003")
def test_the_server_makes_the_id_of_a_task(alice: Agent) -> None:
    given = data(ECHO)
    ids = {alice.send(given)["id"] for _ in range(2)}
    assert len(ids) == 2
    assert given["messageId"] not in ids


@pytest.mark.requirement("CORE-MULTI-004")
def test_a_message_about_an_unknown_task_makes_none(alice: Agent) -> None:
    unknown = str(uuid.uuid4())
    assert alice.error("SendMessage", {"message": data(ECHO, taskId=unknown)})["code"] == -32001
    assert alice.error("GetTask", {"id": unknown})["code"] == -32001


@pytest.mark.requirement("CORE-MULTI-005")
def test_the_task_says_the_context_of_a_follow_up(alice: Agent) -> None:
    asking = alice.asking()
    answered = alice.send(data(ECHO, taskId=asking["id"]))
    assert (answered["id"], answered["contextId"]) == (asking["id"], asking["contextId"])
    assert answered["status"]["state"] == "TASK_STATE_COMPLETED"


@pytest.mark.requirement("CORE-MULTI-006")
def test_a_task_in_another_context_is_refused(alice: Agent, other_context: str) -> None:
    given = data(ECHO, taskId=alice.asking()["id"], contextId=other_context)
    assert alice.error("SendMessage", {"message": given})["code"] == -32602


def test_a_follow_up_that_is_not_understood_is_asked_again(alice: Agent) -> None:
    asking = alice.asking()
    again = alice.send(text("still unclear", taskId=asking["id"]))
    assert (again["id"], again["status"]["state"]) == (asking["id"], "TASK_STATE_INPUT_REQUIRED")
    assert [each["role"] for each in again["history"]] == ["ROLE_USER", "ROLE_AGENT"] * 2


@pytest.mark.requirement("CORE-HIST-001", "CORE-HIST-003")
def test_a_history_of_nothing_is_left_out(alice: Agent) -> None:
    task = alice.send(data(ECHO), historyLength=0)
    assert "history" not in task
    assert "history" not in alice.get(task["id"], historyLength=0)


@pytest.mark.requirement("CORE-HIST-002", "CORE-HIST-004", "CORE-HIST-005", "CORE-HIST-006")
def test_the_history_is_what_was_said_in_its_order_and_the_newest_where_it_is_cut(alice: Agent) -> None:
    first, second = text("do something", metadata={"mine": 1}), data(ECHO)
    asking = alice.send(first)
    alice.send(second | {"taskId": asking["id"]})
    history = alice.get(asking["id"])["history"]
    assert [each["role"] for each in history] == ["ROLE_USER", "ROLE_AGENT", "ROLE_USER"]
    assert history[0] == first | {"taskId": asking["id"], "contextId": asking["contextId"]}
    assert history[1] == asking["status"]["message"]
    assert history[2] == second | {"taskId": asking["id"], "contextId": asking["contextId"]}
    for length in (1, 2, 3, 100):
        assert alice.get(asking["id"], historyLength=length)["history"] == history[-length:]


def test_a_message_with_an_idempotency_key_runs_once(alice: Agent) -> None:
    params = {"message": data(ECHO)}
    key = {"Idempotency-Key": str(uuid.uuid4())}
    first, second = (alice.call("SendMessage", params, **key)["task"] for _ in range(2))
    assert first == second
    assert len(first["history"]) == 1
    other = alice.error("SendMessage", {"message": data(ECHO)}, **key)
    assert other["code"] == -32602


def test_a_viewer_reads_and_starts_nothing(agent_server: Server) -> None:
    viewer = agent_of(agent_server.http, "vera", "viewer")
    assert viewer.call("ListTasks")["tasks"] == []
    response = viewer.post("SendMessage", {"message": data(ECHO)})
    assert (response.status_code, response.json()["error"]["code"]) == (403, -32032)
