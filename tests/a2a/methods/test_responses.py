"""Answering what tasks ask, at every door: JSON-RPC in both dialects, REST, the link."""

import re
import time
from typing import Any

import jwt
import pytest

from tests.servers import Server, new_database, running_server, until

pytestmark = pytest.mark.both_engines_nightly
Json = dict[str, Any]
PUBLIC = {"AIPARTNERUPFLOW_SERVER_PUBLIC_URL": "https://tasks.example.com/"}


@pytest.fixture(scope="module")
def server(open_server: Server) -> Server:
    return open_server


def ask(server: Server, **inputs: Any) -> str:
    """The id of a task that waits for an answer."""
    inputs = {"question": "Publish it?", "options": ["yes", "no"]} | inputs
    inputs = {name: value for name, value in inputs.items() if value is not None}
    task = {"name": "Ask", "schemas": {"method": "approval_executor"}, "inputs": inputs}
    task_id: str = server.rpc("tasks.execute", {"tasks": [task]})["task_id"]
    until(lambda: question_of(server, task_id), seconds=60, what="the question")
    return task_id


def question_of(server: Server, task_id: str) -> Json | None:
    question: Json | None = server.rpc("tasks.detail", {"task_id": task_id})["question"]
    return question


def link_to(server: Server, task_id: str) -> str:
    question = question_of(server, task_id)
    assert question is not None
    link: str = question["answer_url"]
    return link.removeprefix(server.url)


def result_of(server: Server, task_id: str) -> Any:
    assert server.finished(task_id)[-1]["status"] == "completed"
    return server.rpc("tasks.get", {"task_id": task_id})["result"]


def test_the_details_of_a_task_show_what_it_asks(server: Server) -> None:
    task_id = ask(server, timeout_seconds=3600)
    question = question_of(server, task_id)
    assert question is not None
    assert (question["text"], question["options"]) == ("Publish it?", ["yes", "no"])
    assert question["expires_at"] > question["asked_at"]
    assert question["answer_url"].startswith(f"{server.url}/answer/")
    server.rpc("tasks.answer", {"task_id": task_id, "answer": "yes"})
    assert question_of(server, task_id) is None


def test_an_answer_by_json_rpc(server: Server) -> None:
    task_id = ask(server)
    answered = server.rpc("tasks.answer", {"task_id": task_id, "answer": "yes", "comment": "Well written"})
    question_id = answered.pop("question_id")
    assert question_id
    assert answered == {
        "success": True,
        "task_id": task_id,
        "question": "Publish it?",
        "answer": "yes",
        "by": "local",
        "comment": "Well written",
    }
    assert result_of(server, task_id) == {"answer": "yes", "by": "local", "comment": "Well written"}


def test_an_answer_in_the_shapes_of_a2a(server: Server) -> None:
    task_id = ask(server)
    task = server.rpc("tasks.answer", {"id": task_id, "answer": "no"}, path="/")
    assert (task["kind"], task["metadata"]["answer"]["answer"]) == ("task", "no")
    assert result_of(server, task_id)["answer"] == "no"


def test_an_answer_by_rest(server: Server) -> None:
    task_id = ask(server, options=None)
    response = server.http.post(f"/api/tasks/{task_id}/answer", json={"answer": {"price": 3}})
    assert (response.status_code, response.json()["answer"]) == (200, {"price": 3})
    assert result_of(server, task_id)["answer"] == {"price": 3}
    again = server.http.post(f"/api/tasks/{task_id}/answer", json={"answer": 1})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "status_conflict")


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ({"answer": "perhaps"}, -32602, "answer: must be one of the options 'yes', 'no'"),
        ({"answer": None}, -32602, "answer: required"),
        ({"answer": "yes", "comment": ""}, -32602, "comment: expected string of length >= 1"),
        ({"answer": "yes", "by": "somebody else"}, -32602, "by: unknown parameter"),
        ({"answer": "yes", "task_id": "nowhere"}, -32001, "Task 'nowhere' not found"),
    ],
)
def test_a_wrong_answer_is_refused(server: Server, given: Json, code: int, message: str) -> None:
    task_id = ask(server)
    error = server.call("tasks.answer", {"task_id": task_id} | given)["error"]
    assert error["code"] == code
    assert message in error["message"]
    assert question_of(server, task_id) is not None


def test_a_task_that_asks_nothing_takes_no_answer(server: Server) -> None:
    created = server.rpc("tasks.create", {"tasks": [{"name": "echo_executor"}]})
    error = server.call("tasks.answer", {"task_id": created["id"], "answer": "yes"})["error"]
    assert (error["code"], error["data"]) == (-32006, {"task_id": created["id"], "status": "pending"})


def test_a_link_shows_the_question_and_takes_one_answer(server: Server) -> None:
    task_id = ask(server)
    link = link_to(server, task_id)
    for method in ("GET", "HEAD", "GET"):  # as mail programs do
        page = server.http.request(method, link)
        assert page.status_code == 200
    assert "Publish it?" in page.text
    assert re.findall(r'name="answer" value="(\w+)"', page.text) == ["yes", "no"]
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "no-store" in page.headers["cache-control"]
    done = server.http.post(link, data={"answer": "yes", "comment": "From my phone"})
    assert (done.status_code, "Thank you" in done.text) == (200, True)
    assert result_of(server, task_id) == {"answer": "yes", "by": "local (by link)", "comment": "From my phone"}
    for response in (server.http.get(link), server.http.post(link, data={"answer": "no"})):
        assert (response.status_code, "This question is closed" in response.text) == (410, True)


def test_a_link_takes_any_text_where_nothing_is_offered(server: Server) -> None:
    task_id = ask(server, options=None, question="What <b>now</b>?")
    link = link_to(server, task_id)
    page = server.http.get(link).text
    assert "What &lt;b&gt;now&lt;/b&gt;?" in page
    assert "<textarea" in page
    server.http.post(link, data={"answer": " Wait. "})
    assert result_of(server, task_id)["answer"] == "Wait."


@pytest.mark.parametrize("answer", ["", "perhaps", "yes\0", "x" * 10_001])
def test_a_link_refuses_what_is_no_answer(server: Server, answer: str) -> None:
    task_id = ask(server)
    response = server.http.post(link_to(server, task_id), data={"answer": answer})
    assert response.status_code == 400
    assert 'role="alert"' in response.text
    assert question_of(server, task_id) is not None


@pytest.mark.parametrize("change", [lambda token: token[:-1], lambda token: "x" + token, lambda token: "nonsense"])
def test_a_link_that_was_changed_answers_nothing(server: Server, change: Any) -> None:
    task_id = ask(server)
    place, _, token = link_to(server, task_id).rpartition("/")
    response = server.http.post(f"{place}/{change(token)}", data={"answer": "yes"})
    assert (response.status_code, "This link is not valid" in response.text) == (410, True)
    assert question_of(server, task_id) is not None


def test_a_cancelled_question_is_not_open_any_more(server: Server) -> None:
    task_id = ask(server)
    link = link_to(server, task_id)
    (answer,) = server.rpc("tasks.cancel", {"task_id": task_id})
    assert (answer["status"], answer["current_status"]) == ("cancelled", "cancelled")
    assert server.http.post(link, data={"answer": "yes"}).status_code == 410


def test_a_question_outlives_the_server_and_its_answer_goes_on_without_delay() -> None:
    with new_database() as database, running_server(database, env=PUBLIC) as server:
        asked, expiring = ask(server), ask(server, timeout_seconds=25)
        link = link_to(server, asked)
        assert link.startswith("https://tasks.example.com/answer/")
        data_dir = server.data_dir
        server.kill(*(process.pid for process in server.processes()))
        with running_server(database, env=PUBLIC, data_dir=data_dir) as again:
            assert question_of(again, asked) is not None
            done = again.http.post(link.removeprefix("https://tasks.example.com"), data={"answer": "yes"})
            assert done.status_code == 200
            assert again.finished(asked)[-1]["type"] == "stream_end"
            assert again.rpc("tasks.get", {"task_id": asked})["result"]["answer"] == "yes"
            late = again.finished(expiring)
            assert late[-1]["status"] == "failed"
            assert "Not answered in time" in again.rpc("tasks.get", {"task_id": expiring})["error"]


def test_only_the_owner_answers_where_there_are_several(server: Server) -> None:
    secret = "a text that is long enough for a secret, and no example"
    with (
        new_database() as database,
        running_server(database, env={"AIPARTNERUPFLOW_JWT_SECRET": secret}) as guarded,
    ):
        alice, bob, viewer = (token(secret, name, *roles) for name, *roles in (["alice"], ["bob"], ["eve", "viewer"]))
        task = {
            "id": "the-budget",
            "name": "Ask",
            "schemas": {"method": "approval_executor"},
            "inputs": {"question": "So?"},
        }
        guarded.rpc("tasks.execute", {"tasks": [task]}, **alice)
        until(
            lambda: guarded.rpc("tasks.detail", {"task_id": "the-budget"}, **alice)["question"],
            seconds=60,
            what="the question",
        )
        foreign = guarded.call("tasks.answer", {"task_id": "the-budget", "answer": "yes"}, **bob)
        missing = guarded.call("tasks.answer", {"task_id": "nowhere", "answer": "yes"}, **bob)
        assert str(foreign).replace("the-budget", "nowhere") == str(missing)
        assert (
            guarded.call("tasks.answer", {"task_id": "the-budget", "answer": "yes"}, **viewer)["error"]["code"]
            == -32004
        )
        assert guarded.rpc("tasks.answer", {"task_id": "the-budget", "answer": "yes"}, **alice)["by"] == "alice"


def token(secret: str, user_id: str, *roles: str) -> dict[str, str]:
    """The header of somebody whose token was minted elsewhere."""

    claims = {"sub": user_id, "exp": int(time.time()) + 600} | ({"roles": [*roles]} if roles else {})
    return {"Authorization": f"Bearer {jwt.encode(claims, secret, algorithm='HS256')}"}
