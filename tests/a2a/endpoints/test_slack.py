"""A question in Slack: its message has buttons, and the one that is pressed answers it."""

import json
import time
from collections.abc import Iterator
from itertools import count
from typing import Any, Final

import pytest

from tests.servers import Json, Server, new_database, running_server, until
from tests.shared_servers import PRIVATE_WEBHOOKS
from tests.slack_server import SlackServer, slack_server

pytestmark = pytest.mark.both_engines_nightly

SIGNING_SECRET: Final = "8f742231b10e8888abcd99yyyzzz85a5"
NUMBERS: Final = count()
FORM: Final = {"type": "object", "properties": {"reason": {"type": "string"}}}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    env = PRIVATE_WEBHOOKS | {"AIPARTNERUPFLOW_SERVER_PUBLIC_URL": "https://flow.example.com"}
    with new_database() as database, running_server(database, env=env) as server:
        server.rpc("secrets.set", {"name": "SLACK", "value": SIGNING_SECRET}, path="/system")
        yield server


@pytest.fixture
def slack(server: Server) -> Iterator[SlackServer]:
    with slack_server(SIGNING_SECRET) as slack:
        about = {"about": ["questions", "failures"], "format": "slack"}
        stored = server.rpc("notifications.set", {"name": "slack", "url": slack.url} | about)
        assert (stored["format"], "signing_key" in stored) == ("slack", False)
        yield slack
        server.rpc("notifications.delete", {"name": "slack"})
    assert slack.refused == []


@pytest.fixture
def address(server: Server) -> Iterator[str]:
    """Where Slack sends interactions: an inbound hook. The server has its public address only by name."""
    hook = {"name": "slack", "verifier": "slack", "secrets": ["SLACK"], "answers": True}
    url: str = server.rpc("hooks.set", hook)["url"]
    yield url.replace("https://flow.example.com", server.url)
    server.rpc("hooks.delete", {"name": "slack"})


def asked(server: Server, slack: SlackServer, **inputs: Any) -> tuple[str, Json]:
    """A task that asks, and its message."""
    task_id, before = f"asks-{next(NUMBERS)}", len(slack.messages)
    given = {"question": "Publish <b> & co?", "options": ["yes", "no"]} | inputs
    given = {name: value for name, value in given.items() if value is not None}
    server.rpc("tasks.execute", {"tasks": [{"id": task_id, "name": "approval_executor", "inputs": given}]})
    until(lambda: len(slack.messages) > before, seconds=60, what="the message")
    return task_id, slack.messages[-1]


def kinds(message: Json) -> list[str]:
    return [block["type"] for block in message["blocks"]]


@pytest.mark.both_engines
def test_a_button_answers_the_question_and_the_message_shows_it(
    server: Server, slack: SlackServer, address: str
) -> None:
    task_id, message = asked(server, slack)
    assert kinds(message) == ["section", "actions", "context"]
    assert "Publish &lt;b&gt; &amp; co?" in message["text"]
    assert "https://flow.example.com/ui/inbox/" in json.dumps(message)
    reply = slack.press(address, "yes")
    assert (reply.status_code, reply.content) == (200, b"")
    assert server.finished(task_id)[-1]["status"] == "completed"
    result = server.rpc("tasks.get", {"task_id": task_id})["result"]
    assert (result["answer"], result["comment"]) == ("yes", "In Slack, by ada (U0ADA)")
    (shown,) = slack.replies
    assert (shown["replace_original"], kinds(shown)) == (True, ["section"])
    assert "*yes* (<@U0ADA>)" in shown["text"]
    (delivery,) = server.rpc("hooks.deliveries", {"name": "slack", "with_body": True})["deliveries"]
    assert (delivery["outcome"], delivery["task_id"], delivery["reason"]) == ("answered", task_id, None)
    for secret in ("response_url", "trigger_id", "a-verification-token-of-old"):
        assert secret not in json.dumps(delivery)


def test_the_first_answer_counts_and_the_second_person_sees_why(
    server: Server, slack: SlackServer, address: str
) -> None:
    task_id, message = asked(server, slack)
    assert slack.press(address, "no").status_code == 200
    assert slack.press(address, "yes", message=message).status_code == 200
    server.finished(task_id)
    assert server.rpc("tasks.get", {"task_id": task_id})["result"]["answer"] == "no"
    assert slack.replies[-1]["response_type"] == "ephemeral"
    assert "not open" in slack.replies[-1]["text"]
    outcomes = [each["outcome"] for each in server.rpc("hooks.deliveries", {"name": "slack"})["deliveries"]]
    assert outcomes == ["failed", "answered"]


def test_a_message_that_cannot_be_replaced_is_noted(server: Server, slack: SlackServer, address: str) -> None:
    task_id, _ = asked(server, slack)
    slack.answers.append(500)
    slack.press(address, "yes")
    assert server.finished(task_id)[-1]["status"] == "completed"
    (delivery,) = server.rpc("hooks.deliveries", {"name": "slack"})["deliveries"]
    assert (delivery["outcome"], "Slack answered 500" in delivery["reason"]) == ("answered", True)


def test_an_old_press_and_a_forged_one_answer_nothing(server: Server, slack: SlackServer, address: str) -> None:
    task_id, message = asked(server, slack)
    action = message["blocks"][1]["elements"][0] | {"type": "button"}
    payload = {"type": "block_actions", "user": {"id": "U1"}, "actions": [action]}
    assert slack.send(address, payload, at=time.time() - 4_000).status_code == 403
    with slack_server("another-signing-secret-of-another-app") as other:
        assert other.send(address, payload).status_code == 403
    unknown = action | {"value": json.dumps({"question": "unknown", "option": 0})}
    foreign = action | {"action_id": "of_another_app"}
    for each in (unknown, foreign, action | {"value": "{"}, action | {"value": None}):
        assert slack.send(address, payload | {"actions": [each]}).status_code == 200
    assert slack.send(address, {"type": "view_submission"}).status_code == 200
    assert server.rpc("tasks.get", {"task_id": task_id})["status"] == "in_progress"
    rows = server.rpc("hooks.deliveries", {"name": "slack"})["deliveries"]
    assert {each["outcome"] for each in rows} == {"failed"}
    assert len(rows) == 5
    server.rpc("tasks.cancel", {"task_id": task_id})


def test_without_a_hook_or_options_there_are_no_buttons(server: Server, slack: SlackServer) -> None:
    first, message = asked(server, slack)
    assert kinds(message) == ["section", "context"]
    hook = {"name": "slack", "verifier": "slack", "secrets": ["SLACK"], "answers": True}
    server.rpc("hooks.set", hook)
    second, message = asked(server, slack, options=None, schema=FORM)
    assert kinds(message) == ["section", "context"]
    server.rpc("hooks.delete", {"name": "slack"})
    server.rpc("tasks.cancel", {"task_ids": [first, second]})


def test_long_texts_and_many_options_stay_within_the_limits_of_slack(
    server: Server, slack: SlackServer, address: str
) -> None:
    task_id, message = asked(server, slack, question="&" * 4_000, options=[f"{n}-{'o' * 100}" for n in range(20)])
    assert len(message["blocks"][1]["elements"]) == 20
    slack.press(address, message["blocks"][1]["elements"][3]["text"]["text"])
    server.finished(task_id)
    assert server.rpc("tasks.get", {"task_id": task_id})["result"]["answer"] == f"3-{'o' * 100}"


def test_a_run_that_failed_is_told_in_slack(server: Server, slack: SlackServer) -> None:
    bad = {"id": f"bad-{next(NUMBERS)}", "name": "rest_executor", "inputs": {"url": "http://127.0.0.1:1/"}}
    server.rpc("tasks.execute", {"tasks": [bad], "wait": True})
    until(lambda: slack.messages, seconds=60, what="the message")
    assert "has failed" in slack.messages[-1]["text"]
    assert "rest_executor" in slack.messages[-1]["text"]
    assert server.rpc("notifications.test", {"name": "slack"})["delivered"] is True
    assert slack.messages[-1]["text"].startswith("This is a test")


def test_what_slack_does_not_have_is_refused(server: Server) -> None:
    for given, field in (
        ({"email": "a@example.com"}, "format"),
        ({"url": "https://hooks.slack.com/x", "token": "t"}, "token"),
        ({"url": "https://hooks.slack.com/x", "format": "teams"}, "format"),
    ):
        error = server.call("notifications.set", {"name": "x", "format": "slack"} | given)["error"]
        assert field in [each["field"] for each in error["data"]], error
