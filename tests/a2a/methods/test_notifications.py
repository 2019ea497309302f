"""Notifications: a message to a URL or by mail for each run that fails, and for no other run."""

import hmac
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aipartnerupflow.client import Client
from tests.documents import text
from tests.mail_server import MailServer, mail_server
from tests.receiver import Receiver, receiving
from tests.servers import Json, Server, new_database, running_server, until
from tests.shell import new_shell

pytestmark = pytest.mark.both_engines_nightly

PAGE = "docs/how-to/notifications.md"
GOOD: Json = {"id": "good", "name": "echo_executor", "inputs": {"text": "hi"}}
BAD: Json = {"id": "bad", "name": "rest_executor", "inputs": {"url": "http://127.0.0.1:1/"}}


@pytest.fixture(scope="module")
def mails() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture(scope="module")
def server(mails: MailServer) -> Iterator[Server]:
    given = {
        "WEBHOOKS_ALLOW_PRIVATE": "true",
        "WEBHOOKS_TIMEOUT_SECONDS": "120",
        "EMAIL_HOST": "127.0.0.1",
        "EMAIL_PORT": str(mails.port),
        "EMAIL_SECURITY": "none",
        "EMAIL_SENDER": "apflow@example.com",
        "EMAIL_ALLOW": "*@example.com",
        "LIMITS_NOTIFICATIONS": "3",
        "SERVER_PUBLIC_URL": "https://flow.example.com/",
    }
    env = {f"AIPARTNERUPFLOW_{name}": value for name, value in given.items()}
    with new_database() as url, running_server(url, env=env) as server:
        yield server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def none_left(server: Server) -> Iterator[None]:
    yield
    for each in server.rpc("notifications.list", {})["notifications"]:
        server.rpc("notifications.delete", {"name": each["name"]})


def run(server: Server, *tasks: Json) -> Json:
    reply: Json = server.rpc("tasks.execute", {"tasks": [*tasks], "wait": True})
    return reply


def signature_of(receiver: Receiver, key: str) -> bool:
    """Whether the first request is signed with the key."""
    sent = receiver.received[0]
    right = hmac.new(key.encode(), sent.headers["x-apflow-timestamp"].encode() + b"." + sent.body, "sha256")
    return sent.headers["x-apflow-signature"] == f"sha256={right.hexdigest()}"


def refusal_of(server: Server, **params: Any) -> Json:
    error: Json = server.call("notifications.set", params)["error"]
    return error


def test_only_a_run_that_fails_sends_a_message(server: Server, receiver: Receiver) -> None:
    kept = server.rpc("notifications.set", {"name": "on-call", "url": receiver.url})
    run(server, GOOD)
    failed = run(server, BAD)
    (message,) = receiver.until("run_failed")
    assert (message["task_id"], message["name"], message["number"], message["flow"]) == (
        failed["task_id"],
        "rest_executor",
        1,
        None,
    )
    assert [failure["name"] for failure in message["failures"]] == ["rest_executor"]
    assert message["url"] == f"https://flow.example.com/ui/runs/{message['run_id']}/"
    assert signature_of(receiver, kept["signing_key"])
    run(server, GOOD)
    again = server.rpc("tasks.execute", {"task_id": failed["task_id"], "wait": True})
    assert [(each["task_id"], each["number"]) for each in receiver.until_count(2)] == [
        (failed["task_id"], 1),
        (again["task_id"], 2),
    ]


@pytest.mark.both_engines
def test_scores_that_fall_send_one_message(server: Server, receiver: Receiver) -> None:
    server.rpc("flows.save", {"name": "watched", "tasks": [GOOD]})
    kept = server.rpc("notifications.set", {"name": "watched", "flow": "watched", "url": receiver.url})
    length = {"name": "length", "evaluator": {"expression": "length(result.text)"}, "sample": 100}
    server.rpc("judges.set", {"flow": "watched", "below": 3, "runs": 1, **length})

    def judged(runs: int) -> None:
        server.rpc("flows.run", {"name": "watched", "wait": True})
        found = lambda: server.rpc("judges.list", {"flow": "watched"})["judges"][0]["judged"] == runs  # noqa: E731
        until(found, seconds=300, what=f"{runs} scores")

    judged(1)
    (message,) = receiver.until("scores_fell")
    assert [message[name] for name in ("flow", "judge", "mean", "below", "runs")] == ["watched", "length", 2, 3, 1]
    assert message["url"] == "https://flow.example.com/ui/flows/watched/"
    assert signature_of(receiver, kept["signing_key"])
    judged(2)
    run(server, BAD)
    server.rpc("flows.delete", {"name": "watched"})
    assert len(receiver.received) == 1


def test_only_runs_of_the_flow_send_a_message(server: Server, receiver: Receiver) -> None:
    server.rpc("flows.save", {"name": "fragile", "tasks": [BAD]})
    server.rpc("notifications.set", {"name": "fragile", "flow": "fragile", "url": receiver.url, "token": "ours"})
    run(server, BAD)
    ran = server.rpc("flows.run", {"name": "fragile", "wait": True})
    (message,) = receiver.until("run_failed")
    assert (message["task_id"], message["flow"], message["flow_version"]) == (ran["task_id"], "fragile", 1)
    assert signature_of(receiver, "ours")
    server.rpc("flows.delete", {"name": "fragile"})
    assert server.rpc("notifications.list", {})["notifications"] == []


def asking(assignee: str | None = None, **given: Any) -> Json:
    """A tree whose first task asks a question, and whose second task fails after the answer."""
    inputs = {"question": "Publish?", "options": ["yes", "no"], **given} | (
        {"assignees": [assignee]} if assignee else {}
    )
    tasks = [
        {"id": "ask", "name": "approval_executor", "inputs": inputs, "parent_id": "all"},
        BAD | {"parent_id": "all", "dependencies": ["ask"]},
        {"id": "all", "name": "Publish the page"},
    ]
    return {"tasks": tasks}


def test_a_question_sends_a_message_while_it_is_open(server: Server, receiver: Receiver, mails: MailServer) -> None:
    mails.received.clear()
    kept = server.rpc("notifications.set", {"name": "ask", "about": ["questions"], "url": receiver.url})
    server.rpc("notifications.set", {"name": "mail", "about": ["questions", "failures"], "email": "ops@example.com"})
    assert kept["about"] == ["questions"]
    ran = server.rpc("tasks.execute", asking(remind_after_seconds=[0.2]))
    asked, reminder = sorted(receiver.until_count(2), key=lambda message: bool(message["is_reminder"]))
    assert (asked["type"], asked["name"], asked["is_reminder"]) == ("question_asked", "Publish the page", False)
    assert (asked["root_task_id"], asked["number"]) == (ran["task_id"], 1)
    assert (asked["question"]["text"], asked["question"]["options"]) == ("Publish?", ["yes", "no"])
    assert (reminder["is_reminder"], reminder["question"]) == (True, asked["question"])
    assert asked["url"] == "https://flow.example.com/ui/inbox/"
    assert signature_of(receiver, kept["signing_key"])
    mails.until_count(2)
    server.rpc("tasks.answer", {"task_id": asked["task_id"], "answer": "yes"})
    assert sorted(mail["Subject"] for mail in mails.until_count(3)) == [
        "Failed: Publish the page",
        "Question: Publish the page: Publish?",
        "Reminder: Publish the page: Publish?",
    ]
    assert [each["type"] for each in receiver.events()] == ["question_asked"] * 2
    shown = server.rpc("webhooks.list", {"run_id": asked["run_id"]})["webhooks"]
    assert sorted(each["kind"] for each in shown) == ["failure_email", *["question"] * 2, *["question_email"] * 2]


def test_a_receiver_that_fails_gets_it_later(server: Server, receiver: Receiver) -> None:
    receiver.answer(503)
    server.rpc("notifications.set", {"name": "later", "url": receiver.url})
    run(server, BAD)
    first, second = receiver.until_count(2)
    assert first == second


def test_a_mail_says_what_failed_and_where_to_look(server: Server, mails: MailServer) -> None:
    mails.received.clear()
    mails.answers = ["451 Try again"]
    kept = server.rpc("notifications.set", {"name": "mail", "email": "ops@example.com"})
    assert (kept["email"], kept["url"], "signing_key" in kept) == ("ops@example.com", None, False)
    tree = [{"id": "root", "name": "Nightly\r\nBcc: all@example.com"}, BAD | {"parent_id": "root"}]
    run(server, *tree)
    (mail,) = mails.until_count(1)
    assert (mail["To"], mail["From"], mail["Bcc"]) == ("ops@example.com", "apflow@example.com", None)
    assert mail["Subject"] == "Failed: Nightly Bcc: all@example.com"
    said = mail.get_content()
    assert "- rest_executor: " in said
    assert "https://flow.example.com/ui/runs/" in said


def test_a_mail_that_is_refused_for_good_is_not_sent_again(server: Server, mails: MailServer) -> None:
    mails.answers = ["550 No"]
    before = mails.tries
    server.rpc("notifications.set", {"name": "mail", "email": "gone@example.com"})
    run(server, BAD)

    def failures() -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = server.query(
            "SELECT status, error FROM tasks_webhookdelivery WHERE status = %s", "failed"
        )
        return found

    until(lambda: failures() == [("failed", "The mail server answered 550.")], seconds=60, what="the refusal")
    assert mails.tries == before + 1


def test_every_interface_sets_lists_and_deletes_them(server: Server) -> None:
    url = "https://hooks.example.com/apflow"
    with Client(server.url) as client:
        made = client.set_notification("one", url=url, headers={"X-Team": "ops"})
        assert made["signing_key"].startswith("whsec_")
        body = {"url": url, "token": "another"}
        replaced = server.http.put("/api/notifications/one/", json=body).json()
        assert (replaced["created_at"], "signing_key" in replaced) == (made["created_at"], False)
        (listed,) = client.notifications()["notifications"]
        assert listed == replaced
        assert server.http.get("/api/notifications/").json() == {"notifications": [listed]}
        assert client.delete_notification("one")["deleted"] is True
        assert server.http.delete("/api/notifications/one/").json() == {"name": "one", "deleted": False}


def test_a_test_message_says_at_once_whether_it_arrived(server: Server, receiver: Receiver, mails: MailServer) -> None:
    kept = server.rpc("notifications.set", {"name": "try", "url": receiver.url})
    receiver.answer(503)
    outcomes = [server.rpc("notifications.test", {"name": "try"}) for _ in range(2)]
    assert [(each["delivered"], each["status_code"], each["error"]) for each in outcomes] == [
        (False, 503, "The receiver answered 503."),
        (True, 200, None),
    ]
    first, _ = receiver.until_count(2)
    assert (first["type"], first["name"], first["url"]) == ("test", "try", "https://flow.example.com/ui/settings/")
    assert signature_of(receiver, kept["signing_key"])
    mails.received.clear()
    mails.answers = ["550 No"]
    server.rpc("notifications.set", {"name": "mail", "email": "ops@example.com"})
    with Client(server.url) as client:
        refused = client.test_notification("mail")
    assert (refused["delivered"], refused["error"]) == (False, "The mail server answered 550.")
    sent = server.http.post("/api/notifications/mail/test/").json()
    assert (sent["delivered"], sent["status_code"]) == (True, None)
    (mail,) = mails.until_count(1)
    assert (mail["To"], mail["Subject"]) == ("ops@example.com", "Test: mail")
    missing = server.http.post("/api/notifications/none/test/")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "notification_not_found")


def test_one_user_sends_one_test_message_at_a_time(server: Server, receiver: Receiver) -> None:
    server.rpc("notifications.set", {"name": "slow", "url": receiver.url})
    receiver.is_held = True
    with ThreadPoolExecutor() as threads, Client(server.url) as client:
        first = threads.submit(client.test_notification, "slow")
        receiver.until_count(1)
        error = server.call("notifications.test", {"name": "slow"})["error"]
        receiver.is_held = False
        receiver.free.set()  # it gets no answer
        assert (error["code"], "is being sent" in error["message"]) == (-32029, True)
        assert first.result()["delivered"] is False
    assert server.rpc("notifications.test", {"name": "slow"})["delivered"] is True


@pytest.mark.parametrize(
    ("given", "field", "reason"),
    [
        ({}, "url", "required, or email"),
        ({"url": "https://a.example", "email": "ops@example.com"}, "email", "choose one of url and email"),
        ({"url": "ftp://a.example"}, "url", "http"),
        ({"email": "ops"}, "email", "must be an e-mail address"),
        ({"email": "ops@elsewhere.org"}, "email", "the operator allows (email.allow)"),
        ({"email": "ops@example.com\r\nBcc: x@example.com"}, "email", "must be an e-mail address"),
        ({"email": "ops@example.com", "token": "x"}, "token", "only requests are signed"),
        (
            {"url": "https://a.example", "headers": {"X-Apflow-Signature": "x"}},
            "headers.X-Apflow-Signature",
            "by the server",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_name(server: Server, given: Json, field: str, reason: str) -> None:
    problem = refusal_of(server, name="wrong", **given)["data"][0]
    assert (problem["field"], reason in problem["reason"]) == (field, True), problem


def test_an_unknown_flow_and_too_many_are_refused(server: Server) -> None:
    url = "https://hooks.example.com/apflow"
    assert "no-such" in refusal_of(server, name="a", url=url, flow="no-such")["message"]
    for number in range(3):
        server.rpc("notifications.set", {"name": f"number {number}", "url": url})
    server.rpc("notifications.set", {"name": "number 0", "url": url})
    assert "limits.notifications" in refusal_of(server, name="number 3", url=url)["message"]


def test_without_a_mail_server_no_address_is_taken(open_server: Server) -> None:
    problem = refusal_of(open_server, name="a", email="ops@example.com")["data"][0]
    assert "the operator has set no mail server" in problem["reason"]


def test_what_the_page_shows_works(server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    shell = new_shell(tmp_path_factory)
    request = json.loads(text(PAGE, "Send a message when a run fails or asks", "json"))
    assert server.rpc(request["method"], request["params"])["name"] == "on-call"
    shown = shell.run(
        text(PAGE, "Send a message when a run fails or asks", "sh"), AIPARTNERUPFLOW_URL=server.url
    ).splitlines()
    stored, inbox, *listed, deleted = map(json.loads, shown)
    assert (inbox["about"], [each["name"] for each in listed], deleted["deleted"]) == (
        ["questions"],
        ["inbox", "on-call"],
        True,
    )
    assert stored["signing_key"].startswith("whsec_")
