"""docs/how-to/inbound-hooks.md: its commands set a hook, sign a delivery as GitHub does, and start the flow."""

import json

import pytest

from tests.documents import text
from tests.servers import Server
from tests.shell import Shell, new_shell

PAGE = "docs/how-to/inbound-hooks.md"


@pytest.fixture
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return new_shell(tmp_path_factory)


def test_the_commands_of_the_page_start_the_flow(shell: Shell, open_server: Server) -> None:
    typed = shell.run(text(PAGE, "Inbound hooks", "sh"), AIPARTNERUPFLOW_URL=open_server.url)
    assert '"outcome":"started"' in typed
    listed = json.loads(typed.splitlines()[-1])
    assert (listed["outcome"], listed["delivery_id"]) == ("started", "1")
    open_server.finished(listed["task_id"])
    assert open_server.rpc("tasks.get", {"task_id": listed["task_id"]})["result"] == {"text": "The page is blank"}
    again = open_server.rpc("hooks.replay", {"name": "github", "delivery": listed["delivery"]})
    assert again["outcome"] == "started"
    open_server.rpc("hooks.delete", {"name": "github"})
    open_server.rpc("flows.delete", {"name": "triage"})


def test_the_scheme_of_the_page_is_accepted(open_server: Server) -> None:
    open_server.rpc("secrets.set", {"name": "of_page", "value": "a long secret"}, path="/system")
    scheme = json.loads(text(PAGE, "What is verified", "json"))
    hook = {"name": "of-page", "verifier": "hmac", "secrets": ["of_page"], "hmac": scheme, "event": "e"}
    assert open_server.rpc("hooks.set", hook)["hmac"]["id_path"] == "/id"
    open_server.rpc("hooks.delete", {"name": "of-page"})


def test_the_commands_for_slack_work(shell: Shell, open_server: Server) -> None:
    script = text(PAGE, "Answer questions from Slack", "bash")
    shell.run(script, given="a-signing-secret-of-slack", AIPARTNERUPFLOW_URL=open_server.url)
    assert open_server.rpc("hooks.get", {"name": "slack"})["answers"] is True
    (stored,) = [
        each for each in open_server.rpc("notifications.list", {})["notifications"] if each["name"] == "approvals"
    ]
    assert (stored["format"], stored["about"]) == ("slack", ["questions"])
    open_server.rpc("hooks.delete", {"name": "slack"})
    open_server.rpc("notifications.delete", {"name": "approvals"})
