"""Who may use `POST /ag-ui`, from where, and what others learn."""

from itertools import groupby
from typing import Any
from uuid import uuid4

import pytest

from tests.a2a.a2a_client import token_of
from tests.a2a.agui.front_end import FrontEnd, question, request_of, said, tree, types
from tests.servers import Server

Json = dict[str, Any]
pytestmark = pytest.mark.both_engines_nightly


def test_without_a_token_nothing_is_learnt(agui_server: Server) -> None:
    answers = {
        FrontEnd(http=agui_server.http, token=token).post(messages=[said("hello")], threadId=thread).content
        for token in (None, "wrong")
        for thread in ("a", "b")
    }
    assert len(answers) <= 2
    response = FrontEnd(http=agui_server.http).post(messages=[said("hello")])
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")


def test_a_viewer_may_not(agui_server: Server) -> None:
    viewer = FrontEnd(http=agui_server.http, token=token_of("vera", "viewer"))
    assert viewer.refused(said("hello"))["code"] == "role_too_low"


def test_a_thread_of_another_user_is_another_thread(alice: FrontEnd, bob: FrontEnd) -> None:
    """He gets what he would get if hers did not exist, also for the same runId."""
    taken = {"threadId": f"thread-{uuid4()}", "runId": f"run-{uuid4()}"}
    alice.run(said("hello"), **taken)
    free = {"threadId": f"thread-{uuid4()}", "runId": f"run-{uuid4()}"}
    message = said("hello")
    assert kinds(bob.run(message, **taken)) == kinds(bob.run(message, **free))


def kinds(events: list[Json]) -> list[str]:
    """The types in their order. A text may come in more or fewer pieces."""
    return [kind for kind, _ in groupby(types(events))]


def test_only_its_owner_answers_an_interrupt(alice: FrontEnd, bob: FrontEnd) -> None:
    thread = f"thread-{uuid4()}"
    (interrupt,) = alice.run(**tree(question()), threadId=thread)[-1]["outcome"]["interrupts"]
    for status in ("resolved", "cancelled"):
        theirs = {"interruptId": interrupt["id"], "status": status, "payload": "yes"}
        absent = theirs | {"interruptId": str(uuid4())}
        answers = {bob.post(threadId=thread, resume=[entry]).content for entry in (theirs, absent)}
        assert len(answers) == 1
        assert alice.refused(threadId="another", resume=[theirs])["data"][0]["field"] == "resume[0].interruptId"
    assert alice.run(threadId=thread, resume=[theirs | {"status": "resolved"}])[-1]["outcome"] == {"type": "success"}


def test_a_page_of_another_origin_is_refused(alice: FrontEnd) -> None:
    headers = alice.headers | {"Origin": "https://elsewhere.example"}
    response = alice.http.post("/ag-ui", json=request_of(messages=[said("hello")]), headers=headers)
    assert response.status_code == 403


def test_only_post_is_answered(alice: FrontEnd) -> None:
    response = alice.http.get("/ag-ui", headers=alice.headers)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_a_question_to_others_interrupts_nothing(alice: FrontEnd, bob: FrontEnd) -> None:
    ask = question(assignees=["bob"])
    with alice.stream(**tree(ask)) as stream:
        asked = next(each for each in stream if "waiting for an answer" in str(each))
        assert asked["type"] == "STATE_DELTA"
        bob.rpc("tasks.answer", {"task_id": ask["id"], "answer": "yes"})
        *_, end = stream
    assert (end["outcome"], end["result"]["by"]) == ({"type": "success"}, "bob")
